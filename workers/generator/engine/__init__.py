"""The built-in engine: one thread that decodes for all requests.

Called by the generator's server.
"""
