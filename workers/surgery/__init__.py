"""The mathematics of an edit, on tensors alone: no files, no queue, no HTTP."""
