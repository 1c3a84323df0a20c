"""The table of a study's cells, and what the report reads in it."""

import math

import pytest
import torch

from mimray.errors import UserError
from mimray.evaluate.table_files import table_files
from mimray.study.reading.findings import analyse
from mimray.study.reading.sentences import sentences
from mimray.study.reading.table import read_table
from mimray.study.scaling.cells import load_study
from mimray.study.scaling.runners import Work
from mimray.study.scaling.steps import Pretrain
from mimray.study.scaling.table import columns, study_rows
from tests.study.scaling.tiny import DRAWINGS, HERE, PLACE

pytestmark = pytest.mark.unit
torch.set_num_threads(1)


def test_the_table_is_read_by_the_report_also_in_part(study, tmp_path):
    rows = study_rows(study.laid.cells, study.steps, study.folder)
    for name, data in table_files(rows, columns(study.steps)).items():
        (tmp_path / name).write_bytes(data)
    (done, waiting) = rows
    assert (done["status"], waiting["status"]) == ("finished", "waiting")
    assert done["images"] == 88 and done["epochs"] == pytest.approx(64 / 88)
    assert done["params"] == study.folder.params["nano"] and done["source"] == "photos"
    with pytest.raises(UserError, match="1 rows have a validation loss"):
        read_table(str(tmp_path))
    text = (tmp_path / "table.csv").read_text().splitlines()
    for length in (5, 6):
        text.append(text[1].replace(",4,", f",{length},", 1))
    (tmp_path / "table.parquet").unlink()
    (tmp_path / "table.csv").write_text("\n".join(text))
    table = read_table(str(tmp_path))
    assert len(table.runs) == 3 and table.unfinished == 1
    assert table.tasks == ("top1", "knn/top1") and table.runs[0].train_loss == done["train_loss"]


# ----- several seeds --------------------------------------------------------------------------------------


class Told:
    """A step of which is known what it found for which seed."""

    def __init__(self, name, column, found):
        self.name, self.columns, self.found = name, (column,), found

    def values(self, cell):
        value = self.found.get(cell.values["seed"])
        return None if value is None else {self.columns[0]: value}

    def training(self, cell):
        return None


def row_of(folder, tmp_path, losses, top1, failed=None):
    """Of three seeds: what each found, and why the others failed."""
    (tmp_path / "tiny.yaml").write_text(
        HERE.replace("100%: 100%", "50%: 50%") + "seeds: [0, 1, 2]\n"
    )
    laid = load_study(str(tmp_path / "tiny.yaml"), [f"run.storage={tmp_path / 'runs'}"])
    cells = laid.cells[:3]
    names = {cell.values["seed"]: cell.name for cell in cells}
    folder.failures = {
        names[seed]: {"step": "pretrain", "reason": reason}
        for seed, reason in (failed or {}).items()
    }
    steps = [Told("losses", "val_loss", losses), Told("finetune", "top1", top1)]
    (row,) = study_rows(cells, steps, folder)
    return row


def test_means_are_over_the_same_seeds_in_all_columns(folder, tmp_path):
    losses = {0: 0.1, 1: 0.2, 2: 0.9}
    row = row_of(folder, tmp_path, losses, {0: 0.5, 1: 0.7}, {2: "its process ended twice"})
    assert (row["val_loss"], row["top1"]) == pytest.approx((0.15, 0.6))
    assert (row["seeds"], row["status"]) == (2, "failed")
    assert row["reason"] == "its process ended twice"


def test_of_seeds_of_which_none_is_finished_those_count_that_are_furthest(folder, tmp_path):
    row = row_of(folder, tmp_path, {0: 0.1, 2: 0.3}, {})
    assert (row["val_loss"], row["top1"], row["seeds"]) == (0.2, None, 2)
    row = row_of(folder, tmp_path, {}, {})
    assert (row["val_loss"], row["seeds"], row["status"]) == (None, 0, "waiting")


def test_a_seed_that_diverged_is_not_in_the_mean_and_if_all_did_the_loss_is_no_number(
    folder, tmp_path
):
    why = "the loss is not finite any more; lower optim.lr=1"
    row = row_of(folder, tmp_path, {0: 0.1, 1: 0.2}, {0: 0.5}, {2: why})
    assert (row["val_loss"], row["seeds"], row["reason"]) == (0.1, 1, why)
    row = row_of(folder, tmp_path, {1: 0.2}, {}, {2: why})  # nor before one is finished
    assert (row["val_loss"], row["seeds"]) == (0.2, 1)
    assert math.isnan(row_of(folder, tmp_path, {}, {}, dict.fromkeys(range(3), why))["val_loss"])


def test_a_finetuning_that_diverged_leaves_the_loss_as_it_is(folder, tmp_path):
    why = "the loss is not finite any more; lower optim.lr=1"
    row = row_of(folder, tmp_path, {0: 0.1, 1: 0.2, 2: 0.3}, {}, dict.fromkeys(range(3), why))
    assert (row["val_loss"], row["status"]) == (pytest.approx(0.2), "failed")


# ----- cells that diverged --------------------------------------------------------------------------------


def test_the_report_says_which_cells_diverged(study, folder, tmp_path):
    bad = HERE.replace("nano: vit_nano", "nano: {model.encoder: vit_nano, optim.lr: 1.0e+30}")
    (tmp_path / "bad.yaml").write_text(bad)
    laid = load_study(str(tmp_path / "bad.yaml"), [f"run.storage={tmp_path / 'runs'}"])
    cell = laid.cells[0]
    folder.note_begun(cell.name, "pretrain")
    why = study.runner.run(Work(cell, Pretrain(), PLACE), DRAWINGS)
    folder.note_ended(cell.name, "pretrain", why)
    (row,) = study_rows([cell], study.steps, folder)
    assert row["status"] == "failed" and math.isnan(row["val_loss"])
    others = [
        row | {"iterations": length, "val_loss": 0.5 - length / 100, "status": "finished"}
        for length in (1, 2, 3)
    ]
    for name, data in table_files([*others, row], columns(study.steps)).items():
        (tmp_path / name).write_bytes(data)
    for name in ("table.parquet", "table.csv"):
        table = read_table(str(tmp_path / name))
        assert table.diverged == (("nano", "photos 10%", 4),) and not table.waiting
    (said,) = (line for line in sentences(analyse(table)) if line.startswith("Left out"))
    assert "1 diverged" in said and "nano on photos 10% at 4" in said
