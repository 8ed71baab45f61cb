"""Plug-ins for Burnish; nothing is imported before it is asked for."""
