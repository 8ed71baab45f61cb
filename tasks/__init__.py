"""Steps: one thin Prefect task module each; the pure work stands in the folders below."""
