"""Whether the verdict and what is delivered hold: pairs of domains × label budgets × seeds, cell by cell.

    python -m benchmarks.evidence --unpacked FOLDER --workspace DIR [--pairs NAME …] [--labels-per-class 2 5 20]
        [--seeds 3] [--retrainings 5] [--architecture convnet] [--size N] [--output FILE]

A cell trains all contenders of a recipe's defaults on one draw of a target and judges them as a pipeline does. Its
models stay in the workspace, so that an interrupted run goes on and rules can be judged anew without training. Rows
that the output has of cells that were trained elsewhere stay as they are, with their commit. What is measured of each
cell:

- regret: the test accuracy that the delivered model lacks to the best contender in hindsight, which one half of the
  test items picks and the other half scores, both ways;
- delivered against the probe, and against the best baseline, as paired differences in standard errors;
- the verdict's word against as many trainings with other seeds on the same data as are asked for (of the budgets in
  `--retrained`): "helped" is right where the mean of their gains over the best baseline is above 0, "hurt" where it is
  below 0, and "no evidence" claims nothing.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import commit
from benchmarks.panel import PAIRS, Pair, write_data
from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.jobs.job import train, transfer_job
from headstart.judging.assessment import Assessment, evaluate
from headstart.judging.baselines import fit_baseline
from headstart.judging.combination import combined
from headstart.judging.contenders import Contender
from headstart.judging.retraining import Seeds, retrain
from headstart.judging.section import Evaluation
from headstart.metrics.intervals import Interval
from headstart.metrics.predictions import Predictions
from headstart.models.bundle import ModelBundle
from headstart.storage.local import new_directory, write_json, write_text
from headstart.strategies.pretraining import pretrain
from headstart.strategies.section import default_strategies
from headstart.training.context import RunContext
from headstart.training.section import Pretraining, Training

# As in the recipes that ship.
EPOCHS = {"image": 6, "audio": 4}
SPLIT = {"train": 0.2, "val": 0.1, "test": 0.7}
MODELS = "contenders.json"
PROBE = "linear_probe"
# Regret on average and at worst; standard errors that count as noise.
MOST_REGRET, WORST_REGRET, NOISE = 0.002, 0.01, 2.0


@dataclass(frozen=True)
class Cell:
    """One draw of a target with a source of its own architecture."""

    pair: str
    architecture: str
    labels_per_class: int
    seed: int

    @property
    def folder(self) -> str:
        return f"{self.pair}, {self.architecture.replace('/', '-')}, {self.labels_per_class}, {self.seed}"


class Panel:
    """Cells in a workspace, each trained once."""

    def __init__(self, unpacked: Path, workspace: Path, size: int | None) -> None:
        self.unpacked, self.workspace, self.size = unpacked, workspace, size

    def dataset(self, pair: Pair, name: str, seed: int, **more: Any) -> Dataset:
        packed = self.workspace / "packed" / f"{name}, {self.size}, {seed}, {more.get('labels_per_class')}"
        if packed.exists():
            return Dataset.open(packed)
        given = {**pair.input, **({"size": self.size} if self.size else {})}
        folder = write_data(name, self.unpacked, self.workspace / "data")
        data = {"uri": str(folder), "input": given, **more}
        return prepare(Data.of(data), packed, seed=seed, modality=pair.modality)

    def source(self, pair: Pair, architecture: str) -> Path:
        path = self.workspace / "sources" / f"{pair.source}, {architecture.replace('/', '-')}, {self.size}"
        if not path.exists():
            data = self.dataset(pair, pair.source, 0)
            section = Pretraining(architecture=architecture, epochs=EPOCHS[pair.modality])
            pretrain(section, data, RunContext()).bundle.save(path)
        return path

    def holds(self, cell: Cell) -> bool:
        """Whether the cell was trained in this workspace."""
        return (self._place(cell) / "training-0").exists()

    def _place(self, cell: Cell) -> Path:
        return self.workspace / "cells" / cell.folder

    def trained(self, cell: Cell, retraining: int = 0) -> list[Contender]:
        """All contenders of a cell; a retraining has another seed on the same data."""
        place = self._place(cell) / f"training-{retraining}"
        if not place.exists():
            with new_directory(place) as draft:
                # A retraining tells the gain alone, on which further seeds have no bearing.
                seeds = 1 if retraining else Evaluation().seeds
                self._train(cell, draft, cell.seed + 100 * retraining, seeds)
        listed = json.loads((place / MODELS).read_text())
        return [Contender.from_metadata(place / each["place"], each) for each in listed]

    def _train(self, cell: Cell, place: Path, seed: int, seeds: Seeds) -> None:
        pair = pair_of(cell)
        dataset, start = self.target(cell), self.source(pair, cell.architecture)
        training, context, found = Training(), RunContext(seed), []
        for strategy in default_strategies():
            job = transfer_job(start, dataset.path, strategy, training=training, reference=None, digest=None)
            result = train(job, context)
            path = result.save(place / strategy.name, dataset)
            retrain(result, job, context, seeds, path, dataset)
            found.append(Contender(strategy.name, "transfer", path, result.validation, result.seconds, "", pair.source))
        like = ModelBundle.load(start)
        for name in ("scratch", "classical"):
            baseline, _ = fit_baseline(
                name,
                dataset,
                place,
                like=like,
                training=training,
                context=context,
                run_id="",
                seeds=seeds,
            )
            found.append(baseline)
        write_json(place / MODELS, [{**each.to_metadata(), "place": each.path.name} for each in found])

    def target(self, cell: Cell) -> Dataset:
        pair = pair_of(cell)
        return self.dataset(pair, pair.target, cell.seed, split=SPLIT, labels_per_class=cell.labels_per_class)

    def judged(self, cell: Cell, retraining: int = 0) -> Assessment:
        """The contenders of a cell as a pipeline judges them."""
        place = self.workspace / "judged" / cell.folder / str(retraining)
        trained = self.trained(cell, retraining)
        contenders = [*trained, *combined(trained, Evaluation(), place)]
        return evaluate(contenders, self.target(cell), place / "predictions", evaluation=Evaluation(), seed=cell.seed)


def pair_of(cell: Cell) -> Pair:
    return next(pair for pair in PAIRS if pair.name == cell.pair)


def row(panel: Panel, cell: Cell, retrainings: int) -> dict[str, Any]:
    """What one cell comes to."""
    found = panel.judged(cell)
    board = found.leaderboard
    predicted = {each.strategy: found.predicted(each.strategy) for each in found.contenders}
    delivered = predicted[found.delivered.strategy]
    baselines = [each.strategy for each in found.contenders if each.kind == "baseline"]
    best = max(baselines, key=lambda name: accuracy(predicted[name]))
    again = [panel.judged(cell, number + 1).leaderboard for number in range(retrainings)]
    return {
        **asdict(cell),
        "verdict": board.verdict,
        "transfer": board.chosen.strategy,
        "delivered": found.delivered.strategy,
        "accuracy": {name: round(accuracy(each), 4) for name, each in predicted.items()},
        "regret": round(regret(predicted, delivered, cell.seed), 4),
        "over_probe": errors(delivered, predicted[PROBE]),
        "over_baseline": errors(delivered, predicted[best]),
        "retrained": [round(over_best(each).value, 4) for each in again],
        "seconds": round(sum(each.seconds for each in found.contenders if not each.members), 1),
        "commit": commit(),
    }


def accuracy(predictions: Predictions) -> float:
    return float(np.mean(predictions.predicted == predictions.labels))


def regret(predicted: dict[str, Predictions], delivered: Predictions, seed: int) -> float:
    """The accuracy that is lost to the contender which the other half of the items shows to be the best, mean of both
    halves."""
    hits = {name: each.predicted == each.labels for name, each in predicted.items()}
    order = np.random.default_rng(seed).permutation(len(delivered.labels))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    ours = delivered.predicted == delivered.labels
    lost = []
    for picking, scoring in (halves, halves[::-1]):
        best = max(hits, key=lambda name: hits[name][picking].mean())
        lost.append(hits[best][scoring].mean() - ours[scoring].mean())
    return float(np.mean(lost))


def errors(ours: Predictions, theirs: Predictions) -> float:
    """The difference of the accuracies in its standard errors; 0 where both are right on the same items."""
    difference = (ours.predicted == ours.labels).astype(float) - (theirs.predicted == theirs.labels)
    deviation = float(difference.std(ddof=1) / np.sqrt(len(difference)))
    return round(float(difference.mean()) / deviation, 2) if deviation else 0.0


def over_best(board: Any) -> Interval:
    assert board.over_best is not None  # noqa: S101 (baselines are always trained here)
    gain: Interval = board.over_best.gain
    return gain


def _finished(output: Path | None) -> dict[Cell, dict[str, Any]]:
    """The rows of a file that a run before has written, by cell."""
    rows = json.loads(output.read_text()) if output and output.exists() else []
    return {Cell(*(each[name] for name in Cell.__annotations__)): each for each in rows}


def write_lines(output: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as JSON with a line each, so that a change of one is seen as one."""
    write_text(output, "[\n" + ",\n".join(json.dumps(row, sort_keys=True) for row in rows) + "\n]\n")


