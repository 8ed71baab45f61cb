"""The control API with ten thousand models: how long a list, a search and a promotion take."""
