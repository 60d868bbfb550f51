"""The editor as a process: claim, heartbeat, signals, ends.

Called by `workers.editor.job` and its `__main__`.
"""
