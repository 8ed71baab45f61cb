"""The statistical points: what the gate lets through, what it refuses, and what the benchmark calls different."""
