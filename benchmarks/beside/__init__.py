"""Scalpel beside other ways to change what a model does, by cost, effect and damage.

`main.py` makes each row in a process of its own, measures all of them and writes the table.
"""
