"""ResNet through timm, with the mask token after the stem."""

from __future__ import annotations

from typing import Any

from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn

from mimray.mim.encoders.convnet import ConvEncoder
from mimray.mim.encoders.protocol import EncoderSpec


class ResNetEncoder(ConvEncoder, ResNet):  # type: ignore[misc]  # forward is Encoder's
    """Satisfies `Encoder`, but for the last norm: a ResNet ends with a ReLU and has none.

    `embed`: width of the stem and of the first stage's 3 x 3 convolutions, 64 in ResNet-50. A wider
    ResNet is wider everywhere, its stem too: ResNet-50x4 is SimCLR's, of 375 M parameters (google-
    research/simclr `resnet.py`, width_multiplier).
    """

    family = "resnet"

    def __init__(
        self,
        drop_path: float,
        embed: int,
        depths: tuple[int, ...],
    ) -> None:
        channels = tuple(embed * 2**stage for stage in range(len(depths)))
        block: Any = Bottleneck  # timm's hint asks for an instance
        super().__init__(block, depths, num_classes=0, channels=channels, drop_path_rate=drop_path)
        self._set_stem_width(embed)
        self.describe(embed, tuple(Bottleneck.expansion * c for c in channels), depths)

    def _set_stem_width(self: Any, width: int) -> None:
        """timm's stem has 64 channels whatever the stages have; put in one of `width`."""
        if width == self.conv1.out_channels:
            return
        first = self.layer1[0]
        outputs = first.downsample[0].out_channels
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        first.conv1 = nn.Conv2d(width, first.conv1.out_channels, 1, bias=False)
        first.downsample[0] = nn.Conv2d(width, outputs, 1, bias=False)
        self.init_weights()

    def run_stem(self, images: Tensor) -> Tensor:
        return self.maxpool(self.act1(self.bn1(self.conv1(images))))

    def run_stages(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for layer in self._layers():
            x = layer(x)
            features.append(x)
        return features

    def stage_blocks(self) -> list[list[nn.Module]]:
        return [list(layer) for layer in self._layers()]

    def _layers(self) -> list[Any]:
        """timm's stages: sequences of blocks, the first of which halves the grid."""
        return [getattr(self, f"layer{number}") for number in range(1, len(self.depths) + 1)]


def _spec(embed: int, depths: tuple[int, ...]) -> EncoderSpec:
    return EncoderSpec("resnet", ResNetEncoder, {"embed": embed, "depths": depths})


SPECS = {
    "resnet_nano": _spec(32, (2, 2, 2)),
    "resnet50": _spec(64, (3, 4, 6, 3)),
    "resnet50x4": _spec(256, (3, 4, 6, 3)),
}
