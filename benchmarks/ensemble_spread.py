"""How far an ensemble's accuracy varies with the seed: as its interval has it, as its members do, and formed anew.

    python -m benchmarks.ensemble_spread --unpacked FOLDER --workspace DIR [--labels-per-class 2] [--seeds 3]
        [--retrainings 0] [--architecture convnet] [--size N]

The contenders are those that benchmarks.evidence trained in the workspace, with their trainings with other seeds.
Estimated is the standard deviation of the averages of these, by the members and weights of the ensemble that is
delivered. A retraining is one of all contenders with another seed on the same data, of which the ensemble is formed
anew: its members and weights may be others.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.evidence import Cell, Panel, accuracy
from benchmarks.panel import PAIRS
from headstart.judging.contenders import ENSEMBLE


@dataclass(frozen=True)
class Spread:
    """Standard deviations of an accuracy over trainings with other seeds."""

    estimated: float
    """of the ensemble, as its interval has it"""
    member: float
    """of the member that varies most"""
    formed_anew: float | None
    """of ensembles that retrainings form; None where there are fewer than two"""


def spread(panel: Panel, cell: Cell, retrainings: int) -> Spread | None:
    """None where nothing is averaged, or its members do not vary with the seed."""
    first = panel.judged(cell)
    deviations = {each.strategy: each.seed_deviation for each in first.leaderboard.entries}
    if (estimated := deviations.get(ENSEMBLE)) is None:
        return None
    judged = [first, *(panel.judged(cell, number + 1) for number in range(retrainings))]
    found = [accuracy(each.predicted(ENSEMBLE)) for each in judged if any(one.members for one in each.contenders)]
    members = next(each.members for each in first.contenders if each.members)
    member = max(deviations[name] or 0.0 for name in members)
    return Spread(estimated, member, statistics.stdev(found) if len(found) > 1 else None)


def rows(panel: Panel, cells: Sequence[Cell], retrainings: int) -> Iterator[str]:
    """A table in Markdown, a row a cell, and the mean and root mean square of each column."""
    yield "| pair | labels a class | seed | estimated | most varying member | formed anew |"
    yield "|---|---|---|---|---|---|"
    found = []
    for cell in cells:
        if (one := spread(panel, cell, retrainings)) is None:
            continue
        found.append(one)
        deviations = (one.estimated, one.member, one.formed_anew)
        shown = " | ".join("" if each is None else f"{each:.4f}" for each in deviations)
        yield f"| {cell.pair} | {cell.labels_per_class} | {cell.seed} | {shown} |"
    for name in ("estimated", "member", "formed_anew"):
        values = [value for each in found if (value := getattr(each, name)) is not None]
        if values:
            root = statistics.fmean(each**2 for each in values) ** 0.5
            yield f"{name}: mean {statistics.fmean(values):.4f}, root mean square {root:.4f}, {len(values)} ensembles"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of the cells that were trained in the workspace."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--unpacked", type=Path, required=True, help="the folder of Debian's packages")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--labels-per-class", type=int, nargs="+", default=[2])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--retrainings", type=int, default=0, help="trains all contenders so often again")
    parser.add_argument("--architecture", default="convnet")
    parser.add_argument("--size", type=int)
    options = parser.parse_args(arguments)
    panel = Panel(options.unpacked, options.workspace, options.size)
    cells = [
        Cell(pair.name, options.architecture, labels, seed)
        for labels in options.labels_per_class
        for pair in PAIRS
        for seed in range(options.seeds)
    ]
    for line in rows(panel, [each for each in cells if panel.holds(each)], options.retrainings):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
