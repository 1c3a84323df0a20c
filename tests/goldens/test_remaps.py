"""Position tables for another window, and SwinV2's continuous bias at another window."""

import math

import pytest
import torch

from mimray.mim.encoders.swinv2 import SwinV2Encoder
from mimray.weights.remap import resize_table, source_positions
from tests.goldens.golden import stems

pytestmark = pytest.mark.unit

TABLES = [stem for stem in stems("remap_*") if stem != "remap_swinv2"]


def window(table):
    """Tokens a side, of a table with or without the three entries of a class token."""
    entries = next(n for n in (len(table), len(table) - 3) if math.isqrt(n) ** 2 == n)
    return (math.isqrt(entries) + 1) // 2


@pytest.mark.parametrize("stem", TABLES)
def test_tables(goldens, stem):
    golden = goldens(stem)
    got = {}
    for case, table in golden.weights("in/").items():
        source, target = window(table), window(golden.arrays[f"out/{case}"])
        got[f"out/{case}"] = resize_table(table, (source, source), (target, target))
        if source != target:
            got[f"source_positions/{case}"] = source_positions(source, target)
    golden.compare(got)


def test_swinv2_s_bias(goldens):
    golden = goldens("remap_swinv2")
    got = {}
    for case in golden.info["cases"]:
        got |= swinv2_bias(case, golden.weights(f"in/{case['tag']}/cpb_mlp."))
    golden.compare(got)


def swinv2_bias(case, mlp):
    """What an encoder whose only stage is one window adds to its scores, step by step."""
    tag, heads, side = case["tag"], case["heads"], case["window"]
    encoder = SwinV2Encoder(
        image_size=2 * side,
        window=side,
        drop_path=0.0,
        embed=4 * heads,
        depths=(1,),
        heads=(heads,),
        patch=2,
        pretrained_windows=(case["reference_window"],),
    )
    attention = encoder.layers[0].blocks[0].attn
    attention.cpb_mlp.load_state_dict(mlp)
    coordinates, index = attention.relative_coords_table[0], attention.relative_position_index
    with torch.no_grad():
        values = attention.cpb_mlp(coordinates)
    bias = 16 * torch.sigmoid(values.flatten(0, 1)[index]).permute(2, 0, 1)
    return {
        f"coords/{tag}": coordinates,
        f"mlp_out/{tag}": values,
        f"index/{tag}": index,
        f"bias/{tag}": bias,
    }
