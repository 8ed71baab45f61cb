"""Gates: rules, paired tests, decisions."""
