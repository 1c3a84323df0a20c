"""Decode, crop and scale on one thread, beside SimMIM's own transform at the same boxes.

`ours` is what a data task does, from bytes in memory to a batch of uint8; `theirs` is Pillow and
torchvision, from the same bytes to normalised float32. CPU time, rounds in turn, median of their
ratios. Over all pictures the two must be alike to 70 dB.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import time
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from benchmarks._pictures import (
    MEAN,
    STD,
    MemorySource,
    SimmimTransform,
    read_pictures,
    skipped,
)
from benchmarks._report import Figure, report
from mimray.data.crop import Crop, draws, random_crop
from mimray.data.decode import decode
from mimray.data.framing import Framing
from mimray.data.load import load_block
from mimray.data.plan import Block

ROUNDS = 9
LEAST_PSNR = 70.0  # dB
SIMMIM = Framing(192, True, 0, (0.67, 1.0), (3 / 4, 4 / 3), 0.5)


class Pictures:
    """Photos, and both ways over all of them."""

    def __init__(self, pictures: list[bytes], framing: Framing) -> None:
        self.pictures, self.framing = pictures, framing
        self.source, self.reference = MemorySource(pictures), SimmimTransform(192, framing.scale)
        self.rows = np.arange(len(pictures))
        self.sizes = [Image.open(io.BytesIO(data)).size for data in pictures]

    def ours(self, epoch: int) -> np.ndarray:
        """All pictures as a data task gives them: uint8 (n, 192, 192, 3)."""
        none = np.zeros((len(self.rows), 0), dtype=np.int64)
        block = Block(self.rows, np.full_like(self.rows, epoch), none)
        return load_block(self.source, block, self.framing)["image"]  # type: ignore[arg-type]

    def boxes(self, epoch: int) -> list[Crop]:
        """Where a data task cuts them."""
        numbers = draws(self.framing.seed, self.rows, np.full_like(self.rows, epoch))
        frame = self.framing.scale, self.framing.ratio, self.framing.flip
        return [
            random_crop(height, width, *frame, draw)
            for (width, height), draw in zip(self.sizes, numbers, strict=True)
        ]

    def theirs(self, boxes: list[Crop]) -> None:
        """All pictures by the reference, each thrown away."""
        for data, box in zip(self.pictures, boxes, strict=True):
            self.reference.at(data, box)

    def psnr(self) -> tuple[float, float]:
        """PSNR (dB) to the reference over all pictures, and the least of one picture."""
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        errors = []
        for got, data, box in zip(self.ours(0), self.pictures, self.boxes(0), strict=True):
            bytes_ = ((self.reference.at(data, box) * std + mean) * 255).round()
            errors.append(float((bytes_ - torch.from_numpy(got).permute(2, 0, 1)).square().mean()))
        return decibels(statistics.fmean(errors)), decibels(max(errors))


def decibels(error: float) -> float:
    """PSNR of a mean square error of bytes."""
    return 10 * float(np.log10(255**2 / max(error, 1e-10)))


def prepared(data: bytes) -> bytes:
    """Shorter side 256, quality 90, as `mimray data prepare` stores photos."""
    image, out = Image.open(io.BytesIO(data)).convert("RGB"), io.BytesIO()
    share = 256 / min(image.size)
    size = round(image.width * share), round(image.height * share)
    image.resize(size, Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


def compare(pictures: Pictures, target: float) -> Figure:
    """Rates of both in turn, and the median of the rounds' ratios."""
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for epoch in range(ROUNDS + 1):  # the first warms up
        boxes = pictures.boxes(epoch)
        for name, call in (
            ("ours", lambda e=epoch: pictures.ours(e)),
            ("theirs", lambda b=boxes: pictures.theirs(b)),
        ):
            began = time.process_time()
            call()
            times[name].append(time.process_time() - began)
    ours, theirs = (np.array(times[name][1:]) for name in ("ours", "theirs"))
    count = len(pictures.pictures)
    return Figure(
        ratio=float(np.median(theirs / ours)),
        target=target,
        ours=count / float(np.median(ours)),
        theirs=count / float(np.median(theirs)),
        unit="images/CPU-s",
    )


def largest_difference(pictures: list[bytes]) -> int:
    """Between our decoder and Pillow's, over all pictures."""
    pairs = ((decode(data), Image.open(io.BytesIO(data)).convert("RGB")) for data in pictures)
    return max(int(np.abs(a.astype(np.int16) - np.asarray(b)).max()) for a, b in pairs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--images", help="folder of JPEGs; ../shared/data/photos_hi when not given")
    arguments = parser.parse_args()
    photos = read_pictures(arguments.images)
    if photos is None:
        skipped("decode", arguments.json)
        return
    torch.set_num_threads(1)
    rows = {
        "crop_0.67": (Pictures(photos, SIMMIM), 1.75),
        "crop_0.08": (Pictures(photos, replace(SIMMIM, scale=(0.08, 1.0))), 1.5),
        "prepared_256": (Pictures([prepared(data) for data in photos], SIMMIM), 1.9),
    }
    psnr = {name: pictures.psnr() for name, (pictures, _) in rows.items()}
    figures = {name: compare(pictures, target) for name, (pictures, target) in rows.items()}
    report(
        "decode",
        figures,
        arguments.json,
        psnr_db={name: round(over_all, 1) for name, (over_all, _) in psnr.items()},
        psnr_db_least_of_a_picture={name: round(least, 1) for name, (_, least) in psnr.items()},
        decoder_largest_difference=largest_difference(photos),
    )
    poor = [name for name, (over_all, _) in psnr.items() if over_all < LEAST_PSNR]
    if poor:
        sys.exit(f"less than {LEAST_PSNR:g} dB to the reference: {', '.join(poor)}")


if __name__ == "__main__":
    main()
