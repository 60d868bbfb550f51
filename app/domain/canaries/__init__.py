"""Canaries: ask a server the recorded prompts of an export, and say what it serves.

Called by the routes and by the command line; no torch, and no model.
"""
