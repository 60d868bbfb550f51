"""What happens before a route runs: who asks, with what body, for which page.

Called by the application and by routes.
"""
