"""A bundle's network as the model of the library that it was made of: timm's, torchvision's or transformers' own.

Its tensors have the library's names, so that the library alone reads them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headstart.errors import HeadstartError
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.bundle import ModelBundle
from headstart.models.network import Network
from headstart.models.tracing import Call, Examples, NoHead, last_linear, traced_network

TIMM, TRANSFORMERS = "timm/", "transformers/"


class NotTheLibrarys(HeadstartError):  # noqa: N818 - a model's state
    """The network is not one that the library builds by its name; the message says why."""


@dataclass(frozen=True)
class LibraryModel:
    """The model in eval mode with a bundle's weights, and how it is run: maps float32 (N, C, H, W) to logits
    (N, classes), or to features where the bundle has no classes.

    The temperature is part of its classifier, whose path is `head`, so that a softmax of its logits gives the bundle's
    probabilities.
    """

    model: nn.Module
    call: Callable[[Tensor], Tensor]
    head: str

    @property
    def state(self) -> dict[str, Tensor]:
        """The tensors by the library's names, none of which share memory; without those of a classifier that the bundle
        has not."""
        return {name: tensor.detach().clone().contiguous() for name, tensor in self.model.state_dict().items()}


def expected_outputs(bundle: ModelBundle, count: int) -> tuple[Tensor, Tensor]:
    """Return preprocessed samples of noise and what a model made of the bundle computes of them: its logits divided by
    the temperature, or its features where it has no classes."""
    samples = bundle.preprocessing.noise(count)
    with torch.inference_mode():
        inputs = bundle.preprocessing(torch.from_numpy(samples))
    assert isinstance(inputs, Tensor)  # noqa: S101 (libraries' models read one tensor)
    if not bundle.classes:
        return inputs, torch.from_numpy(bundle.predict_features(samples))
    return inputs, torch.from_numpy(bundle.predict_logits(samples)) / bundle.temperature


def timm_model_of(bundle: ModelBundle) -> LibraryModel:
    """Return timm's model with the bundle's weights.

    Raises:
        NotTheLibrarys: the bundle's architecture is none of timm's, or its classifier is no linear layer.
    """
    from headstart.models import timm

    name = _of_pictures(bundle, TIMM, "timm")
    with torch.random.fork_rng(devices=[]):
        model = timm.timm_model(name, classes=len(bundle.classes), channels=bundle.preprocessing.channels).eval()
    filled = _filled(bundle, model, timm.examples(model, bundle.preprocessing.channels), lambda each, x: each(x))
    if not bundle.classes:
        model.reset_classifier(0)  # type: ignore[operator]
    return filled


def transformers_model_of(bundle: ModelBundle) -> LibraryModel:
    """Return transformers' image classifier with the bundle's weights, whose configuration names the classes; errors as
    in `timm_model_of`."""
    from headstart.models import transformers

    name = _of_pictures(bundle, TRANSFORMERS, "transformers")
    channels = bundle.preprocessing.channels
    with torch.random.fork_rng(devices=[]):
        model = transformers.transformers_model(name, classes=len(bundle.classes), channels=channels).eval()
    if bundle.classes:
        model.config.id2label = dict(enumerate(bundle.classes))  # type: ignore[union-attr]
        model.config.label2id = {name: number for number, name in enumerate(bundle.classes)}  # type: ignore[union-attr]
    filled = _filled(bundle, model, transformers.examples(model, channels), transformers.logits_of)
    if not bundle.classes:
        model.set_submodule(filled.head, nn.Identity())
    return filled


def torchvision_model_of(bundle: ModelBundle) -> LibraryModel:
    """Return torchvision's model with the bundle's weights; errors as in `timm_model_of`, and where headstart has a
    head of its own for a family."""
    from headstart.models import torchvision

    name = bundle.architecture
    if name not in torchvision.list_models() or not isinstance(bundle.preprocessing, Preprocessing):
        raise NotTheLibrarys(f"{_short(name)} is none of torchvision's classifiers of pictures")
    parts = torchvision.family(name)
    if parts.pooled_width or not bundle.classes or bundle.preprocessing.channels != 3:
        raise NotTheLibrarys(f"torchvision's {name} has another head or reads another number of channels")
    with torch.random.fork_rng(devices=[]):
        model = torchvision.library_model(name, len(bundle.classes)).eval()
        if getattr(model, "image_size", bundle.preprocessing.size) != bundle.preprocessing.size:
            raise NotTheLibrarys(f"torchvision's {name} reads pictures of another size")
        network = torchvision.as_network(name, model, classes=len(bundle.classes), trained=False)
    _fill(model, network, parts.head, bundle)
    return LibraryModel(model, lambda x: model(x), parts.head)


def _of_pictures(bundle: ModelBundle, prefix: str, library: str) -> str:
    if not bundle.architecture.startswith(prefix):
        raise NotTheLibrarys(f"{_short(bundle.architecture)} is no model of {library}")
    if not isinstance(bundle.preprocessing, Preprocessing):
        raise NotTheLibrarys(f"a folder of {library} cannot say how {bundle.modality} data become its input")
    return bundle.architecture.removeprefix(prefix)


def _filled(bundle: ModelBundle, model: nn.Module, examples: Examples, call: Call) -> LibraryModel:
    """The model with the bundle's weights: the network that is made of it shares its tensors, whose names it knows."""
    classes = len(bundle.classes)
    path = last_linear(model, examples, call)
    if path is None:
        raise NotTheLibrarys(f"{_short(bundle.architecture)} has no linear classifier")
    head = model.get_submodule(path)
    try:
        network = traced_network(model, examples, classes=classes, has_head=True, call=call)
    except NoHead:
        raise NotTheLibrarys(f"{_short(bundle.architecture)} does not end with a linear layer on a vector") from None
    model.set_submodule(path, head)
    _fill(model, network, path, bundle)
    return LibraryModel(model, lambda x: call(model, x), path)


def _fill(model: nn.Module, network: Network, head: str, bundle: ModelBundle) -> None:
    """Put the bundle's weights into a model that shares all tensors but the head's with `network`."""
    names = {id(tensor): name for name, tensor in model.state_dict(keep_vars=True).items()}
    given = bundle.network.state_dict()
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    for name, tensor in network.state_dict(keep_vars=True).items():
        if name.startswith("head."):
            continue
        own = names.get(id(tensor))
        if own is None or given[name].shape != tensor.shape:
            raise NotTheLibrarys(f"{_short(bundle.architecture)} holds {name}, which the library's model does not")
        state[own] = given[name].detach().cpu()
    if bundle.classes:
        for part in ("weight", "bias"):
            own, value = f"{head}.{part}", given[f"head.{part}"].detach().cpu() / bundle.temperature
            if own in state:
                state[own] = value.reshape(state[own].shape)
            elif value.any():
                raise NotTheLibrarys(f"the classifier of {_short(bundle.architecture)} has no bias, and this one has")
    model.load_state_dict(state)


def _short(architecture: str) -> str:
    return architecture.partition("?")[0][:100]
