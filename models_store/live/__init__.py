"""What Redis holds: leases, heartbeats, progress, and the queue.

All of it may vanish; called by the API, its loops and the workers.
"""
