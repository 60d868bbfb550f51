"""Routes of keys and of signing in.

Included by `app.routes`.
"""
