"""How many tokens the official mask generator hides."""

import pytest
import torch

from mimray.mim.masks import STRATEGIES, draw

pytestmark = pytest.mark.unit


def test_counts(goldens):
    cases = goldens("mask_counts").info["content"]
    assert cases
    for case in cases:
        side, ratio = case["cells_per_side"], case["mask_ratio"]
        sizes = case["input_size"], case["mask_patch_size"], case["model_patch_size"]
        assert STRATEGIES["random"].count(side, side, ratio) == case["masked_cells"], case
        if case["masked_cells"] == case["cells"]:
            with pytest.raises(ValueError, match="hides all"):  # nothing would be left to see
                draw("random", *sizes, ratio, torch.arange(2))
            continue
        hidden = draw("random", *sizes, ratio, torch.arange(2))
        assert list(hidden.shape[1:]) == case["mask_shape"], case
        assert hidden.sum(dim=(1, 2)).tolist() == [case["masked_tokens"]] * 2, case
