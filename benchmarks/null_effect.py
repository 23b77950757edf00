"""How often a transfer that can neither help nor hurt is said to.

    python -m benchmarks.null_effect [--runs 100] [--labels-per-class 5] [--output FILE]

The source is a convnet with random weights: it knows nothing, and to train everything from it at once, as scratch is
trained, is to train from scratch with another seed. For each run the source is drawn anew and scikit-learn's digits are
split anew; both are trained with the whole budget and judged as a pipeline judges them. Exit status 1 where the upper
end of the 95% interval (Clopper and Pearson 1934) of the share of "helped" or of "hurt" is above 0.1.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.jobs.job import train, transfer_job
from headstart.judging.assessment import evaluate
from headstart.judging.baselines import fit_baseline
from headstart.judging.contenders import Contender
from headstart.judging.leaderboard import Leaderboard
from headstart.judging.retraining import retrain
from headstart.judging.section import Evaluation
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import build_network
from headstart.models.bundle import ModelBundle
from headstart.storage.local import write_json
from headstart.strategies.section import Strategy
from headstart.training.context import RunContext
from headstart.training.plan import make_plan
from headstart.training.section import Training
from headstart_pipelines.demo import digits, write_folder

SPLIT = {"train": 0.3, "val": 0.1, "test": 0.6}
SIZE = 16
MOST_WRONG = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--labels-per-class", type=int, default=5)
    parser.add_argument("--output", type=Path, help="a JSON file for the figures of each run")
    options = parser.parse_args(arguments)
    found = []
    with tempfile.TemporaryDirectory(prefix="headstart-") as place:
        images, labels = digits()
        write_folder(images, labels, Path(place) / "digits")
        for run in _runs(Path(place), options.runs, options.labels_per_class):
            found.append(run)
            print(f"{run['seed']:>3}  {run['sentence']}", flush=True)
    verdicts = Counter(run["verdict"] for run in found)
    bounds = {word: upper_bound(verdicts[word], len(found)) for word in ("helped", "hurt")}
    for word, bound in bounds.items():
        print(f"{word}: {verdicts[word]} of {len(found)}, at most {bound:.3f} with 95% confidence")
    if options.output:
        write_json(options.output, {"labels_per_class": options.labels_per_class, "bounds": bounds, "runs": found})
    return int(max(bounds.values()) > MOST_WRONG)


def upper_bound(count: int, of: int) -> float:
    """The upper end of the two-sided 95% interval of a share (Clopper and Pearson 1934)."""
    from scipy.stats import beta

    return 1.0 if count == of else float(beta.ppf(0.975, count + 1, of - count))


def _runs(place: Path, runs: int, labels_per_class: int) -> Iterator[dict[str, Any]]:
    for seed in range(runs):
        dataset = prepare(
            Data.of({"uri": str(place / "digits"), "size": SIZE, "split": SPLIT, "labels_per_class": labels_per_class}),
            place / f"packed-{seed}",
            seed=seed,
        )
        board = _judged(dataset, place / f"run-{seed}", seed)
        yield {
            "seed": seed,
            "verdict": board.verdict,
            "sentence": board.sentence,
            "gain": [board.chosen.gain, board.chosen.gain_low, board.chosen.gain_high],
            "seed_deviation": board.seed_deviation,
        }


def _judged(dataset: Dataset, folder: Path, seed: int) -> Leaderboard:
    torch.manual_seed(1000 + seed)
    source = ModelBundle(
        network=build_network("convnet", classes=0, channels=1),
        architecture="convnet",
        modality="image",
        preprocessing=Preprocessing.fit(dataset.split("train").samples, SIZE, 1),
        classes=(),
        provenance={"role": "source", "head": "none"},
    )
    # Nothing is chosen between, and both learn from the same samples with the same ones held out.
    training, context, evaluation = Training(), RunContext(seed, refit=False), Evaluation()
    # The rate of random weights, which a start from a source does not take by itself.
    rate = make_plan(training, dataset.split("train").labels, pretrained=False).learning_rate
    strategy = Strategy.of({"name": "full", "transfer": "full", "schedule": "constant", "learning_rate": rate})
    source.save(folder / "source")
    job = transfer_job(folder / "source", dataset.path, strategy, training=training, reference=None, digest=None)
    result = train(job, context)
    path = result.save(folder / strategy.name, dataset)
    retrain(result, job, context, evaluation.seeds, path, dataset)
    started = Contender(strategy.name, "transfer", path, result.validation, result.seconds, "", "random")
    scratch, _ = fit_baseline(
        "scratch", dataset, folder, like=source, training=training, context=context, run_id="", seeds=evaluation.seeds
    )
    return evaluate([started, scratch], dataset, folder / "predictions", evaluation=evaluation, seed=seed).leaderboard


if __name__ == "__main__":
    sys.exit(main())
