"""How near decode, crop and scale come to entropy decoding alone, which no CPU decoder can leave out.

The floor is simplejpeg's decode of the same bytes at 1/8 scale: all of the Huffman code, and one
value a block instead of 64. CPU time on one thread, rounds in turn, median of their ratios.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import simplejpeg
import torch

from benchmarks._pictures import read_pictures, skipped
from benchmarks._report import Figure, report
from benchmarks.decode import SIMMIM, Pictures

ROUNDS = 15
TARGET = 0.60


def decoded(pictures: list[bytes], least_side: int) -> None:
    """All pictures, scaled down as far as goes (to 1/8) for that side; each thrown away."""
    for data in pictures:
        simplejpeg.decode_jpeg(data, "RGB", min_height=least_side, min_width=least_side)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--images", help="folder of JPEGs; ../shared/data/photos_hi when not given")
    arguments = parser.parse_args()
    photos = read_pictures(arguments.images)
    if photos is None:
        skipped("decode_floor", arguments.json)
        return
    torch.set_num_threads(1)
    pictures = Pictures(photos, SIMMIM)
    times = np.zeros((ROUNDS + 1, 3))
    for number, row in enumerate(times):  # the first warms up
        for place, call in enumerate(
            (
                lambda e=number: pictures.ours(e),
                lambda: decoded(photos, 1),
                lambda: decoded(photos, 0),  # 0: not at all
            )
        ):
            began = time.process_time()
            call()
            row[place] = time.process_time() - began
    ours, floor, whole = times[1:].T
    figure = Figure(
        ratio=float(np.median(floor / ours)),
        target=TARGET,
        ours=len(photos) / float(np.median(ours)),
        theirs=len(photos) / float(np.median(floor)),
        unit="images/CPU-s",
    )
    decoder = round(float(np.median(floor / whole)), 3)
    report("decode_floor", {"crop_0.67": figure}, arguments.json, decoder_alone_ratio=decoder)


if __name__ == "__main__":
    main()
