"""Passes over texts: hidden states, gradients and their statistics.

Called by fitting.
"""
