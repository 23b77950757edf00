"""Which score picks the best source: targets of a panel, each with the sources that do not know its data.

    python -m benchmarks.scores --unpacked FOLDER --workspace DIR --output FILE [--seeds 3] [--labels-per-class 2 5 20]

A cell is one draw of a target. Each score of the ranking picks one of its sources, as do the first of the ranking, for
which LogME decides where the probe does not, and the choice of a pipeline, which confirms that by short fine-tunings;
then every source is fine-tuned fully on the whole budget. A pick is
judged by the test accuracy that it loses to the best of them, and is right where that is within two standard errors of
their paired difference. Cells that the output has are not measured again.
"""

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence import SPLIT, Panel, write_lines
from benchmarks.machine import commit
from benchmarks.panel import Pair
from benchmarks.selection import SCORES
from headstart.judging.selection import select_source
from headstart.models.bundle import ModelBundle
from headstart.strategies.section import Strategy
from headstart.strategies.transfer import transfer
from headstart.training.context import RunContext
from headstart.training.section import Training

ARCHITECTURE = "convnet"
PICKS = {"first": "the first of the ranking", "chosen": "the choice of a pipeline"}
# The rules of the choice were fitted on digits with sources of MNIST and of Fashion-MNIST (benchmarks/selection.py).
TARGETS = {
    "digits": ("mnist", "fashion", "mnist-0-4", "fashion-0-4"),
    "mnist": ("digits", "fashion", "fashion-0-4"),
    "fashion": ("mnist", "digits", "mnist-0-4"),
    "stamps": ("mnist", "fashion", "digits", "mnist-0-4", "fashion-0-4"),
    "mnist-5-9": ("mnist-0-4", "fashion", "digits", "fashion-0-4"),
    "fashion-5-9": ("fashion-0-4", "mnist", "digits", "mnist-0-4"),
}
# That LogME decides among ties was fitted on the targets above; these check it.
CHECKED = {
    "digits-0-4": ("mnist", "fashion", "mnist-0-4", "fashion-0-4"),
    "digits-5-9": ("mnist", "fashion", "mnist-0-4", "fashion-0-4"),
    "mnist-0-4": ("digits", "fashion", "fashion-0-4"),
    "fashion-0-4": ("mnist", "digits", "mnist-0-4"),
}
PANELS = {"the targets that rules were fitted on": TARGETS, "others": CHECKED}


def measure(panel: Panel, target: str, labels: int, seed: int) -> dict[str, Any]:
    """The picks of one cell, and what each source comes to."""
    given = {"fit": "pad"} if target == "stamps" else {}
    sources = {
        name: str(panel.source(Pair(name, target, input=given), ARCHITECTURE)) for name in (TARGETS | CHECKED)[target]
    }
    dataset = panel.dataset(Pair("", target, input=given), target, seed, split=SPLIT, labels_per_class=labels)
    names = {path: name for name, path in sources.items()}
    selection = select_source(list(names), dataset, training=Training(), seed=seed)
    test, hits = dataset.split("test"), {}
    for name, path in sources.items():
        context = RunContext(seed, cross_validate=False)
        full = Strategy.of({"name": "full", "transfer": "full"})
        tuned = transfer(ModelBundle.load(Path(path)), dataset, full, training=Training(), context=context)
        hits[name] = tuned.bundle.predict_logits(test.samples).argmax(axis=1) == test.labels
    winner = max(hits, key=lambda name: hits[name].mean())
    ranked = {names[each.source]: each.to_dict() for each in selection.ranking}
    return {
        "target": target,
        "labels_per_class": labels,
        "seed": seed,
        "accuracy": {name: round(float(each.mean()), 4) for name, each in hits.items()},
        "best": [name for name, each in hits.items() if _ties(each, hits[winner])],
        "scores": {score: {name: each[score] for name, each in ranked.items()} for score in SCORES},
        "first": names[selection.ranking[0].source],
        "chosen": names[selection.chosen.source],
        "commit": commit(),
    }


def picked(row: dict[str, Any], score: str) -> str:
    """The source that a score, or a rule, puts first; one that the score says nothing about comes last."""
    if score in PICKS:
        return str(row[score])
    values = row["scores"][score]
    return str(max(values, key=lambda name: -np.inf if values[name] is None else values[name]))


def _ties(ours: np.ndarray, theirs: np.ndarray) -> bool:
    difference = theirs.astype(float) - ours
    return bool(difference.mean() <= 2 * difference.std(ddof=1) / np.sqrt(len(difference)))


def summary(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What each score comes to, in Markdown."""
    yield f"| picked by | the best, or no worse, of {len(rows)} cells | mean regret | worst |\n|---|---|---|---|"
    for score in (*SCORES, *PICKS):
        lost = [max(row["accuracy"].values()) - row["accuracy"][picked(row, score)] for row in rows]
        right = sum(picked(row, score) in row["best"] for row in rows)
        yield f"| {PICKS.get(score, score)} | {right} | {statistics.mean(lost):.4f} | {max(lost):.4f} |"
    random = [max(found) - statistics.mean(found) for row in rows for found in [row["accuracy"].values()]]
    yield f"| any source | – | {statistics.mean(random):.4f} | {max(random):.4f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures what is missing, keeps each cell, and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--unpacked", type=Path, required=True, help="the folder of Debian's packages")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--labels-per-class", type=int, nargs="+", default=[2, 5, 20])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, required=True, help="a JSON file with a line a cell")
    options = parser.parse_args(arguments)
    panel = Panel(options.unpacked, options.workspace, None)
    rows = json.loads(options.output.read_text()) if options.output.exists() else []
    for labels, seed, target in itertools.product(options.labels_per_class, range(options.seeds), TARGETS | CHECKED):
        cell = {"target": target, "labels_per_class": labels, "seed": seed}
        if any(cell.items() <= row.items() for row in rows):
            continue
        rows.append(measure(panel, target, labels, seed))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        write_lines(options.output, rows)
    for labels, (title, targets) in itertools.product(options.labels_per_class, PANELS.items()):
        print(f"\n{labels} labels a class, {title}:\n")
        chosen = [row for row in rows if row["labels_per_class"] == labels and row["target"] in targets]
        print("\n".join(summary(chosen)))


if __name__ == "__main__":
    main()
