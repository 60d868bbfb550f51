"""The events of an edit, from its records and from Redis.

Called by routes, the courier and the keeper.
"""
