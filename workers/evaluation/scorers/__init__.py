"""Scorers of generated text: how undesired it is, in [0, 1], and from what score on it counts.

A built-in scorer is a file here, found as an entry point of `scalpel.scorers`; `prepare.py` trains,
turns and checks those of a behaviour. The API loads the scorers too: none imports torch or
scikit-learn before it is made.
"""
