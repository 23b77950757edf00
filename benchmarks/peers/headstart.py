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
from headstart.strategies import fine_tuning
from headstart.strategies.baseline import Like
from headstart.strategies.baselines import scratch
from headstart.strategies.section import Strategy
from headstart.strategies.transfer import transfer
from headstart.training.context import RunContext
from headstart.training.section import Training
from headstart.training.trained import Trained


def train(work: Work, tuned: bool) -> None:
    """A strategy of a recipe with the peers' epochs and batch; all else is as a recipe without numbers has it.

    `tuned` means nothing: there is one headstart.
    """
    source, packed = work.given["source"], work.given["packed"]
    training = Training.of({"epochs": work.epochs, "batch_size": work.batch_size})
    observer = _Observer(work)
    fine_tuning.fit = observer.observed(fine_tuning.fit)
    scratch.fit = observer.observed(scratch.fit)
    # The peers learn from the training samples once.
    context = RunContext(work.seed, refit=False, on_epoch=observer.on_epoch)
    with work.watch.paused():
        work.watch.weights = checksum(source.network.stages)
    dataset = Dataset.open(packed)
    if work.task == "scratch":
        result = scratch.fit_scratch(Like.of(source), dataset, training, context)
    else:
        strategy = Strategy.model_validate(work.task)
        result = transfer(source, dataset, strategy, training=training, context=context)
        work.found["decisions"] = result.bundle.provenance["decisions"]
    bundle = result.bundle
    if bundle.preprocessing.size != work.size:
        raise SystemExit(f"headstart trained at {bundle.preprocessing.size} pixels instead of {work.size}")
    work.network = bundle.network
    if result.history:
        settings = {key: result.params[key] for key in ("precision", "layout", "compiled", "processes")}
        work.found |= {"settings": settings, "images_per_second": result.samples_per_second}


class _Observer:
    """Shows the watch the network that is being trained, which `on_epoch` is not given."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def observed(self, fit: Callable[..., Trained]) -> Callable[..., Trained]:
        def observed_fit(bundle: ModelBundle, *arguments: object, **settings: object) -> Trained:
            self.network = bundle.network
            self.work.watch.begin(bundle.network, whole=self.work.task == "scratch")
            return fit(bundle, *arguments, **settings)

        return observed_fit

    def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        self.work.watch.epoch(self.network)
