"""What an expert writes for this very case, who knows the data, the network and the machine: nothing is asked, checked,
kept or recorded, and no epoch is validated.

Pictures are decoded once into memory, augmentation is of whole batches, the steps are those of a bare loop, and the
head of a probe is scikit-learn's, tuned by cross-validation.
"""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from torchvision.io import ImageReadMode, decode_image

from benchmarks.peers.work import Work
from headstart.models.architectures import build_network
from headstart.models.network import Network
from headstart.training.batches import epoch_batches
from headstart.training.schedule import warmup_cosine

# Penalties in the middle of which the chosen one lies in both cases, and pictures of a forward pass, by their side:
# whatever was faster here.
PENALTIES = np.logspace(-4, -1, 4)
_FORWARD = {32: 256, 224: 32}


def train(work: Work) -> None:
    """A probe, or a training with headstart's own schedule, rate, order and augmentation."""
    with ThreadPoolExecutor(2) as pool:
        pictures, labels = _decoded(work, "train", pool)
        # The others are read as well: headstart prepares them too.
        for split in ("val", "test"):
            _decoded(work, split, pool)
    work.watch.prepared()
    network = _network(work, pictures)
    # All are read again and again, and fit into memory: nothing is left to do for a step but to move them.
    images = _normalised(work, pictures)
    if work.task == "linear_probe":
        work.watch.begin(network, whole=False)
        _fit_head(network, _features(work, network.stages, images), labels)
        work.network = network
        return
    if work.task != "scratch" and work.from_probe:
        _fit_head(network, _features(work, network.stages, images), labels)
        network.keep_statistics(True)
    network.freeze(work.frozen)
    work.watch.begin(network, whole=work.task == "scratch")
    _train(work, network, images, torch.from_numpy(labels))
    work.network = network


def _decoded(work: Work, split: str, pool: ThreadPoolExecutor) -> tuple[Tensor, np.ndarray]:
    """uint8 (N, C, H, W), pixel by pixel in memory, and int (N,)."""
    paths = sorted((work.images / split).glob("*/*"))
    names = sorted({path.parent.name for path in paths})
    parts = pool.map(lambda part: [decode_image(str(p), ImageReadMode.RGB) for p in part], (paths[::2], paths[1::2]))
    pictures = torch.empty(len(paths), 3, work.size, work.size, dtype=torch.uint8, memory_format=torch.channels_last)
    for start, part in enumerate(parts):
        pictures[start::2] = torch.stack(part)
    return pictures, np.array([names.index(path.parent.name) for path in paths])


def _network(work: Work, pictures: Tensor) -> Network:
    if work.task == "scratch":
        torch.manual_seed(work.seed)
        work.mean, work.std = _moments(pictures)
        network = build_network(work.source.architecture, classes=work.classes, channels=3)
    else:
        # The source's classes are the target's, and so its head is a start.
        network = copy.deepcopy(work.source.network)
        network.unfreeze()
    return network.to(memory_format=torch.channels_last)


def _moments(pictures: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    deviation, mean = torch.std_mean(pictures.float() / 255, dim=(0, 2, 3), correction=0)
    return tuple(mean.tolist()), tuple(deviation.tolist())


def _normalised(work: Work, pictures: Tensor) -> Tensor:
    """float32, in the same memory format."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (work.mean, work.std))
    return pictures.float().div_(255).sub_(mean).div_(std)


def _features(work: Work, stages: nn.ModuleList, images: Tensor) -> np.ndarray:
    stack = nn.Sequential(*stages).eval()
    with torch.inference_mode(), work.autocast():
        parts = [stack(part).float() for part in images.split(_FORWARD[work.size])]
    return torch.cat(parts).numpy()


def _fit_head(network: Network, features: np.ndarray, labels: np.ndarray) -> None:
    """scikit-learn's logistic regression of standardised features, its penalty chosen by five folds' log loss."""
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    found = LogisticRegressionCV(
        Cs=PENALTIES, cv=StratifiedKFold(5), scoring="neg_log_loss", l1_ratios=(0,), use_legacy_attributes=False
    ).fit((features - mean) / scale, labels)
    weight = found.coef_ / scale
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(weight))
        network.head.bias.copy_(torch.from_numpy(found.intercept_ - weight @ mean))


def _train(work: Work, network: Network, images: Tensor, labels: Tensor) -> None:
    plan = work.plan
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [p for p in trained if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=plan.learning_rate, fused=True)
    steps = -(-len(labels) // plan.batch_size)
    schedule = LambdaLR(optimizer, warmup_cosine(plan.epochs * steps, plan.warmup))
    views = _frozen_views(work, network, images) if work.keeps_views else None
    for epoch in range(1, plan.epochs + 1):
        network.train()
        for chosen in map(torch.from_numpy, epoch_batches(len(labels), plan.batch_size, seed=work.seed, epoch=epoch)):
            with work.autocast():
                inputs = _inputs(work, network, images[chosen]) if views is None else views[epoch % len(views)][chosen]
                logits = network.classify(network.activations(inputs, work.frozen)[-1])
            loss = F.cross_entropy(logits.float(), labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        work.watch.epoch(network)


def _frozen_views(work: Work, network: Network, images: Tensor) -> list[Tensor]:
    """What the frozen stages make of as many variants of each picture as headstart keeps."""
    network.eval()
    with work.autocast():
        return [
            torch.cat([_inputs(work, network, part) for part in images.split(_FORWARD[work.size])])
            for _ in range(work.plan.views)
        ]


@torch.no_grad()
def _inputs(work: Work, network: Network, images: Tensor) -> Tensor:
    """Augmented images, as the first stage that trains reads them."""
    inputs: Tensor = augmented(images, work.plan.strength).contiguous(memory_format=torch.channels_last)
    for stage in network.stages[: work.frozen]:
        inputs = stage(inputs)
    return inputs


def augmented(images: Tensor, strength: float) -> Tensor:
    """headstart's `affine`, drawn from torch's generator, in float32 and without going back to whole numbers."""
    draws = torch.rand(5, len(images))
    scale = 1 + strength * (0.5 * draws[0] - 0.25)
    stretch = 1 + strength * (0.28 * draws[1] - 0.13)
    turn = strength * 0.157 * (2 * draws[2] - 1)
    right, down = strength * 0.2 * (2 * draws[3:] - 1)
    cosine, sine = torch.cos(turn), torch.sin(turn)
    rows = [scale * stretch * cosine, -scale * sine, right, scale * sine, scale / stretch * cosine, down]
    grid = F.affine_grid(torch.stack(rows, dim=1).view(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
