"""The release ledger: the one truth of what serves."""
