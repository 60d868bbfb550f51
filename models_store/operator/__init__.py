"""What the operator configures in TOML files: policy, scorers, suites.

Read by the API and the editors at their start.
"""
