"""Burnish: the fastest version of your PyTorch model that is provably still right, in production."""
