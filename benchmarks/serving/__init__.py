"""``make bench-serving``: the engine beside other Python model servers and beside the limit."""
