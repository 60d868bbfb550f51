"""The `scalpel` command line: `work` talks to a service, `operator` runs one.

Nothing else imports it.
"""
