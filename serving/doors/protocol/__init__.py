"""The protocol buffers of the gRPC door; the Python files are written by ``make protocol``."""
