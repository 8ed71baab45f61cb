"""The data plane: the engine, its doors, its runtimes, the gateway's configuration."""
