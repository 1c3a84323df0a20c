import pytest
import torch
from torch import nn

from mimray.downstream.classifier import Classifier
from mimray.mim.encoders import build_encoder

pytestmark = pytest.mark.unit

torch.set_num_threads(1)


@pytest.fixture(params=["swin_nano", "swinv2_nano", "vit_nano", "convnext_nano"])
def encoder(request):
    torch.manual_seed(0)
    return build_encoder(request.param, 96, finetune=True).eval()


def test_logits_are_a_linear_function_of_the_mean_of_the_last_features(encoder):
    model = Classifier(encoder, 5).eval()
    images = torch.randn(2, 3, 96, 96)
    pooled = encoder(images)[-1].flatten(2).mean(dim=2)
    expected = model.fc_norm(pooled) @ model.classifier.weight.T + model.classifier.bias
    assert expected.shape == (2, 5)
    torch.testing.assert_close(model.logits(images), expected)


def test_a_vit_without_a_last_norm_gets_one_and_starts_near_zero():
    vit, swin = (build_encoder(n, 96, finetune=True) for n in ("vit_nano", "swin_nano"))
    assert isinstance(Classifier(swin, 5).fc_norm, nn.Identity)
    model = Classifier(vit, 100)
    assert isinstance(model.fc_norm, nn.LayerNorm) and model.fc_norm.eps == 1e-6
    assert model.classifier.weight.std().item() == pytest.approx(2e-5, rel=0.05)
    assert isinstance(Classifier(build_encoder("vit_nano", 96), 5).fc_norm, nn.Identity)


def test_the_classifier_starts_with_a_deviation_of_0_02():
    model = Classifier(build_encoder("swin_nano", 96), 100)
    assert model.classifier.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not model.classifier.bias.any()


def test_every_parameter_but_the_mask_token_gets_a_gradient(encoder):
    model = Classifier(encoder, 5)
    model.logits(torch.randn(2, 3, 96, 96)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == ["encoder.mask_token"]


def test_the_error_is_the_cross_entropy_with_soft_targets(encoder):
    model = Classifier(encoder, 3).eval()
    images, targets = torch.randn(4, 3, 96, 96), torch.rand(4, 3).softmax(dim=1)
    out = model(images, targets)
    torch.testing.assert_close(out.logits, model.logits(images))
    expected = torch.nn.functional.cross_entropy(out.logits, targets)  # knows soft targets too
    torch.testing.assert_close(out.error.mean(), expected)
    assert model.values(targets).tolist() == [1, 1, 1, 1]


def test_drop_path_goes_by_the_seeds():
    torch.manual_seed(0)
    model = Classifier(build_encoder("vit_nano", 96, drop_path=0.5, finetune=True), 3).train()
    nn.init.normal_(model.classifier.weight)
    images, targets = torch.randn(1, 3, 96, 96).expand(8, -1, -1, -1), torch.ones(8, 3) / 3
    one, other = torch.arange(8), torch.tensor([3] * 8)
    first, again = (model(images, targets, one).logits for _ in range(2))
    torch.testing.assert_close(first, again)
    assert len({tuple(row.tolist()) for row in first}) > 1
    third = model(images, targets, other).logits
    torch.testing.assert_close(third, third[3].expand(8, -1))
