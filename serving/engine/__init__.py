"""The engine: catalog, traffic, residency, batching, inference, capture."""
