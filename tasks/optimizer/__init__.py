"""The optimizer: passes, recipes, search, isolation, the Pareto front and the report."""
