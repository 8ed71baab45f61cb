"""Prefect flows, the control API, and the wiring of stores and processes."""
