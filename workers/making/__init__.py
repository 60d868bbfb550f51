"""Fit, search, scale: from texts to the edit that is to be evaluated.

The library door of the workers: called by the editor and by benchmarks.
"""
