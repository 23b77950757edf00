"""Lightning: a LightningModule, a DataLoader and the Trainer."""

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.peers.loading import tensor_loader
from benchmarks.peers.work import Work
from headstart.models.network import Network


def train(work: Work, tuned: bool) -> None:
    """Defaults are those of "Lightning in 15 minutes": Adam at 1e-3, a DataLoader without workers, a Trainer that is
    told its epochs and logs, shows progress, keeps checkpoints; frozen stages as in its page on transfer learning."""
    work.network.freeze(work.frozen)
    if tuned:
        loader = tensor_loader(work)
        work.network.to(memory_format=torch.channels_last)
        trainer = lightning.Trainer(
            max_epochs=work.epochs,
            accelerator="auto",
            devices=1,
            precision="bf16-mixed",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[_Epochs(work)],
        )
    else:
        # The files are RGB and of the right size; all that is left is a tensor, normalised.
        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(work.mean, work.std)])
        loader = DataLoader(ImageFolder(str(work.images / "train"), transform), work.batch_size, shuffle=True)
        trainer = lightning.Trainer(max_epochs=work.epochs, devices=1, callbacks=[_Epochs(work)])
    trainer.fit(_Classifier(work, tuned, steps=work.epochs * len(loader)), loader)


class _Classifier(lightning.LightningModule):
    def __init__(self, work: Work, tuned: bool, steps: int) -> None:
        super().__init__()
        self.network: Network = work.network
        self.tuned, self.rate, self.steps = tuned, work.rate, steps

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, labels = batch
        if self.tuned:
            images = images.contiguous(memory_format=torch.channels_last)
        return F.cross_entropy(self.network(images), labels)

    def configure_optimizers(self) -> Any:
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if not self.tuned:
            return torch.optim.Adam(parameters, lr=1e-3)
        optimizer = torch.optim.AdamW(parameters, lr=self.rate, weight_decay=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.rate, total_steps=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Epochs(Callback):
    def __init__(self, work: Work) -> None:
        self.work = work

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.work.watch.begin(self.work.network, whole=self.work.task == "scratch")

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.work.watch.epoch(self.work.network)
