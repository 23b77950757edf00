import numpy as np
import pytest
import torch

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.features.heads import nearest_class_mean
from headstart.judging.assessment import evaluate
from headstart.judging.contenders import Contender
from headstart.judging.section import Evaluation
from headstart.metrics.predictions import Predictions
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle
from headstart_pipelines.demo import digits, write_folder

EPOCHS = [{"epoch": 1, "val/accuracy": 0.3}]
QUICK = Evaluation(resamples=200)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Dataset:
    """Pictures of 0, 1 and 2."""
    root = tmp_path_factory.mktemp("evaluated")
    images, labels = digits()
    chosen = np.flatnonzero(labels < 3)[:90]
    write_folder(images[chosen], labels[chosen], root / "pictures")
    shares = {"train": 0.4, "val": 0.2, "test": 0.4}
    return prepare(Data.of({"uri": str(root / "pictures"), "size": 16, "split": shares}), root / "packed")


@pytest.fixture(scope="session")
def contenders(dataset, tmp_path_factory) -> dict[str, Contender]:
    """A model that reads the digits by prototypes of random features, one with a random head, and a table."""
    root = tmp_path_factory.mktemp("contenders")
    train, test = dataset.split("train"), dataset.split("test")
    torch.manual_seed(0)
    bundle = ModelBundle(
        network=convnet(classes=3, channels=1).eval(),
        architecture="convnet",
        modality="image",
        preprocessing=Preprocessing.fit(train.samples, size=16, channels=1),
        classes=dataset.classes,
        provenance={"role": "target", **dataset.digests, "history": EPOCHS, "kept_epoch": 1},
    )
    bundle.save(root / "scratch")
    nearest_class_mean(bundle.predict_features(train.samples), train.labels, 3).install(bundle.network)
    del bundle.provenance["history"], bundle.provenance["kept_epoch"]
    bundle.save(root / "zero")
    Predictions(test.ids, test.labels, np.eye(3)[test.labels], dataset.classes).save(root / "classical.parquet")
    return {
        "zero": Contender("zero", "transfer", root / "zero", 0.9, 1.0, "run-zero", "models:/digits-source/1#sha256=12"),
        "scratch": Contender("scratch", "baseline", root / "scratch", 0.3, 2.0, "run-scratch"),
        "classical": Contender("classical", "baseline", root / "classical.parquet", 0.95, 3.0, "run-classical"),
    }


@pytest.fixture(scope="session")
def assessment(dataset, contenders, tmp_path_factory):
    """The assessment of all three."""
    folder = tmp_path_factory.mktemp("assessed") / "predictions"
    return evaluate(list(contenders.values()), dataset, folder, evaluation=QUICK)
