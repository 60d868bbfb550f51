"""Generation with resident base models: each row of a batch with its own edits and strengths."""

import os

# A thread of torch that waits for work spins for a moment, and then leaves its core to others:
# without it two threads are slower than one, and without an end they slow down the editor. OpenMP
# reads it when torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
