"""Training engine: loops, hooks, optimizer wrappers, metrics, and safe file reading."""
