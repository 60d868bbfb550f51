"""Attacks on a running system; each hole that was closed stays closed."""
