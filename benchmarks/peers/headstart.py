"""headstart: from the packed data set and the source's bundle, with nothing cached before."""

from collections.abc import Callable

# What a first call would import; the peers have their imports from the start too.
import pyarrow.dataset  # noqa: F401
import scipy.optimize
import scipy.special  # noqa: F401
import sklearn.metrics  # noqa: F401

from benchmarks.peers.work import Work, checksum
from headstart.data.dataset import Dataset
from headstart.models.bundle import ModelBundle
from headstart.strategies import pretraining
from headstart.strategies import transfer as strategies
from headstart.strategies.section import Strategy
from headstart.training.section import Training
from headstart.training.supervised import Fit


def train(work: Work, tuned: bool) -> None:
    """A strategy of a recipe with the peers' epochs and batch; all else is as a recipe without numbers has it.

    `tuned` means nothing: there is one headstart.
    """
    source, packed = work.given["source"], work.given["packed"]
    training = Training.of({"epochs": work.epochs, "batch_size": work.batch_size})
    observer = _Observer(work)
    strategies.fit = observer.observed(strategies.fit)
    pretraining.fit = observer.observed(pretraining.fit)
    with work.watch.paused():
        work.watch.weights = checksum(source.network.stages)
    dataset = Dataset.open(packed)
    if work.task == "scratch":
        bundle, fitted, _ = pretraining.train_from_scratch(
            source.architecture,
            dataset,
            training=training,
            role="baseline",
            seed=work.seed,
            on_epoch=observer.on_epoch,
        )
    else:
        strategy = Strategy.model_validate(work.task)
        result = strategies.transfer(
            source, dataset, strategy, training=training, seed=work.seed, on_epoch=observer.on_epoch
        )
        bundle, fitted = result.bundle, result.fit
        work.found["decisions"] = result.decisions
    if bundle.preprocessing.size != work.size:
        raise SystemExit(f"headstart trained at {bundle.preprocessing.size} pixels instead of {work.size}")
    work.network = bundle.network
    if fitted:
        work.found |= {"settings": fitted.settings, "images_per_second": fitted.samples_per_second}


class _Observer:
    """Shows the watch the network that is being trained, which `on_epoch` is not given."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def observed(self, fit: Callable[..., Fit]) -> Callable[..., Fit]:
        def observed_fit(bundle: ModelBundle, *arguments: object, **settings: object) -> Fit:
            self.network = bundle.network
            self.work.watch.begin(bundle.network, whole=self.work.task == "scratch")
            return fit(bundle, *arguments, **settings)

        return observed_fit

    def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        self.work.watch.epoch(self.network)
