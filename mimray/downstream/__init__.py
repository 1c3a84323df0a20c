"""Floor 1: what each downstream task adds to an encoder, in plain PyTorch."""
