"""Generated text and what its scorers say of it.

Called by every measurement of text.
"""
