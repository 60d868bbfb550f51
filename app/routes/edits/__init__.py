"""Routes of edits: create, read, events, outcome, estimate.

Included by `app.routes`.
"""
