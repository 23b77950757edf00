"""fastai: DataLoaders from folders and a Learner."""

from functools import partial

import torch
from fastai.basics import (
    Callback,
    CancelValidException,
    CrossEntropyLossFlat,
    DataLoaders,
    Learner,
    OptimWrapper,
    params,
)
from fastai.callback.channelslast import ChannelsLast
from fastai.callback.progress import ProgressCallback  # noqa: F401 - what `from fastai.vision.all import *` shows
from fastai.callback.schedule import fine_tune, fit_one_cycle  # noqa: F401 - they become methods of Learner
from fastai.vision.augment import Resize
from fastai.vision.data import ImageDataLoaders, Normalize
from torch import nn

from benchmarks.peers.loading import tensor_loader
from benchmarks.peers.work import Work


def train(work: Work, tuned: bool) -> None:
    """Defaults are those of its quick start: Adam, one cycle, `fine_tune`, whose first epoch trains the head alone, and
    frozen stages whose batch-norm goes on training."""
    # The Learner moves its model where its data is; frozen batch-norm that stays as it is, is this project's freezing.
    if tuned:
        work.network.freeze(work.frozen)
    learner = _tuned(work) if tuned else _default(work)
    epochs = work.epochs
    if work.task in ("linear_probe", "partial"):
        learner.freeze()
    if work.task == "full":
        # One epoch for the head and the others for everything: as many as everybody has.
        learner.fine_tune(epochs - 1, **({"base_lr": 2 * work.rate} if tuned else {}))
    else:
        learner.fit_one_cycle(epochs, **({"lr_max": work.rate} if tuned else {}))


def _default(work: Work) -> Learner:
    loaders = ImageDataLoaders.from_folder(
        work.images,
        valid="val",
        item_tfms=Resize(work.size),
        batch_tfms=Normalize.from_stats(work.mean, work.std),
        bs=work.batch_size,
        device=work.device,
    )
    return Learner(loaders, work.network, CrossEntropyLossFlat(), splitter=partial(_groups, work), cbs=_Epochs(work))


def _tuned(work: Work) -> Learner:
    loader = tensor_loader(work)
    return Learner(
        DataLoaders(loader, loader, device=work.device),
        work.network,
        CrossEntropyLossFlat(),
        opt_func=partial(OptimWrapper, opt=partial(torch.optim.AdamW, fused=True)),
        splitter=partial(_groups, work),
        wd=0.01,
        train_bn=False,
        default_cbs=True,
        cbs=[_Epochs(work), ChannelsLast(), _Autocast(work)],
    )


def _groups(work: Work, network: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters in groups from input to output, of which `freeze` lets the last one train."""
    stages = list(network.stages)
    if work.task == "scratch":
        return [params(network)]
    if work.task == "full":
        half = -(-len(stages) // 2)
        parts = [stages[:half], stages[half:], [network.head]]
    else:
        parts = [stages[: work.frozen], [*stages[work.frozen :], network.head]]
    return [[parameter for module in part for parameter in params(module)] for part in parts]


class _Epochs(Callback):
    """Tells the watch, and leaves validation out: no other peer spends time on it."""

    def __init__(self, work: Work) -> None:
        self.work, self.begun = work, False

    def before_train(self) -> None:
        if not self.begun:
            self.begun = True
            self.work.watch.begin(self.work.network, whole=self.work.task == "scratch")

    def after_train(self) -> None:
        self.work.watch.epoch(self.work.network)

    def before_validate(self) -> None:
        raise CancelValidException


class _Autocast(Callback):
    """What fastai's MixedPrecision does, which asks for CUDA, on any device."""

    order = 10

    def __init__(self, work: Work) -> None:
        self.work = work

    def before_batch(self) -> None:
        self.learn.xb = (self.learn.xb[0].contiguous(memory_format=torch.channels_last),)
        self.context = self.work.autocast(True)
        self.context.__enter__()

    def after_pred(self) -> None:
        self.learn.pred = self.learn.pred.float()

    def after_loss(self) -> None:
        self.context.__exit__(None, None, None)
