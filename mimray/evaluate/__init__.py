"""Floor 3: what a checkpoint is worth for recognition: frozen features, and the transfer suite."""
