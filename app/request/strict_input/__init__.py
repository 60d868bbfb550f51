"""Bodies and queries, read strictly: every wrong field is named.

Called by routes, as FastAPI dependencies.
"""
