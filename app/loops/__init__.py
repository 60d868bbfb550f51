"""The API's background loops: the keeper and the courier.

Started with the application.
"""
