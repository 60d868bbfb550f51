"""Decoding with continuous batching.

Called by the generator and by evaluation.
"""
