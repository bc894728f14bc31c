"""The jobs of a fit: training the members, resuming them from a checkpoint, and the out-of-bag estimate."""
