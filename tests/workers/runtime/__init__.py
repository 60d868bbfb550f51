"""Tests of loading, applying and decoding."""
