"""What the tests' sweeps are made of: a small model, and a few masks."""

from mimray.evaluate.workers import Share
from mimray.study.placing import Plan
from mimray.study.sweeps.objective import objective_of
from mimray.study.sweeps.trial import Trial
from mimray.train.run_folder import RunFolder

SMALL = (
    "set: {model.encoder: vit_nano, model.image_size: 32, model.window: null, speed.workers: 1}\n"
)
MASKS = f"recipe: demo\n{SMALL}grid: {{mask.unit: [8, 16]}}\n"
"""Two trials, as a file has them."""
OFTEN = "run.validate_every=10%"
GRID = "grid: {mask.unit: [8, 16], mask.ratio: [0.25, 0.5, 0.7]}\n"


def trial_of(lay_out, *overrides):
    sweep, cells = lay_out(GRID, *overrides)
    objective = objective_of(sweep, cells)
    return Trial(cells[0], objective, objective.metric, Plan(Share(1), Share(1), 1), None)


def begun(trial, rows):
    run = RunFolder.of(trial.cell.recipe)
    run.make()
    run.write_record({"recipe_digest": "x", "status": "running", "total_steps": 10})
    run.append_rows(rows)
