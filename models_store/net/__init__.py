"""Which addresses may be connected to, and lines read over HTTP.

Called by whoever sends requests to addresses that tenants name.
"""
