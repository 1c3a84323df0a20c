"""The official pre-training models: features, reconstruction, loss and gradients."""

import pytest
import torch

from tests.goldens.golden import stems
from tests.goldens.models import images, official_gradients, pretraining_model, recorded

pytestmark = pytest.mark.unit

MODELS = stems("simmim_*")


@pytest.fixture(scope="module", params=MODELS)
def golden(goldens, request):
    return goldens(request.param)


TARGETS = {"": "pixels", "_plain": "pixels", "_norm_target": "windowed"}
"""What a loss is of, by the end of its key."""


def losses(golden):
    return [key.removeprefix("loss") for key in golden.computed("loss*")]


def test_there_are_models():
    assert MODELS


def test_features(golden):
    seen = recorded(pretraining_model(golden), images(golden))
    golden.compare({f"features/{key}": value for key, value in seen.items()}, "features/*")


def test_reconstruction(golden):
    with torch.no_grad():
        out = pretraining_model(golden)(*images(golden))
    golden.compare({"reconstruction": out.prediction}, "reconstruction")


def test_losses_and_gradients(golden):
    for kind in losses(golden):
        model = pretraining_model(golden, TARGETS[kind])
        out = model(*images(golden))
        out.loss.backward()
        golden.compare({f"loss{kind}": out.loss}, f"loss{kind}")
        gradients = official_gradients(model)
        norms = {f"gradnorm{kind}/{n}": g.double().norm() for n, g in gradients.items()}
        golden.compare(norms, f"gradnorm{kind}/*")
        some = {f"grad{kind}/{n}": g for n, g in gradients.items()}
        if kept := golden.computed(f"grad{kind}/*"):
            golden.compare({key: some[key] for key in kept}, f"grad{kind}/*")


def test_every_result_is_one_that_is_tested(golden):
    tested = {f"{what}{kind}" for what in ("loss", "gradnorm", "grad") for kind in losses(golden)}
    found = {key.partition("/")[0] for key in golden.computed()}
    assert found <= tested | {"features", "reconstruction"}
