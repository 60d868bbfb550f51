"""Splits of a behaviour's texts and prompts, without duplicates across them.

Called before anything is fitted or measured.
"""
