"""What may be connected to, and how lines come over HTTP.

Called by whoever sends requests to addresses that others name.
"""
