"""torchvision's classification networks as stages and a head.

Importing this module imports torchvision (4 s).
"""

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models
from torchvision.models.swin_transformer import PatchMerging, PatchMergingV2

from headstart.errors import InputError
from headstart.models.network import Network, linear_head
from headstart.models.stages import cut_into_stages, reduces_resolution


@dataclass(frozen=True)
class Family:
    """Module paths of the parts of a family's models; `path.*` stands for the children of `path`, in order.

    `trunk` is cut into stages, `tail` pools its feature map to a vector, `dropout` acts on the vector and `head` is the
    linear classifier. In a tail, `pool` stands for global average pooling to a vector and `relu` for the function.
    Weights whose names start with one of `left_out` are not used: auxiliary classifiers, and the classifier of families
    with a new head.

    A family gets a new head, on `pooled_width` pooled features, if torchvision's classifier is not a linear layer on a
    pooled vector: the fully connected layers of AlexNet and VGG (124 M of VGG16's 138 M parameters), and the averaged
    map of rectified scores of SqueezeNet.

    `rescales_input` marks families whose torchvision code, given trained weights, converts ImageNet's mean and standard
    deviation to 0.5 and 0.5 in forward (`transform_input`); here the preprocessing does that.
    """

    trunk: str
    tail: str = "pool"
    head: str = ""
    pooled_width: int = 0
    dropout: str = ""
    left_out: tuple[str, ...] = ()
    rescales_input: bool = False


_GOOGLENET = (
    "conv1 maxpool1 conv2 conv3 maxpool2 inception3a inception3b maxpool3 "
    "inception4a inception4b inception4c inception4d inception4e maxpool4 inception5a inception5b"
)
_INCEPTION = (
    "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 maxpool1 Conv2d_3b_1x1 Conv2d_4a_3x3 maxpool2 "
    "Mixed_5b Mixed_5c Mixed_5d Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e Mixed_7a Mixed_7b Mixed_7c"
)
_MAXVIT_TAIL = "classifier.0 classifier.1 classifier.2 classifier.3 classifier.4"
# By the name of torchvision's module.
_FAMILIES = {
    "alexnet": Family("features.*", pooled_width=256, dropout="classifier.0", left_out=("classifier.",)),
    "convnext": Family("features.*", "avgpool classifier.0 classifier.1", head="classifier.2"),
    "densenet": Family("features.*", "relu pool", head="classifier"),
    "efficientnet": Family("features.*", head="classifier.1", dropout="classifier.0"),
    "googlenet": Family(_GOOGLENET, head="fc", dropout="dropout", left_out=("aux1.", "aux2."), rescales_input=True),
    "inception": Family(_INCEPTION, head="fc", dropout="dropout", left_out=("AuxLogits.",), rescales_input=True),
    "maxvit": Family("stem blocks.*", _MAXVIT_TAIL, head="classifier.5"),
    "mnasnet": Family("layers.*", head="classifier.1", dropout="classifier.0"),
    "mobilenetv2": Family("features.*", head="classifier.1", dropout="classifier.0"),
    "mobilenetv3": Family("features.*", "pool classifier.0 classifier.1", head="classifier.3", dropout="classifier.2"),
    "regnet": Family("stem trunk_output.*", head="fc"),
    "resnet": Family("conv1 bn1 relu maxpool layer1 layer2 layer3 layer4", head="fc"),
    "shufflenetv2": Family("conv1 maxpool stage2 stage3 stage4 conv5", head="fc"),
    "squeezenet": Family("features.*", pooled_width=512, dropout="classifier.0", left_out=("classifier.",)),
    "swin_transformer": Family("features.*", "norm permute avgpool flatten", head="head"),
    "vgg": Family("features.*", pooled_width=512, dropout="classifier.2", left_out=("classifier.",)),
    # PatchEmbedding and ClassToken are added; in torchvision they are code in forward, not modules.
    "vision_transformer": Family("encoder.layers.*", "encoder.ln", head="heads.head"),
}


def list_models() -> list[str]:
    """Return the names of torchvision's classification models."""
    return list(models.list_models(module=models))


def family(architecture: str) -> Family:
    """Return the family of a torchvision model."""
    return _FAMILIES[models.get_model_builder(architecture).__module__.rpartition(".")[2]]


def torchvision_network(architecture: str, *, classes: int, state: dict[str, Tensor] | None = None) -> Network:
    """Build a torchvision model as a `Network` for RGB images.

    `state` is the state dict of that torchvision model with as many classes; without it the weights are random.

    Raises:
        InputError: `state` belongs to another model.
    """
    # Only the width of the classifier is used, unless it is trained; some models cannot be built with 0 classes.
    parts = family(architecture)
    model = _build(architecture, max(classes, 1), parts)
    if state is not None:
        _load(model, state, architecture, parts)
    return as_network(architecture, model, classes=classes, trained=state is not None)


def library_model(architecture: str, classes: int) -> nn.Module:
    """Build torchvision's own model, randomly initialised."""
    return _build(architecture, classes, family(architecture))


def as_network(architecture: str, model: nn.Module, *, classes: int, trained: bool) -> Network:
    """Return torchvision's own model as a `Network`, which shares its tensors; the head is the model's own where it is
    `trained`, else new."""
    parts = family(architecture)
    trunk, tail = list(_modules(model, parts.trunk)), list(_modules(model, parts.tail))
    if isinstance(model, models.VisionTransformer):
        # The resolution is constant: each encoder block is a stage, as in layer-wise decay (Bao et al. 2022).
        stages = [nn.Sequential(module) for module in (PatchEmbedding(model), *trunk)]
        tail.append(ClassToken())
    else:
        stages = cut_into_stages(trunk, _starts_stage)
    stages[-1].extend(tail)
    dropout = next((m.p for m in _modules(model, parts.dropout) if isinstance(m, nn.Dropout)), 0.0)
    return Network(stages, _head(model, classes, parts, trained=trained), dropout=dropout)


