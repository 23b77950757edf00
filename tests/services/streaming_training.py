"""A training to be killed: python -m tests.services.streaming_training DATASET BUNDLE writes a byte after each step."""

import sys
from pathlib import Path

from torch.optim.optimizer import register_optimizer_step_post_hook

from headstart.data.dataset import Dataset
from headstart.strategies.pretraining import pretrain
from headstart.training.context import RunContext
from headstart.training.section import Pretraining

SECTION = {
    "epochs": 3, "batch_size": 32, "augmentation": "affine", "precision": "fp32", "layout": "contiguous",
    "compile": "off",
}  # fmt: skip


def _step(*_: object) -> None:
    sys.stdout.write("s")
    sys.stdout.flush()


if __name__ == "__main__":
    register_optimizer_step_post_hook(_step)
    trained = pretrain(Pretraining.of(SECTION, at="pretraining"), Dataset.open(sys.argv[1]), RunContext(seed=5))
    trained.bundle.save(Path(sys.argv[2]))
