"""The doors of the engine: OIP v2 REST and the BentoML service that hosts it."""