def is_wrong(found: dict[str, Any]) -> bool:
    """Whether trainings with other seeds contradict the verdict's word."""
    gains = found["retrained"]
    if not gains or found["verdict"] == "no evidence":
        return False
    mean = statistics.mean(gains)
    return mean <= 0 if found["verdict"] == "helped" else mean >= 0


def summary(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The rows in Markdown, one a cell, and what they come to."""
    yield "| pair | network | labels a class | seed | verdict | delivered | accuracy | best baseline | regret |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for each in rows:
        reached = each["accuracy"]
        best = max(("scratch", "classical"), key=lambda name: reached[name])
        yield (
            f"| {each['pair']} | {each['architecture']} | {each['labels_per_class']} | {each['seed']} | "
            f"{each['verdict']} | {each['delivered']} | {reached[each['delivered']]:.3f} | "
            f"{best} {reached[best]:.3f} | {each['regret']:+.4f} |"
        )
    lost = [each["regret"] for each in rows]
    error = statistics.stdev(lost) / len(lost) ** 0.5 if len(lost) > 1 else float("nan")
    yield f"\n{len(rows)} cells: regret {statistics.mean(lost):+.4f} ± {1.96 * error:.4f}, at worst {max(lost):+.4f}"
    for key, title in (("over_probe", "the probe"), ("over_baseline", "the best baseline")):
        below = [each for each in rows if each[key] < -NOISE]
        yield f"delivered below {title} by more than {NOISE:g} standard errors: {len(below)} of {len(rows)} cells"
    checked = [each for each in rows if each["retrained"]]
    wrong = [each for each in checked if is_wrong(each)]
    words = {word: sum(each["verdict"] == word for each in rows) for word in ("helped", "no evidence", "hurt")}
    yield f"words: {words}; contradicted by retrainings: {len(wrong)} of {len(checked)} cells"


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains what is missing, judges all, prints the table; 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--unpacked", type=Path, required=True, help="the folder of Debian's packages")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--pairs", nargs="+", default=[pair.name for pair in PAIRS])
    parser.add_argument("--labels-per-class", type=int, nargs="+", default=[2, 5, 20])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--retrainings", type=int, default=5)
    parser.add_argument("--retrained", type=int, default=5, help="the labels a class that are trained again")
    parser.add_argument("--architecture", default="convnet")
    parser.add_argument("--size", type=int)
    parser.add_argument("--output", type=Path, help="a JSON file for one row a cell")
    options = parser.parse_args(arguments)
    panel = Panel(options.unpacked, options.workspace, options.size)
    finished = _finished(options.output)
    for seed in range(options.seeds):
        for labels in options.labels_per_class:
            for name in options.pairs:
                cell = Cell(name, options.architecture, labels, seed)
                if cell in finished and not panel.holds(cell):
                    continue
                again = options.retrainings if labels == options.retrained else 0
                finished[cell] = row(panel, cell, again)
                print(json.dumps(finished[cell]), file=sys.stderr, flush=True)
                if options.output:
                    write_lines(options.output, [finished[each] for each in sorted(finished, key=astuple)])
    rows = list(finished.values())
    print("\n".join(summary(rows)))
    lost = [each["regret"] for each in rows]
    kept = statistics.mean(lost) <= MOST_REGRET and max(lost) <= WORST_REGRET
    return int(not kept or any(is_wrong(each) for each in rows))


if __name__ == "__main__":
    sys.exit(main())
