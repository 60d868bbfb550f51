"""What happens before a route runs: the caller, the body, the page.

Called by the application and by routes.
"""
