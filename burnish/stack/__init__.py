"""The stack on one machine: its parts as data, the supervisor that runs them, and what starts, asks and stops it."""
