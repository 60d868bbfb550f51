"""Edits on a model in memory: in its weights, or beside them on the side path.

Called by all of `workers` that reads, compares or generates with an edit.
"""
