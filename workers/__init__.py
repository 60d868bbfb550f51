"""The processes that load weights: the editor and the generator, and what they share."""

import os

# NumPy and SciPy have little to compute, and their threads wait by spinning: on two busy cores a
# text classifier takes five times as long to fit with two threads as with one. Read when they are
# imported; torch has threads of its own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
