"""cluster/grafana.json: a dashboard of metrics that there are."""

import json
import re

import pytest
from ray.dashboard.modules.reporter import reporter_agent

from mimray.train import gauges
from tests.cluster.clusters import REPOSITORY

pytestmark = pytest.mark.unit
DASHBOARD = json.loads((REPOSITORY / "cluster/grafana.json").read_text())
OURS = {
    f"ray_{name}"
    for name, _ in (
        *gauges.OF_ROW.values(),
        gauges.DATA_WAIT,
        gauges.SKIPPED_PICTURES,
        gauges.CHECKPOINT_STEP,
        gauges.CHECKPOINTS,
    )
}


def names_in(expression: str) -> set[str]:
    """Metrics of an expression."""
    return set(re.findall(r"\bray_\w+", expression))


def expressions() -> list[str]:
    targets = [target for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [target["expr"] for target in targets]


def test_it_shows_metrics_that_there_are():
    theirs = {f"ray_{name}" for name in reporter_agent.METRICS_GAUGES}
    asked = set().union(*map(names_in, expressions()))
    assert asked <= OURS | theirs
    assert names_in(DASHBOARD["templating"]["list"][1]["query"]) <= OURS


@pytest.mark.parametrize(
    "needed",
    ["images_per_second", "data_wait_ratio", "train_loss", "skipped_pictures", "checkpoints"],
)
def test_what_a_team_watches_is_there(needed):
    assert any(f"ray_mimray_{needed}" in expression for expression in expressions())


def test_ours_are_of_the_chosen_runs():
    for expression in expressions():
        ours = len([name for name in re.findall(r"\bray_\w+", expression) if name in OURS])
        assert expression.count('{run=~"$run"}') == ours


def test_panels_do_not_overlap():
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in DASHBOARD["panels"]]
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places) and len(set(numbers)) == len(numbers)
