"""What Redis holds: leases, heartbeats, progress, and the queue.

All of it may be lost at any time. Called by the API, its loops and the workers.
"""
