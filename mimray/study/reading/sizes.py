"""How large the published models and data sets are, by name; other tables say it in columns.

Parameters and pictures: On Data Scaling in Masked Image Modeling, section 3 and its supplement.
"""

from __future__ import annotations

import re

_PARAMETERS = {
    "swinv2-small": 49e6,
    "swinv2-base": 87e6,
    "swinv2-large": 195e6,
    "swinv2-huge": 655e6,
    "swinv2-giant": 1061e6,  # 448 channels; not the G of 3 billion
}
_IMAGES = {"imagenet-1k": 1.28e6, "imagenet-22k": 1.42e7, "imagenet-100": 1.27e5}
_SHARE = re.compile(r"(?P<source>.*?)[\s_-]*(?P<percent>\d+(?:\.\d+)?)\s*%")


def known_parameters(model: str) -> float | None:
    """Parameters of a published model's encoder, or None."""
    return _PARAMETERS.get(model.lower().replace("_", "-"))


def known_images(data: str) -> float | None:
    """Pictures of a published data set or of a share of it, or None."""
    source, share = split_share(data)
    whole = _IMAGES.get(source.lower())
    return None if whole is None else whole * share


def split_share(data: str) -> tuple[str, float]:
    """`ImageNet-1K 10%` -> (`ImageNet-1K`, 0.1). What says no share is the whole of itself."""
    match = _SHARE.fullmatch(data.strip())
    return (
        (data.strip(), 1.0) if match is None else (match["source"], float(match["percent"]) / 100)
    )
