"""MLflow's pages in a real browser, used as somebody does who compares the trials of a sweep.

    python -m tests.services.pages http://127.0.0.1:5000 1 docs/mlflow

makes the pictures of docs/mlflow.md from the sweep in experiment 1.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

from playwright.sync_api import Locator, Page, sync_playwright

_PATIENCE_MS = 240_000  # a page takes a second, or a minute where the machine is busy
# Nothing but this machine's own pages is asked for.
_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
]
# What a user who trains models clicks away once.
_HABITS = """
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.workflowType_v1", JSON.stringify("machine_learning"));
"""


def chromium() -> str | None:
    """The browser of this machine."""
    return which("chromium") or which("chromium-browser") or which("google-chrome")


@contextmanager
def browser(width: int = 1500, height: int = 800) -> Iterator[Page]:
    """A page without history, in a browser without a screen."""
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium(), args=_FLAGS)
        try:
            page = program.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(_PATIENCE_MS)
            page.add_init_script(_HABITS)
            yield page
        finally:
            program.close()


def open_trials(page: Page, uri: str, experiment: str) -> Locator:
    """The experiment's table with one sweep unfolded; the rows of its trials."""
    page.goto(f"{uri}/#/experiments/{experiment}/runs", wait_until="domcontentloaded")
    page.locator(".ag-row button").first.click()
    rows = page.locator(".ag-pinned-left-cols-container .ag-row")
    rows.nth(1).wait_for()
    page.wait_for_timeout(1000)  # they come one after another
    return page.locator(".ag-pinned-left-cols-container .ag-row:not(:first-child)")


def compare(page: Page, trials: Locator, metric: str) -> list[str]:
    """Tick the trials, press Compare, choose `metric`; the titles of the parallel coordinates."""
    count = trials.count()
    for row in trials.all():
        row.locator(".ag-selection-checkbox input").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_text(f"Comparing {count} Runs").wait_for()
    chosen = page.locator(".du-bois-light-select-multiple").nth(1)  # after that of parameters
    chosen.locator("[class*=selection-item-remove]").first.click()
    chooser = chosen.get_by_role("combobox")
    chooser.click()
    chooser.fill(metric)
    chooser.press("Enter")
    chooser.press("Escape")
    page.locator("text.axis-title", has_text=metric).wait_for()
    page.wait_for_timeout(2000)  # the lines are drawn
    return page.locator("text.axis-title").all_text_contents()


def overlay(page: Page, uri: str, experiment: str, metric: str) -> list[str]:
    """Open the page of charts, those of `metric`; the names of the curves that the first one overlays."""
    page.goto("about:blank")
    address = f"{uri}/#/experiments/{experiment}/runs?compareRunsMode=CHART"
    page.goto(address, wait_until="domcontentloaded")
    page.get_by_placeholder("Search metric charts").fill(metric)
    page.locator(".scatterlayer .trace").first.wait_for()
    page.wait_for_timeout(5000)  # each run's curve is asked for by itself
    drawn = (
        "plot => plot.data.filter(curve => curve.y && curve.y.length > 1).map(curve => curve.name)"
    )
    return page.locator(".js-plotly-plot").first.evaluate(drawn)


def main(uri: str, experiment: str, folder: str) -> None:
    """The two pictures of docs/mlflow.md."""
    with browser() as page:
        compare(page, open_trials(page, uri, experiment), "val/reference_skill")
        page.screenshot(path=Path(folder) / "compare.png")
        overlay(page, uri, experiment, "loss")
        page.screenshot(path=Path(folder) / "curves.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
