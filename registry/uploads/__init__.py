"""What may come in: the checks of uploaded bytes before they become an artifact."""
