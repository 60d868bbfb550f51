# Generated from `_async` by `make client`: do not change it here.
"""The client with `async`; `_sync` is made of it, line by line."""
