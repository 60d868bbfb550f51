"""Formats of exports, a file each: the files of a variant, and how they are loaded back as proof.

Found as entry points of `scalpel.exports`.
"""
