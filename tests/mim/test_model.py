import numpy as np
import pytest
import torch

from mimray import build_model, load_recipe
from mimray.mim.normalisation import denormalise, normalise

pytestmark = pytest.mark.unit


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(3, 3, 32, 32, generator=generator)
    hidden = torch.rand(3, 8, 8, generator=generator) < torch.tensor([0.2, 0.5, 0.8])[:, None, None]
    return images, hidden


def test_the_loss_is_simmim_s(tiny, batch):
    images, hidden = batch
    out = tiny().eval()(images, hidden)
    mask = np.kron(hidden.numpy().astype(np.float64), np.ones((4, 4)))[:, None]
    x, y = images.double().numpy(), out.prediction.detach().double().numpy()
    expected = (np.abs(x - y) * mask).sum() / (mask.sum() + 1e-5) / 3
    assert out.loss.item() == pytest.approx(expected, rel=1e-6)


def test_the_loss_is_the_summed_error_over_the_hidden_values(tiny, batch):
    images, hidden = batch
    model = tiny().eval()
    out = model(images, hidden)
    assert out.values.tolist() == (hidden.sum(dim=(1, 2)) * 16 * 3).tolist()
    torch.testing.assert_close(out.loss, out.error.sum() / out.values.sum())
    alone = [model(i[None], h[None]).error[0] for i, h in zip(images, hidden, strict=True)]
    torch.testing.assert_close(out.error, torch.stack(alone))


def test_shapes(tiny, batch):
    out = tiny()(*batch)
    assert out.loss.shape == () and out.prediction.shape == (3, 3, 32, 32)
    assert out.features.shape == (3, 16, 4, 4)
    assert out.error.shape == out.values.shape == (3,)


def test_visible_pixels_give_the_prediction_no_gradient(tiny, batch):
    images, hidden = batch
    model = tiny()
    pixels = model.target.region(hidden, model.patch)
    prediction = torch.zeros_like(images, requires_grad=True)
    errors = model.target.error(prediction, images) * model.asked(hidden)
    (errors.sum() / model.values(hidden).sum()).backward()
    weight = pixels[:, None].expand_as(images)
    assert (prediction.grad[~weight] == 0).all()
    expected = torch.full_like(prediction.grad[weight], 1 / (3 * pixels.sum()))
    torch.testing.assert_close(prediction.grad[weight].abs(), expected)


def test_the_whole_picture_is_asked_for_in_training_only(tiny, batch):
    images, hidden = batch
    model, whole = tiny(), tiny()
    whole.whole_picture = True
    assert whole.values(hidden).tolist() == [3 * 32 * 32] * 3
    difference = (model(images, hidden).prediction - images).abs()
    torch.testing.assert_close(whole(images, hidden).loss, difference.mean())
    torch.testing.assert_close(whole.eval()(images, hidden).loss, model.eval()(images, hidden).loss)


def test_a_windowed_target_is_what_the_prediction_is_compared_with(tiny, batch):
    images, hidden = batch
    model = tiny(target="windowed").eval()
    out = model(images, hidden)
    pixels = hidden.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    errors = (out.prediction - model.target(images)).abs() * pixels
    torch.testing.assert_close(out.loss, errors.sum() / (3 * pixels.sum()))


def test_seeds_decide_what_drop_path_drops(tiny, batch):
    images, hidden = batch
    model = tiny(drop_path=0.5).train()
    seeds = torch.tensor([1, 2, 3])
    first, again = (model(images, hidden, seeds).error for _ in range(2))
    assert torch.equal(first, again)
    alone = model(images[2:], hidden[2:], seeds[2:]).error
    torch.testing.assert_close(alone[0], first[2])
    others = torch.stack([model(images, hidden, seeds + k).error for k in range(10, 20)])
    assert (others != first).any()


def test_build_model_builds_the_recipe_s_model():
    model = build_model(load_recipe("demo", ["model.encoder=vit_nano", "target.kind=windowed"]))
    assert model.patch == 8 and model.target.window == 47
    out = model(torch.randn(1, 3, 96, 96), torch.rand(1, 12, 12) < 0.5)
    assert out.loss.isfinite() and out.prediction.shape == (1, 3, 96, 96)


def test_every_byte_survives_normalise_and_denormalise():
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    assert torch.equal(denormalise(normalise(images)), images)


def test_normalise_is_imagenet_s():
    grey = normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten().tolist()
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert grey == pytest.approx(expected, rel=1e-6)


def test_denormalise_clips():
    out = denormalise(torch.tensor([-100.0, 100.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1))
    assert out.flatten().tolist() == [0, 0, 0, 255, 255, 255]
