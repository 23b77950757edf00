"""A plain loop after torchvision's references/classification/train.py."""

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from torchvision.transforms.functional import InterpolationMode

from benchmarks.peers.loading import tensor_loader
from benchmarks.peers.work import THREADS, Work


def train(work: Work, tuned: bool) -> None:
    """Defaults are those of train.py: PIL images, a random resized crop and a mirror, SGD at 0.1 with momentum 0.9 and
    weight decay 1e-4, steps of 30 epochs. Its 16 workers are as many as there are cores here."""
    network = work.network.to(work.device)
    network.freeze(work.frozen)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if tuned:
        network = network.to(memory_format=torch.channels_last)
        loader = tensor_loader(work)
        optimizer = torch.optim.AdamW(parameters, lr=work.rate, weight_decay=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, work.rate, total_steps=work.epochs * len(loader))
    else:
        loader = DataLoader(
            ImageFolder(str(work.images / "train"), _transform(work)),
            work.batch_size,
            shuffle=True,
            num_workers=THREADS,
            pin_memory=work.device.type == "cuda",
        )
        optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)
    criterion = nn.CrossEntropyLoss()
    work.watch.begin(network, whole=work.task == "scratch")
    for _ in range(work.epochs):
        network.train()
        for images, labels in loader:
            images, labels = images.to(work.device), labels.to(work.device)
            if tuned:
                images = images.contiguous(memory_format=torch.channels_last)
            with work.autocast(tuned):
                loss = criterion(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if tuned:
                schedule.step()
        if not tuned:
            schedule.step()
        work.watch.epoch(network)


def _transform(work: Work) -> v2.Compose:
    """ClassificationPresetTrain of references/classification/presets.py, with the normalisation of the weights."""
    return v2.Compose(
        [
            v2.RandomResizedCrop(work.size, interpolation=InterpolationMode.BILINEAR, antialias=True),
            v2.RandomHorizontalFlip(0.5),
            v2.PILToTensor(),
            v2.ToDtype(torch.float, scale=True),
            v2.Normalize(mean=work.mean, std=work.std),
            v2.ToPureTensor(),
        ]
    )
