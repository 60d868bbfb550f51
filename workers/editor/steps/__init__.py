"""What an edit goes through besides its maths: whose texts, who reads, what harm, which receipt.

Called by `workers.editor.jobs.edits`.
"""
