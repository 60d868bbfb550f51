"""Logging, and ending with the parent process.

Called where processes start.
"""
