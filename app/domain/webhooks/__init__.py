"""Webhooks, their deliveries, and requests to the addresses they name.

Called by the routes of webhooks and by the courier.
"""
