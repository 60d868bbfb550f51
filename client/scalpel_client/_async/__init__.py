"""The client with `async`; `_sync` is made of it, line by line."""
