"""HTTP front end, keeper and command line; torch is never imported here."""