def reference_model(architecture: str, state: dict[str, Tensor], *, classes: int, logits: bool) -> nn.Module:
    """Return torchvision's own model with a state dict, in eval mode: its forward pass gives logits, or the features
    that `torchvision_network` gives."""
    parts = family(architecture)
    with torch.random.fork_rng(devices=[]):
        model = _build(architecture, max(classes, 1), parts)
    _load(model, state, architecture, parts)
    if parts.pooled_width:
        return nn.Sequential(model.get_submodule("features"), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    if not logits:
        model.set_submodule(parts.head, nn.Identity())
    return model.eval()


class PatchEmbedding(nn.Module):
    """Image (N, C, H, W) to class token and patches with their positions (N, 1 + patches, width).

    The position embedding is learned for one grid of patches and interpolated for images of another size (Dosovitskiy
    et al. 2021, section 3.2). A loaded state dict replaces the grid.
    """

    def __init__(self, model: models.VisionTransformer) -> None:
        super().__init__()
        self.projection = model.conv_proj
        self.class_token = model.class_token
        self.positions = model.encoder.pos_embedding
        self.dropout = model.encoder.dropout

    def forward(self, x: Tensor) -> Tensor:
        patches = self.projection(x)
        rows, columns = patches.shape[-2:]
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        out: Tensor = self.dropout(tokens + self._positions_for(rows, columns))
        return out

    def _positions_for(self, rows: int, columns: int) -> Tensor:
        side = round((self.positions.shape[1] - 1) ** 0.5)
        if (rows, columns) == (side, side):
            return self.positions
        token, grid = self.positions[:, :1], self.positions[:, 1:]
        grid = grid.transpose(1, 2).unflatten(2, (side, side))
        grid = F.interpolate(grid, (rows, columns), mode="bicubic", antialias=True)
        return torch.cat([token, grid.flatten(2).transpose(1, 2)], dim=1)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        positions = state_dict.get(f"{prefix}positions")
        if positions is not None and positions.shape[::2] == self.positions.shape[::2]:
            self.positions = nn.Parameter(torch.empty_like(positions), self.positions.requires_grad)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class ClassToken(nn.Module):
    """Tokens (N, 1 + patches, width) to the class token (N, width)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


def _build(architecture: str, classes: int, parts: Family) -> nn.Module:
    """Build torchvision's own model, randomly initialised."""
    if parts.pooled_width:
        # The classifier is not used; on the meta device its 124 M weights take neither memory nor time.
        with torch.device("meta"):
            model: nn.Module = models.get_model(architecture, num_classes=classes)
        _initialise(model.get_submodule("features").to_empty(device="cpu"))
        return model
    # With auxiliary classifiers, forward returns a tuple in training mode.
    options = {"aux_logits": False, "init_weights": True} if parts.rescales_input else {}
    built: nn.Module = models.get_model(architecture, num_classes=classes, **options)
    return built


def _initialise(features: nn.Module) -> None:
    """Initialise a plain convolutional network as torchvision does VGG (He et al. 2015)."""
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def _load(model: nn.Module, state: dict[str, Tensor], architecture: str, parts: Family) -> None:
    # A shallow copy keeps the state dict's version attribute, which MNASNet reads.
    wanted = copy.copy(state)
    for name in state:
        if name.startswith(parts.left_out):
            del wanted[name]
        elif renamed := _DENSELAYER.match(name):
            wanted["".join(renamed.groups())] = wanted.pop(name)
    positions = wanted.get("encoder.pos_embedding")
    if isinstance(model, models.VisionTransformer) and positions is not None:
        # Weights trained at another image size have another grid, which PatchEmbedding keeps.
        model.encoder.pos_embedding = nn.Parameter(torch.empty_like(positions))
    expected = model.state_dict()
    unfit = sorted(
        name
        for name in expected.keys() | wanted.keys()
        if not name.startswith(parts.left_out)
        and (name not in wanted or name not in expected or wanted[name].shape != expected[name].shape)
    )
    if unfit:
        raise InputError(
            f"the weights are not those of torchvision's {architecture}: {len(unfit)} tensors are missing, unknown or "
            f"of another shape, {', '.join(unfit[:3])} among them"
        )
    model.load_state_dict(wanted, strict=False)


# Names like denselayer1.norm.1.weight date from before PyTorch 0.4; torchvision's DenseNet files contain them.
_DENSELAYER = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$")


def _modules(model: nn.Module, paths: str) -> Iterator[nn.Module]:
    for path in paths.split():
        if path == "pool":
            yield from (nn.AdaptiveAvgPool2d(1), nn.Flatten())
        elif path == "relu":
            yield nn.ReLU(inplace=True)
        elif path.endswith(".*"):
            yield from model.get_submodule(path.removesuffix(".*")).children()
        else:
            yield model.get_submodule(path)


def _starts_stage(module: nn.Module) -> bool:
    return reduces_resolution(module) or isinstance(module, PatchMerging | PatchMergingV2)


def _head(model: nn.Module, classes: int, parts: Family, trained: bool) -> nn.Linear:
    if parts.pooled_width:
        return linear_head(parts.pooled_width, classes)
    own = model.get_submodule(parts.head)
    assert isinstance(own, nn.Linear)  # noqa: S101 - a fact about torchvision that the tests check for each family
    head = linear_head(own.in_features, classes)
    if trained:
        with torch.no_grad():
            head.weight.copy_(own.weight)
            if own.bias is not None:
                head.bias.copy_(own.bias)
    return head
