"""Controls and baselines that an edit is compared with.

Called by the evaluation.
"""
