"""How often a transfer that cannot help is said to have helped: at most 2 times in 20 at 95%.

    python -m benchmarks.null_effect [--runs 20] [--labels-per-class 10] [--output FILE]

The source is a convnet with random weights: it knows nothing, and a start from it is a start from scratch with another
seed. For each run the source is drawn anew and scikit-learn's digits are split anew; the strategies and scratch are
trained with the whole budget and judged as a pipeline judges them, with the verdict on the strategy that validation
chose. `constant` trains everything at once as scratch does, `full` starts from a probe of the random features. Exit
status 1 where the verdict is "helped" more often than 1 time in 10.
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
from headstart.judging.assessment import evaluate
from headstart.judging.baselines import fit_baseline
from headstart.judging.contenders import Contender
from headstart.judging.leaderboard import Leaderboard
from headstart.judging.section import Evaluation
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import build_network
from headstart.models.bundle import ModelBundle
from headstart.storage.local import write_json
from headstart.strategies.section import Strategy
from headstart.strategies.transfer import transfer
from headstart.training.context import RunContext
from headstart.training.section import Training
from headstart_pipelines.demo import digits, write_folder

SPLIT = {"train": 0.3, "val": 0.1, "test": 0.6}
SIZE = 32
STRATEGIES = (
    Strategy.model_validate({"name": "constant", "transfer": "full", "schedule": "constant"}),
    Strategy.model_validate({"name": "full", "transfer": "full", "schedule": "lp_ft"}),
)
MOST_HELPED = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--labels-per-class", type=int, default=10)
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
    print(", ".join(f"{verdict}: {count} of {len(found)}" for verdict, count in verdicts.most_common()))
    if options.output:
        write_json(options.output, {"labels_per_class": options.labels_per_class, "runs": found})
    return int(verdicts["helped"] > MOST_HELPED * len(found))


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
            "chosen": board.chosen.strategy,
            "gains": {entry.strategy: [entry.gain, entry.gain_low, entry.gain_high] for entry in board.entries},
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
    training = Training()
    contenders = []
    for strategy in STRATEGIES:
        result = transfer(source, dataset, strategy, training=training, context=RunContext(seed))
        result.bundle.save(folder / strategy.name)
        contenders.append(
            Contender(
                strategy.name, "transfer", folder / strategy.name, result.validation, result.seconds, "", "random"
            )
        )
    scratch, _ = fit_baseline(
        "scratch", dataset, folder, like=source, training=training, context=RunContext(seed), run_id=""
    )
    return evaluate(
        [*contenders, scratch], dataset, folder / "predictions", evaluation=Evaluation(), seed=seed
    ).leaderboard


if __name__ == "__main__":
    sys.exit(main())
