"""How much of the regret is that of few labels: what as many labels that no contender has learned from would deliver.

    python -m benchmarks.fresh_labels --unpacked FOLDER --workspace DIR [--labels-per-class 2] [--fresh 2 5 10 20 50]
        [--draws 6] [--seeds 3] [--architecture convnet] [--size N]

The contenders that benchmarks.evidence trained in the workspace are judged by labels of the test split in place of
those that further trainings held out: of the models themselves, not of trainings with fewer labels, and of no training
twice. They calibrate the contenders, which are then averaged by the rule that ships; the average and the best contender
in hindsight are scored on the rest of the test split.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.evidence import WORST_REGRET, Cell, Panel, regret
from benchmarks.panel import PAIRS
from headstart.judging.assessment import Assessment
from headstart.judging.choice import unbeaten
from headstart.judging.combination import voices
from headstart.judging.contenders import Contender
from headstart.metrics.averaging import weights_in_average
from headstart.metrics.predictions import Predictions
from headstart.metrics.task import Calibration


def fresh_regrets(found: Assessment, seed: int, labels: int, draws: int) -> list[float]:
    """The regret of what so many fresh labels a class deliver, for each draw of them; none where a class has not two
    items more in the test split."""
    contenders = [each for each in found.contenders if not each.members]
    predicted = [found.predicted(each.strategy) for each in contenders]
    classes = [np.flatnonzero(predicted[0].labels == number) for number in range(len(predicted[0].classes))]
    if min(map(len, classes)) < labels + 2:
        return []
    regrets = []
    for draw in range(draws):
        generator = np.random.default_rng([seed, draw])
        fresh = np.concatenate([generator.permutation(items)[:labels] for items in classes])
        regrets.append(_regret(contenders, predicted, fresh, seed))
    return regrets


def _regret(contenders: Sequence[Contender], predicted: Sequence[Predictions], fresh: np.ndarray, seed: int) -> float:
    """The regret, on the items that are not `fresh`, of the average that the fresh ones choose."""
    calibrated = [_calibrated(each, fresh) for each in predicted]
    rest = np.setdiff1d(np.arange(len(predicted[0].ids)), fresh)
    kept = unbeaten([each for each in contenders if each.kind == "transfer"])
    baselines = [each for each in contenders if each.kind == "baseline"]
    numbers = [contenders.index(each) for each in (*kept, *baselines)]
    weights = weights_in_average([calibrated[number].at(fresh) for number in numbers], voices(kept, baselines))
    left = [each.at(rest) for each in calibrated]
    outputs = sum(weight * left[numbers[place]].outputs for place, weight in weights)
    delivered = replace(left[0], outputs=outputs)
    return regret({each.strategy: own for each, own in zip(contenders, left, strict=True)}, delivered, seed)


def _calibrated(predictions: Predictions, items: np.ndarray) -> Predictions:
    """The predictions with the temperature that suits some of the items."""
    kind, some = predictions.kind, predictions.at(items)
    logits = kind.logits(predictions.outputs, Calibration())
    found = kind.calibrated(logits[items], some.labels, some.groups)
    return replace(predictions, outputs=kind.outputs(logits, found))


def rows(panel: Panel, cells: Sequence[Cell], fresh: Sequence[int], draws: int) -> Iterator[str]:
    """A table in Markdown, a row for each number of fresh labels."""
    yield f"| fresh labels a class | cells | mean regret | worst cell of a draw | cells above {WORST_REGRET:g} |"
    yield "|---|---|---|---|---|"
    judged = [(panel.judged(cell), cell.seed) for cell in cells]
    for labels in fresh:
        found = [each for one, seed in judged if (each := fresh_regrets(one, seed, labels, draws))]
        by_draw = np.array(found)
        above = statistics.mean((by_draw > WORST_REGRET).sum(axis=0).tolist())
        worst = statistics.median(by_draw.max(axis=0).tolist())
        yield f"| {labels} | {len(found)} | {by_draw.mean():+.4f} | {worst:+.4f} | {above:.1f} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table for the cells that the workspace holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--unpacked", type=Path, required=True, help="the folder of Debian's packages")
    parser.add_argument("--workspace", type=Path, required=True, help="that of benchmarks.evidence")
    parser.add_argument("--labels-per-class", type=int, default=2)
    parser.add_argument("--fresh", type=int, nargs="+", default=[2, 5, 10, 20, 50])
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--architecture", default="convnet")
    parser.add_argument("--size", type=int)
    options = parser.parse_args(arguments)
    panel = Panel(options.unpacked, options.workspace, options.size)
    every = [
        Cell(pair.name, options.architecture, options.labels_per_class, seed)
        for seed in range(options.seeds)
        for pair in PAIRS
    ]
    cells = [each for each in every if panel.holds(each)]
    if not cells:
        parser.error(f"{options.workspace} holds no such cells; train them by python -m benchmarks.evidence")
    print("\n".join(rows(panel, cells, options.fresh, options.draws)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
