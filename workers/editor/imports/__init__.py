"""Edits that were made elsewhere, a file for each kind: what they change, as terms, and how their
own library runs them.
"""
