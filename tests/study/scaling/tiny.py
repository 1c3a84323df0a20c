"""What studies of tiny cells on the shipped photos share."""

from mimray.evaluate.cells import Draws
from mimray.evaluate.workers import Share
from mimray.study.scaling.steps import Drawings, Place
from mimray.verbs.study.sheet import side_by_side

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
"""On a Ray; its own settings follow."""

HERE = """
recipe: demo
set:
  {model.image_size: 32, model.window: null, mask.unit: 8, speed.workers: 1, speed.device: cpu,
   optim.batch: 16, run.validate_every: 100%, run.log_every: 1it, run.tracking: "off"}
encoders: {nano: vit_nano}
subsets: {photos 10%: 10%, photos 100%: 100%}
lengths: [4]
tasks: [knn]
"""
"""In the tests' own process."""
DRAWINGS = Drawings(Draws(lambda *_: b"png", lambda *_: b"png"), side_by_side)
PLACE = Place(Share(1))
