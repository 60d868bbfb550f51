"""Makes edits, exports and registrations: one forked process per piece of work."""
