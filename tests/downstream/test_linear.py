import math

import numpy as np
import pytest
import torch

from mimray.downstream import linear
from mimray.downstream.linear import Probe, fit_probes
from mimray.downstream.metrics import mean_average_precision, top1

pytestmark = pytest.mark.unit

torch.set_num_threads(1)


def clusters(rows, classes, channels, spread=1.0, seed=0):
    """Features around a centre a class, shifted and stretched as no layer's are."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, channels, generator=torch.Generator().manual_seed(99))
    labels = torch.randint(classes, (rows,), generator=g)
    features = centres[labels] + spread * torch.randn(rows, channels, generator=g)
    return 50.0 + features * torch.logspace(-2, 2, channels), labels


def test_a_probe_separates_what_can_be_and_says_what_is_lost():
    features, labels = clusters(400, 5, 16)
    test, test_labels = clusters(400, 5, 16, seed=1)
    noise = torch.randn(400, 16, generator=torch.Generator().manual_seed(2))
    probes = fit_probes({"good": features, "noise": noise}, labels, 5)
    assert list(probes) == ["good", "noise"]
    assert top1(probes["good"].predict(test), test_labels) > 0.95
    assert probes["good"].held_out > 0.9 > 0.5 > probes["noise"].held_out
    assert any(probes["good"].rate == pytest.approx(rate / 16) for rate in linear.RATES)


def test_the_steps_are_those_of_pytorch_s_batch_norm_and_sgd(monkeypatch):
    """The same rows in the same order through nn.BatchNorm1d, nn.Linear and optim.SGD."""
    monkeypatch.setattr(linear, "RATES", (3.0,))
    monkeypatch.setattr(linear, "LEAST_STEPS", 12)
    features, labels = clusters(60, 3, 8, spread=2.0)
    probe = fit_probes({"a": features}, labels, 3, epochs=2, batch=30)["a"]

    norm = torch.nn.BatchNorm1d(8, affine=False, eps=1e-6, momentum=None).double()
    norm(features.double())
    norm.eval()
    norm.running_var *= 59 / 60  # PyTorch keeps the unbiased one
    model = torch.nn.Linear(8, 3).double()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    order = np.concatenate([linear._order(60, 0, linear._EPOCH, epoch) for epoch in range(6)])
    for step, rows in enumerate(np.array_split(order, 12)):
        optimizer.param_groups[0]["lr"] = 3.0 / 8 * (0.5 + 0.5 * math.cos(math.pi * step / 12))
        optimizer.zero_grad()
        logits = model(norm(features.double()[rows]))
        torch.nn.functional.cross_entropy(logits, labels[rows]).backward()
        optimizer.step()
    torch.testing.assert_close(probe.weight.double(), model.weight.T, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(probe.bias.double(), model.bias, atol=1e-5, rtol=1e-3)
    expected = model(norm(features.double())).float()
    torch.testing.assert_close(probe.predict(features), expected, atol=1e-4, rtol=1e-3)


def test_the_slope_is_the_losses_gradient():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 6, 3, 4, generator=g, dtype=torch.float64, requires_grad=True)
    one = torch.randint(4, (6,), generator=g)
    several = torch.randint(-1, 2, (6, 4), generator=g)
    loss = torch.nn.functional.cross_entropy(
        logits.permute(0, 2, 1, 3).flatten(0, 2), one.repeat(6), reduction="sum"
    )
    (expected,) = torch.autograd.grad(loss / 6, logits)
    torch.testing.assert_close(linear._slope(logits, one), expected, check_dtype=False)
    counted = (several != 0).double()[:, None]
    targets = (several > 0).double()[:, None].expand_as(logits)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    (expected,) = torch.autograd.grad((loss * counted).sum() / 6, logits)
    torch.testing.assert_close(linear._slope(logits, several), expected, check_dtype=False)


def test_a_layer_s_probe_does_not_depend_on_the_others():
    features, labels = clusters(200, 4, 12, spread=3.0)
    wide, _ = clusters(200, 4, 20, spread=3.0, seed=3)
    alone = fit_probes({"a": features}, labels, 4)["a"]
    beside = fit_probes({"w": wide, "b": features.flip(1), "a": features}, labels, 4)
    assert [p.weight.shape for p in beside.values()] == [(20, 4), (12, 4), (12, 4)]
    assert alone.rate == beside["a"].rate
    torch.testing.assert_close(alone.weight, beside["a"].weight, atol=1e-4, rtol=1e-3)


def test_mapped_files_of_float16_give_the_same_twice(tmp_path):
    features, labels = clusters(150, 3, 8)
    np.save(tmp_path / "f.npy", (features - 50).half().numpy())
    mapped = np.load(tmp_path / "f.npy", mmap_mode="r")
    first = fit_probes({"a": mapped}, labels, 3)["a"]
    second = fit_probes({"a": torch.from_numpy(np.array(mapped))}, labels, 3)["a"]
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.predict(mapped), second.predict(np.array(mapped)))
    other = fit_probes({"a": mapped}, labels, 3, seed=1)["a"]
    assert not torch.equal(first.weight, other.weight)


def test_labels_of_several_classes_leave_the_difficult_out():
    g = torch.Generator().manual_seed(0)
    features = torch.randn(400, 10, generator=g)
    clear = torch.where(features[:, :3] > 0.4, 1, -1)
    difficult = torch.rand(400, 3, generator=g) < 0.2
    labels = torch.where(difficult, 0, clear)
    probe = fit_probes({"a": features[:300]}, labels[:300], 3)["a"]
    assert mean_average_precision(probe.predict(features[300:]), clear[300:]) > 0.95
    assert probe.held_out > 0.9
    nothing = fit_probes({"a": features}, -torch.ones(400, 3).long(), 3)["a"]
    assert nothing.held_out == 0.0


def test_the_rate_is_chosen_on_rows_that_were_not_trained_on(monkeypatch):
    seen, trained = [], linear._Fit._train

    def watched(self, rows, rates):
        seen.append(rows)
        return trained(self, rows, rates)

    def scores(self, weights, biases, rows):
        seen.append(rows)
        result = torch.zeros(1, len(linear.RATES), dtype=torch.float64)
        result[0, 3] = 0.7
        return result

    monkeypatch.setattr(linear._Fit, "_train", watched)
    monkeypatch.setattr(linear._Fit, "_scores", scores)
    features, labels = clusters(100, 3, 8)
    probe = fit_probes({"a": features}, labels, 3)["a"]
    kept, held, everything = seen
    assert len(held) == 10 and sorted([*kept, *held]) == list(everything) == list(range(100))
    assert probe.rate == pytest.approx(linear.RATES[3] / 8) and probe.held_out == 0.7


def test_a_channel_that_is_always_the_same_does_no_harm():
    features, labels = clusters(100, 3, 8)
    features[:, 2] = 7.0
    probe = fit_probes({"a": features}, labels, 3)["a"]
    assert probe.predict(features).isfinite().all()
    assert top1(probe.predict(features), labels) > 0.9


def test_wrong_input_is_refused_in_one_line():
    features, labels = clusters(20, 3, 8)
    with pytest.raises(ValueError, match="labels run from 0 to 2, beyond 0 to 1"):
        fit_probes({"a": features}, labels, 2)
    with pytest.raises(ValueError, match="20 features and 3 classes do not fit labels of shape"):
        fit_probes({"a": features}, labels[:5], 3)
    with pytest.raises(ValueError, match="layer 'a' has one row"):
        fit_probes({"a": features[:1]}, labels[:1], 3)
    features[3, 2] = float("inf")
    with pytest.raises(ValueError, match="features of layer 'a' are not finite"):
        fit_probes({"a": features}, labels, 3)


def test_a_probe_is_plain_tensors():
    features, labels = clusters(20, 3, 8)
    probe = fit_probes({"a": features}, labels, 3)["a"]
    assert isinstance(probe, Probe)
    by_hand = ((features - probe.mean) * probe.scale) @ probe.weight + probe.bias
    torch.testing.assert_close(probe.predict(features), by_hand)
