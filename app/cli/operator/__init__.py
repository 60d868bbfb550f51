"""Commands of whoever runs Scalpel: its processes, its store, its keys, this machine."""
