"""Floor 1: masks, encoders, heads, targets, the model and its step, in plain PyTorch."""
