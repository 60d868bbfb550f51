"""Scorers that the operator brings: servers and language models.

Called by `workers.evaluation.scorers`.
"""
