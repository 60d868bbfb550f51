"""What an edit changes that it should not.

Called by the search and by the evaluation.
"""
