"""Where a model's matrices are, and deltas as files.

Used by everything that reads or writes tensors; no torch.
"""
