"""Stores: where model versions and artifacts are kept, behind two protocols."""
