"""Writes what of the client follows from `openapi.json`, and its blocking half: `make client`."""
