"""Pretraining: a source model from source data, and the same architecture from scratch on the target."""

from headstart.config import Training
from headstart.data.dataset import Dataset
from headstart.models.architectures import build_network
from headstart.models.bundle import ModelBundle, versions
from headstart.models.preprocessing import Preprocessing
from headstart.training.loop import Fit, OnEpoch, fit
from headstart.training.plan import Plan, make_plan
from headstart.training.progress import Progress


def train_from_scratch(
    architecture: str,
    dataset: Dataset,
    *,
    training: Training,
    role: str,
    metric: str = "accuracy",
    seed: int = 0,
    size: int | None = None,
    channels: int | None = None,
    on_epoch: OnEpoch | None = None,
    progress: Progress | None = None,
    label: str = "training",
) -> tuple[ModelBundle, Fit, Plan]:
    """A randomly initialised `architecture`, trained on `dataset`.

    `size` and `channels` are those of the network's input, by default those of the stored samples. `role` is
    `source` when this is pretraining and `baseline` when it is what a transfer has to beat.
    """
    import torch

    height, _, stored_channels = dataset.shape
    torch.manual_seed(seed)
    preprocessing = Preprocessing.fit(
        dataset.split("train").samples, size=size or height, channels=channels or stored_channels
    )
    bundle = ModelBundle(
        network=build_network(architecture, classes=len(dataset.classes), channels=preprocessing.channels),
        architecture=architecture,
        modality=dataset.modality,
        preprocessing=preprocessing,
        classes=dataset.classes,
        provenance={
            "role": role,
            "strategy": "scratch" if role == "baseline" else "pretraining",
            **dataset.digests,
            "source": None,
            "seed": seed,
            "head": "trained",
            "versions": versions(),
        },
    )
    plan = make_plan(training, dataset.split("train").labels, pretrained=False)
    fitted = fit(bundle, dataset, plan, metric=metric, seed=seed, on_epoch=on_epoch, progress=progress, label=label)
    bundle.provenance["history"] = fitted.history
    return bundle, fitted, plan
