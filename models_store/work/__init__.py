"""Work in the store: edits, exports and registrations, from request to result.

Called by the API, its loops and the editors.
"""
