"""Tables of a known law, and the published one."""

from mimray.study.reading.published import published_table
from mimray.study.reading.table import Run, StudyTable

PUBLISHED = published_table()
MODELS = {"a": 5e7, "b": 1e8, "c": 2e8, "d": 6e8}
IMAGES = {"half": 5e5, "all": 1e6, "double": 2e6}
LENGTHS = (100_000, 200_000, 400_000)


def law_loss(parameters, images, iterations):
    """A size that nobody told the table is one all the same."""
    parameters, images = parameters or 1e8, images or 1e6
    return (
        0.40
        + 0.010 * (images / 1e6) ** -0.40
        + 0.030 * (parameters / 2e8) ** -0.25
        + 0.020 * (iterations / 2e5) ** -0.50
    )


def law_table(noise=lambda: 0.0, models=MODELS, images=IMAGES, lengths=LENGTHS):
    """Every cell of a grid, its loss by the law above and its top-1 falling with the loss."""
    runs = []
    for model, parameters in models.items():
        for data, count in images.items():
            for length in lengths:
                loss = law_loss(parameters, count, length) + noise()
                runs.append(
                    Run(
                        model, data, length, loss, {"top1": 130 - 100 * loss},
                        parameters=parameters, images=count, source="s",
                    )
                )  # fmt: skip
    return StudyTable("law", tuple(runs))


def change(table, wanted, **values):
    """The table with other values in one run: (model, data, iterations)."""
    from dataclasses import replace

    def is_it(run):
        return (*run.pair, run.iterations) == wanted

    assert any(map(is_it, table.runs))
    runs = (replace(run, **values) if is_it(run) else run for run in table.runs)
    return replace(table, runs=tuple(runs))
