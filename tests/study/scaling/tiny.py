"""What studies of tiny cells on the shipped photos share; their own settings follow."""

STUDY = """
recipe: demo
set:
  model.image_size: 32
  model.window: null
  mask.unit: 8
  optim.batch: 16
  schedule.warmup: 10%
  run.validate_every: 50%
  run.log_every: 1it
"""
