"""The `scalpel` command line, a file a command.

Nothing else imports it.
"""
