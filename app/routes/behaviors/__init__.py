"""Routes of behaviours: upload, list, draft.

Included by `app.routes`.
"""
