"""`convnet`: a small residual network that learns small pictures on a CPU in seconds.

0.22 M parameters; 3.6 M multiply-adds for a grey 32x32 picture. Over four seeds, with AdamW, a warm-up and cosine
schedule and random shifts: after 6 epochs at a rate of 3e-3 on 4000 pictures of MNIST-5k (10 s on one core) it has .976
accuracy on the other 1000 (.972 to .981). On scikit-learn's digits with 5 labels a class, 40 epochs, it has .76 from a
random start at 3e-3 (.72 to .81) and .91 from MNIST at 1e-3 (.90 to .93).

The fourth residual stage is worth more than width: without it, transfer reaches .77 with widths 16, 32, 64 and .80 with
24, 48, 96 at twice the cost (two seeds each). A last width of 128 gains .02 there for 40% more parameters.
"""

from itertools import pairwise

from torch import Tensor, nn

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
