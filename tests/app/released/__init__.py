"""Stores as released versions wrote them, which every later version reads.

`python -m tests.app.released.write` adds that of the present version.
"""
