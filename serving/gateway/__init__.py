"""Envoy in front of the workers: configuration from records, validated, swapped by rename."""
