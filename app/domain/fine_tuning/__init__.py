"""Fine-tuning in OpenAI's words: uploaded files, and jobs, which are edits seen another way.

Called by `app.routes.fine_tuning`.
"""
