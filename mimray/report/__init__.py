"""Floor 4: figures from a run's folder."""
