"""What the API does between requests: the keeper and the courier.

Started with the application.
"""
