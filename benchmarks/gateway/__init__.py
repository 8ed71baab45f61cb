"""What the gateway costs: beside the engine's doors, at constant rates, beside a noisy neighbour, and killed."""
