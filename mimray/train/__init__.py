"""Floor 3: one training loop on Ray Train, its launch, its record and its checkpoints."""

from mimray.environment import prepare

prepare()
