"""ConvNeXt through timm, with the mask token after the stem's norm."""

from __future__ import annotations

from timm.models.convnext import ConvNeXt
from torch import Tensor

from mimray.mim.encoders.convnet import ConvEncoder
from mimray.mim.encoders.protocol import EncoderSpec


class ConvNeXtEncoder(ConvEncoder, ConvNeXt):  # type: ignore[misc]  # forward is Encoder's
    """Satisfies `Encoder`. Source: A ConvNet for the 2020s, section 2 and appendix A.

    The last norm (timm's `norm_pre`) stands on the feature map; the published classifier has the same
    one after its pooling (timm's `head.norm`). timm's class has four stages, no other number.
    """

    family = "convnext"
    stem_overlaps = False

    def __init__(
        self,
        drop_path: float,
        embed: int,
        depths: tuple[int, int, int, int],
    ) -> None:
        widths = tuple(embed * 2**stage for stage in range(len(depths)))
        super().__init__(
            num_classes=0,
            depths=depths,
            dims=widths,
            head_norm_first=True,
            drop_path_rate=drop_path,
        )
        self.describe(embed, widths, depths)

    def run_stem(self, images: Tensor) -> Tensor:
        return self.stem(images)

    def run_stages(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        features[-1] = self.norm_pre(x)
        return features


def _spec(embed: int, depths: tuple[int, int, int, int]) -> EncoderSpec:
    return EncoderSpec("convnext", ConvNeXtEncoder, {"embed": embed, "depths": depths})


SPECS = {
    "convnext_nano": _spec(24, (1, 1, 2, 1)),
    "convnext_tiny": _spec(96, (3, 3, 9, 3)),
    "convnext_small": _spec(96, (3, 3, 27, 3)),
    "convnext_base": _spec(128, (3, 3, 27, 3)),
    "convnext_large": _spec(192, (3, 3, 27, 3)),
}
