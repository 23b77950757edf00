"""`convnet`: a small residual network (0.22 M parameters) that learns small pictures on a CPU in seconds.

Its accuracies, and why it has these widths: docs/studies/convnet.md.
"""

from itertools import pairwise

from torch import Tensor, nn

from headstart.models.architectures import Architecture
from headstart.models.network import Network, linear_head

_WIDTHS = (16, 32, 64, 96)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016), halving the resolution where `stride` is 2.

    The shortcut of a strided block averages before it projects, so that it drops no pixel (ResNet-D, He et al.
    2019). The second batch norm starts at 0, so that a block starts as its shortcut (Goyal et al. 2017).
    """

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(width_out, width_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(width_out),
        )
        nn.init.zeros_(self.residual[-1].weight)  # type: ignore[arg-type]
        self.shortcut: nn.Module = nn.Identity()
        if width_in != width_out or stride > 1:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True),
                nn.Conv2d(width_in, width_out, 1, bias=False),
                nn.BatchNorm2d(width_out),
            )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.residual(x) + self.shortcut(x))
        return out


def convnet(*, classes: int, channels: int = 3) -> Network:
    """Five stages: a strided stem and four residual blocks of widths 16, 32, 64 and 96; any input of ≥ 16 px."""
    stem = nn.Sequential(
        nn.Conv2d(channels, _WIDTHS[0], 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(_WIDTHS[0]),
        nn.ReLU(inplace=True),
    )
    blocks: list[nn.Module] = [ResidualBlock(_WIDTHS[0], _WIDTHS[0], stride=1)]
    blocks += [ResidualBlock(before, after, stride=2) for before, after in pairwise(_WIDTHS)]
    blocks[-1] = nn.Sequential(blocks[-1], nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for module in nn.Sequential(stem, *blocks).modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return Network([stem, *blocks], linear_head(_WIDTHS[-1], classes))


ARCHITECTURE = Architecture(convnet)
