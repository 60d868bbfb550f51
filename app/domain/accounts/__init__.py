"""API keys, sign-ins, and what a tenant may use.

Called before a route runs, and by the routes of keys.
"""
