"""How well scorers find what a reader finds, on generations that were read and labelled one by one.

`README.md` says how. A preset has a file of labels, `figures.py` the counting, `__main__.py` the
table in docs/measuring.md.
"""
