"""What a user sees who compares the trials of a sweep in MLflow, in a real browser."""

import http.client

import pytest
import yaml

pages = pytest.importorskip("tests.services.pages", reason="needs playwright (the dev extra)")

from tests.faults.mlflow_server import free_port, start_server, stop_server  # noqa: E402
from tests.services.training import SHORT  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        pages.chromium() is None, reason="no Chromium on this machine (apt-get install chromium)"
    ),
]
UNITS, RATIOS = (8, 16), (0.4, 0.8)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Address of an MLflow that has a sweep of four short trainings, and the sweep's experiment."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMRAY_HOME", str(folder))
        experiment = sweep(folder)
    port = free_port()
    server = start_server(folder, port)
    yield f"http://127.0.0.1:{port}", experiment
    stop_server(server)


def sweep(folder) -> str:
    """Real trials of a real sweep, one after another in this process; the experiment's id."""
    from mlflow import MlflowClient

    from mimray.evaluate.cells import Quiet
    from mimray.report.curves import loss_curve
    from mimray.study.sweeps.copy import sweep_copy
    from mimray.study.sweeps.folder import SweepFolder
    from mimray.study.sweeps.grid import load_sweep
    from mimray.study.sweeps.objective import objective_of
    from mimray.train.launch import launch

    settings = dict(one.split("=", 1) for one in SHORT)
    fixed = {k: v for k, v in settings.items() if k not in ("mask.unit", "run.tracking")}
    grid = {"mask.unit": list(UNITS), "mask.ratio": list(RATIOS)}
    content = {"recipe": "demo", "set": fixed | {"speed.workers": 1}, "grid": grid}
    content["reference_mask"] = {"unit": 16, "ratio": 0.6}
    (folder / "masks.yaml").write_text(yaml.safe_dump(content))
    sweep, cells = load_sweep(str(folder / "masks.yaml"), [])
    objective_of(sweep, cells)
    sweep_folder = SweepFolder(sweep, cells)
    sweep_folder.save()
    copy = sweep_copy(sweep, cells, sweep_folder)
    for cell in cells:
        launch(cell.recipe, Quiet(), loss_curve, here=True)
    copy.close(cells, "finished", {}, {})
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return str(client.get_experiment_by_name("masks").experiment_id)


def test_a_page_of_another_name_that_leads_here_is_refused(place):
    """As DNS rebinding has it; `mimray ui` has no password, so its names are all that guards it."""
    port = int(place[0].rpartition(":")[2])
    for name, status in (
        ("localhost:1234", 200),
        (f"127.0.0.1:{port}", 200),
        ("[::1]:1", 200),
        ("evil.example", 403),
        (f"evil.example:{port}", 403),
        ("10.0.0.1", 403),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/", headers={"Host": name})
        assert (name, connection.getresponse().status) == (name, status)
        connection.close()


def test_parallel_coordinates_over_what_differs_and_overlaid_curves(place, tmp_path):
    uri, experiment = place
    trials = len(UNITS) * len(RATIOS)
    with pages.browser() as page:
        rows = pages.open_trials(page, uri, experiment)
        assert rows.count() == trials
        axes = pages.compare(page, rows, "val/reference_skill")
        # no run names, no addresses: what the grid varies, and what was asked for
        assert axes == ["mask.ratio", "mask.unit", "val/reference_skill"]
        assert page.get_by_text("mask.strategy", exact=True).count() == 1
        assert page.get_by_text("run.tracking", exact=True).count() == 0
        page.screenshot(path=tmp_path / "compare.png")
        curves = pages.overlay(page, uri, experiment, "train/loss")
        assert len(set(filter(None, curves))) == trials
        assert page.locator(".xtitle", has_text="Step").count() >= 1
        page.screenshot(path=tmp_path / "curves.png")
