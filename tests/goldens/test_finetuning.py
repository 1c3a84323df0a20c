"""The official fine-tuning: what its loader keeps of a pre-trained checkpoint, and what it computes."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch

from mimray import weights
from tests.goldens.golden import Golden, stems
from tests.goldens.models import OWN_NAMES, classifier, official_names, official_weights

pytestmark = pytest.mark.unit

STEM = "finetune_forward"
MODELS = [name for stem in stems(STEM) for name in Golden(stem).info["config"]]
TABLE = "relative_position_bias_table"


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


@pytest.fixture
def golden(goldens):
    return goldens(STEM)


@pytest.fixture
def pretrained(goldens, golden, name):
    return goldens(Path(golden.info["config"][name]["pretrained"]).stem)


@pytest.fixture
def model(golden, pretrained, name):
    return classifier(pretrained.info["config"], golden.info["config"][name])


def fill_fresh(model, golden, name):
    """The parameters that no checkpoint has."""
    ours = {official: own for own, official in official_names(model).items()}
    fresh = {ours[n]: tensor for n, tensor in golden.weights(f"{name}/param/").items()}
    assert not model.load_state_dict(fresh, strict=False).unexpected_keys


def test_logits_and_tables(golden, pretrained, model, name):
    weights.load(model, official_weights(pretrained))
    fill_fresh(model, golden, name)
    images = golden.tensor(f"{name}/x")
    with torch.no_grad():
        got = {f"{name}/pooled": model.pool(images), f"{name}/logits": model.logits(images)}
    names = official_names(model)
    state = model.state_dict()
    got |= {f"{name}/table/{names[n]}": t for n, t in state.items() if n.endswith(TABLE)}
    golden.compare(got, f"{name}/*")


def test_the_report_names_what_the_official_loader_does(golden, pretrained, model, name):
    report = weights.load(model, official_weights(pretrained))
    keys, names = golden.info["keys"][name], official_names(model)
    assert sorted(keys["checkpoint_keys"]) == sorted(official_weights(pretrained))
    filled = {names[n] for n in (*report.matched, *report.resized)}
    assert filled - {*OWN_NAMES} == set(keys["loaded"])
    resized = {names[n] for n in report.resized}
    assert resized == set(keys["resized_tables"]) | set(keys["added_by_remap"])
    assert {names[n] for n in report.missing} == set(keys["fresh_parameters"])
    dropped = {n.replace("head.", "decoder.") for n in report.dropped}
    unused = {*keys["dropped_by_remap"], *keys["ignored_not_in_model"]} - {"mask_token"}
    unused -= {f"rel_pos_bias.{TABLE}"}  # it went into the blocks' tables
    assert dropped == {*keys["dropped_without_prefix"], *(f"encoder.{n}" for n in unused)}


def test_older_checkpoints_names_fill_the_same(golden, pretrained, model, name):
    older = {
        f"encoder.{new}": f"encoder.{old}"
        for old, new in golden.info["keys"][name].get("renamed_from_older_checkpoints", {}).items()
    }
    given = official_weights(pretrained)
    assert older.keys() <= given.keys()
    renamed = {older.get(n, n): tensor for n, tensor in given.items()}
    other = deepcopy(model)
    assert weights.load(model, given) == weights.load(other, renamed)
    states = model.state_dict(), other.state_dict()
    assert all(torch.equal(states[0][n], states[1][n]) for n in states[0])
