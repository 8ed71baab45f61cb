"""Watching: data quality, drift, service levels."""
