"""Retraining: a user's training function, called in a process of its own."""
