"""timm: its data, optimiser, schedule and task factories, put together as its train.py puts them together."""

import torch
from timm.data import create_dataset, create_loader
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.task import ClassificationTask

from benchmarks.peers.work import THREADS, Work


def train(work: Work, tuned: bool) -> None:
    """Defaults are those of train.py's options: SGD at 0.1 for a batch of 256, scaled to this one, momentum 0.9, weight
    decay 2e-5, five epochs of warm-up and half a cosine, label smoothing 0.1, a random resized crop of 0.08 to 1, a
    mirror and colour jitter. Its 4 workers are as many as there are cores here."""
    network = work.network.to(work.device)
    network.freeze(work.frozen)
    if tuned:
        network = network.to(memory_format=torch.channels_last)
    frozen_augmentation = {"scale": (0.999, 1.0), "ratio": (1.0, 1.0)}
    suits_digits = {
        "hflip": 0.0,
        "color_jitter": 0.0,
        **(frozen_augmentation if work.task == "linear_probe" else {"scale": (0.7, 1.0), "ratio": (0.87, 1.15)}),
    }
    loader = create_loader(
        create_dataset("", root=str(work.images), split="train", is_training=True),
        input_size=(3, work.size, work.size),
        batch_size=work.batch_size,
        is_training=True,
        mean=work.mean,
        std=work.std,
        num_workers=THREADS,
        device=work.device,
        interpolation="bilinear" if tuned else "random",
        **(suits_digits if tuned else {}),
    )
    optimizer = create_optimizer_v2(
        network,
        opt="adamw" if tuned else "sgd",
        lr=work.rate if tuned else 0.1 * work.batch_size / 256,
        weight_decay=0.01 if tuned else 2e-5,
        **({"fused": True} if tuned else {"momentum": 0.9}),
    )
    schedule, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=work.epochs,
        warmup_epochs=1 if tuned else 5,
        warmup_lr=1e-5,
        step_on_epochs=not tuned,
        updates_per_epoch=len(loader),
    )
    task = ClassificationTask(
        network,
        criterion_kwargs={"smoothing": 0.0 if tuned else 0.1},
        device=work.device,
        verbose=False,
    )
    schedule.step(0)
    updates = 0
    work.watch.begin(network, whole=work.task == "scratch")
    for epoch in range(work.epochs):
        network.train()
        for images, labels in loader:
            if tuned:
                images = images.contiguous(memory_format=torch.channels_last)
            with work.autocast(tuned):
                loss = task(images, labels)["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            updates += 1
            schedule.step_update(num_updates=updates)
        schedule.step(epoch + 1)
        work.watch.epoch(network)
