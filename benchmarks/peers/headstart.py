"""headstart: from a folder of pictures and the source's bundle, with nothing cached before."""

from collections.abc import Callable

# What a first call would import; the peer has its imports from the start too.
import filelock  # noqa: F401
import pyarrow.dataset  # noqa: F401
import scipy.optimize
import scipy.special  # noqa: F401
import sklearn.metrics  # noqa: F401

from benchmarks.cases import packed_as
from benchmarks.peers.work import Work
from headstart.data.prepare import prepare
from headstart.models.bundle import ModelBundle
from headstart.strategies import fine_tuning
from headstart.strategies.baseline import Like
from headstart.strategies.baselines import scratch
from headstart.strategies.section import Strategy
from headstart.strategies.transfer import transfer
from headstart.training.context import RunContext
from headstart.training.trained import Trained


def train(work: Work) -> None:
    """A data set is prepared and reported; then comes a strategy of a recipe with the case's epochs and batch. All else
    is as a recipe without numbers has it."""
    source = work.source
    dataset = prepare(packed_as(work.images, work.size), work.folder / "packed")
    work.watch.prepared()
    observer = _Observer(work)
    fine_tuning.fit = observer.observed(fine_tuning.fit)
    scratch.fit = observer.observed(scratch.fit)
    # The peer learns from the training samples, and once.
    context = RunContext(work.seed, refit=False, cross_validate=False, on_epoch=observer.on_epoch)
    if work.task == "scratch":
        result = scratch.fit_scratch(Like.of(source), dataset, work.training, context)
    else:
        if work.task == "linear_probe":
            work.watch.begin(source.network, whole=False)
        result = transfer(source, dataset, Strategy.model_validate(work.task), training=work.training, context=context)
        work.found["decisions"] = result.bundle.provenance["decisions"]
    if result.bundle.preprocessing.size != work.size:
        raise SystemExit(f"headstart trained at {result.bundle.preprocessing.size} pixels instead of {work.size}")
    work.network = result.bundle.network
    if result.history:
        work.found["settings"] = result.params


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
