"""Where a model's matrices lie, and deltas as files.

Used by everything that reads or writes tensors; no torch.
"""
