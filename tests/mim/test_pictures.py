import pytest
import torch

from mimray.mim.normalisation import denormalise
from mimray.mim.pictures import _GAP, _SIDE_BY_SIDE, _TITLE_HEIGHT, reconstruction_grid

pytestmark = pytest.mark.unit


SIZE = 32


def cell(sheet, sample, column):
    """One picture of the sheet: (3, H, W)."""
    row, beside = divmod(sample, _SIDE_BY_SIDE)
    top = _TITLE_HEIGHT + row * (SIZE + _GAP) + _GAP
    left = (beside * 4 + column) * (SIZE + _GAP) + _GAP
    return sheet[top : top + SIZE, left : left + SIZE].permute(2, 0, 1)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(3, 3, SIZE, SIZE, generator=generator)
    return images, torch.rand(3, 8, 8, generator=generator) < 0.5


@pytest.mark.parametrize("target", ["pixels", "windowed"])
def test_columns_are_original_masked_prediction_and_both(tiny, batch, target):
    images, hidden = batch
    model = tiny(target=target).eval()
    sheet = reconstruction_grid(model, images, hidden)
    rows = -(-3 // _SIDE_BY_SIDE)
    assert sheet.dtype == torch.uint8 and sheet.shape == (
        _TITLE_HEIGHT + rows * (SIZE + _GAP),
        _SIDE_BY_SIDE * 4 * (SIZE + _GAP),
        3,
    )
    with torch.no_grad():
        prediction = model.target.to_images(model(images, hidden).prediction, images)
    for row in range(3):
        pixels = hidden[row].repeat_interleave(4, 0).repeat_interleave(4, 1)
        original, masked, predicted, together = (cell(sheet, row, c) for c in range(4))
        assert torch.equal(original, denormalise(images)[row])
        assert (masked[:, pixels] == 128).all()
        assert torch.equal(masked[:, ~pixels], original[:, ~pixels])
        assert torch.equal(predicted, denormalise(prediction)[row])
        assert torch.equal(together[:, pixels], predicted[:, pixels])
        assert torch.equal(together[:, ~pixels], original[:, ~pixels])


def test_an_empty_place_of_the_sheet_is_white(tiny, batch):
    images, hidden = (part[:1] for part in batch)
    sheet = reconstruction_grid(tiny().eval(), images, hidden)
    assert _SIDE_BY_SIDE == 1 or all((cell(sheet, 1, column) == 255).all() for column in range(4))


def test_no_graph_is_kept(tiny, batch):
    assert not reconstruction_grid(tiny(), *batch).requires_grad
