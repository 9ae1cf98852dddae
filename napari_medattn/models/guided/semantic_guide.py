"""The semantic guide: a small autoencoder whose reconstruction steers an attention step.

Sinha and Dolz, arXiv 1906.02849, section on guiding attention. One guide is shared by all scales of a step.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from napari_medattn.models.convolution import ConvUnit

# The scales that a guide serves, deepest first: scale n is what the encoder's stage n gives.
SCALES = (4, 3, 2, 1)


def _encode(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            first=ConvUnit(2, in_channels, out_channels),
            second=ConvUnit(2, out_channels, out_channels),
            pool=nn.MaxPool2d(2),
        )
    )


def _decode(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            first=ConvUnit(2, in_channels, out_channels),
            second=ConvUnit(2, out_channels, out_channels),
            up=nn.ConvTranspose2d(out_channels, out_channels, 2, stride=2),
        )
    )


class SemanticGuide(nn.Module):
    """Two encoding and two decoding blocks without skips.

    Args:
        channels: Channels that come in and go out; the code has four times as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.encode1 = _encode(channels, 2 * channels)
        self.encode2 = _encode(2 * channels, 4 * channels)
        self.decode2 = _decode(4 * channels, 2 * channels)
        self.decode1 = _decode(2 * channels, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, channels, Y, X) with sides that are multiples of 4.

        Returns:
            The code (B, 4 channels, Y / 4, X / 4) and the reconstruction, shaped as ``x``.
        """
        code = self.encode2(self.encode1(x))
        return code, self.decode1(self.decode2(code))
