"""Floor 1: what a trained model does inside, in plain PyTorch; a diagnostic to a file."""
