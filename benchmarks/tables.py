"""What the training benchmark's rounds come to: a table in Markdown, and the proof that both sides did the same work.

A run is a mapping: case, task, side, seed, seconds, ready, accuracy, curve (one entry an epoch, with the seconds and
accuracy so far) and more; see benchmarks/peers/__main__.py.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

OURS, PEER = "headstart", "expert"
SIDES = (OURS, PEER)

Run = dict[str, Any]

# What of a plan both sides must have, besides what is counted.
_SETTINGS = (
    "epochs",
    "batch_size",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "warmup",
    "strength",
    "label_smoothing",
)


@dataclass(frozen=True)
class Round:
    """A run of each side, one right after the other, for one case, task and seed."""

    case: str
    task: str
    seed: int
    runs: dict[str, Run]

    @property
    def level(self) -> float:
        """The lower one of the final test accuracies, which both have reached."""
        return min(float(run["accuracy"]) for run in self.runs.values())

    def ratio(self, seconds: Callable[[Run], float]) -> float:
        """How many times the seconds of headstart the peer took."""
        return seconds(self.runs[PEER]) / seconds(self.runs[OURS])

    @property
    def to_level(self) -> float:
        return self.ratio(lambda run: seconds_to(run, self.level))


def seconds_to(run: Run, accuracy: float) -> float:
    """Seconds from the pictures on the disk until a run first has an accuracy; infinite if it never has."""
    return next((point["seconds"] for point in _points(run) if point["accuracy"] >= accuracy), math.inf)


def whole(run: Run) -> float:
    return float(run["seconds"])


def whole_on_processor(run: Run) -> float:
    return float(run["processor_seconds"])


def learning(run: Run) -> float:
    """Seconds from the prepared pictures on."""
    return float(run["seconds"] - run["ready"])


def learning_on_processor(run: Run) -> float:
    """The processor's seconds of it, which other work on the machine changes less."""
    return float(run["processor_seconds"] - run["ready_processor"])


def _points(run: Run) -> list[dict[str, float]]:
    """Seconds and accuracy at each epoch, and at the end."""
    return [*run["curve"], {"seconds": run["seconds"], "accuracy": run["accuracy"]}]


def rounds(runs: Iterable[Run]) -> dict[tuple[str, str], list[Round]]:
    """The rounds in which both sides have run, by case and task."""
    found: dict[tuple[str, str, int], dict[str, Run]] = defaultdict(dict)
    for run in runs:
        found[run["case"], run["task"], run["seed"]][run["side"]] = run
    whole: dict[tuple[str, str], list[Round]] = defaultdict(list)
    for (case, task, seed), sides in found.items():
        if sides.keys() == set(SIDES):
            whole[case, task].append(Round(case, task, seed, sides))
    return dict(whole)


def check_equal_work(runs: Sequence[Run]) -> None:
    """Both sides start from the same weights, are judged by the same items and end with a network of as many operations
    at the same size; a training sees as many samples in as many batches and epochs, trains as many parameters and
    follows the same plan. SystemExit where not."""
    for found in rounds(runs).values():
        for one in found:
            _agree(one, "checksum of the weights", lambda run: run["weights"])
            _agree(one, "test items", lambda run: run["judged"])
            _agree(one, "floating-point operations of an image", lambda run: run["flops"])
            if one.task == "linear_probe":
                continue
            _agree(one, "samples seen in training", lambda run: run["seen"])
            for what in ("samples", "batches", "trainable"):
                _agree(one, f"{what} of each epoch", lambda run, what=what: [epoch[what] for epoch in _trained(run)])
            _agree(one, "settings", lambda run: {key: run.get("settings", run["plan"])[key] for key in _SETTINGS})


def _trained(run: Run) -> list[dict[str, float]]:
    """The epochs of a curve, which headstart's begins before the first one."""
    return [epoch for epoch in run["curve"] if epoch["samples"]]


def _agree(one: Round, what: str, value: Callable[[Run], Any]) -> None:
    ours, theirs = (value(one.runs[side]) for side in SIDES)
    if ours != theirs:
        raise SystemExit(f"{one.case}, {one.task}, seed {one.seed}: the sides differ in {what}: {ours} and {theirs}")


def table(runs: Sequence[Run]) -> str:
    """One row a case and task: medians over the rounds, and the least and most of the ratios."""
    head = (
        "case",
        "task",
        "headstart",
        "expert",
        "times as fast from prepared pictures",
        "by processor time",
        "times as fast from files",
        "by processor time",
        "from files to the same accuracy",
        "rounds",
    )
    rows = [
        [
            case,
            task.replace("_", " "),
            *(_brief(found, side) for side in SIDES),
            spread([one.ratio(learning) for one in found], _times),
            spread([one.ratio(learning_on_processor) for one in found], _times),
            spread([one.ratio(whole) for one in found], _times),
            spread([one.ratio(whole_on_processor) for one in found], _times),
            spread([one.to_level for one in found], _times),
            str(len(found)),
        ]
        for (case, task), found in rounds(runs).items()
    ]
    return markdown(head, rows)


def _brief(found: Sequence[Round], side: str) -> str:
    """Its seconds of preparing and of learning, and its final accuracy."""
    ready, rest, accuracy = (
        statistics.median(measure(one.runs[side]) for one in found)
        for measure in (lambda run: run["ready"], learning, lambda run: run["accuracy"])
    )
    return f"{ready:.2f} + {rest:.3g} s, {accuracy:.3f}"


def spread(values: Sequence[float], form: Callable[[float], str]) -> str:
    """The median, and the range where there is one."""
    median = form(statistics.median(values))
    return median if len(values) == 1 else f"{median} [{form(min(values))}, {form(max(values))}]"


def _times(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
