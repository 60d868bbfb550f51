"""Behaviours by name, and drafts of them from one sentence.

Called by submission and by the routes of behaviours.
"""
