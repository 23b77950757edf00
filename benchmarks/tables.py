"""What the training benchmark's runs come to: tables in Markdown, and which bounds are kept.

A run is a mapping: case, task, library, tuned, seed, seconds, accuracy, curve (one entry an epoch, with the seconds and
the accuracy so far), peak_memory and more; see benchmarks/peers/__main__.py.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

OURS = "headstart"
PEERS = ("fastai", "timm", "lightning", "references")

Run = dict[str, Any]
Way = tuple[str, bool]
"""A library, and whether it is tuned."""

WAYS: tuple[Way, ...] = ((OURS, False), *((peer, tuned) for tuned in (False, True) for peer in PEERS))

# Times sooner at a peer's final accuracy than the peer is: of those with their defaults, and of those that are tuned.
_TO_ACCURACY = {"linear_probe": (15.0, 8.0), "partial": (15.0, 8.0)}
# Times the images a second of them.
_THROUGHPUT = {"full": (2.0, 1.0)}


@dataclass(frozen=True)
class Round:
    """The runs of all libraries for one case, task and seed."""

    case: str
    task: str
    seed: int
    runs: dict[Way, Run]

    @property
    def level(self) -> float:
        """The final test accuracy of the slowest peer."""
        slowest = max((run for (library, _), run in self.runs.items() if library != OURS), key=lambda r: r["seconds"])
        return float(slowest["accuracy"])

    def seconds_to_level(self, way: Way) -> float:
        """Infinite where the accuracy is never reached."""
        return seconds_to(self.runs[way], self.level)

    def accuracy_at_equal_time(self, way: Way) -> float:
        """The last accuracy that is known when headstart is done; NaN where the first epoch takes longer."""
        end = self.runs[OURS, False]["seconds"]
        return next((p["accuracy"] for p in reversed(points(self.runs[way])) if p["seconds"] <= end), math.nan)

    def fastest(self, tuned: bool) -> Way:
        """The peer that first has the accuracy."""
        return min(((peer, tuned) for peer in PEERS), key=self.seconds_to_level)

    def times_faster(self, tuned: bool) -> float:
        """How many times longer than headstart the fastest peer takes to the slowest peer's final accuracy: 0 where
        headstart never has it, infinite where no peer of that kind has it."""
        ours, theirs = self.seconds_to_level((OURS, False)), self.seconds_to_level(self.fastest(tuned))
        return 0.0 if math.isinf(ours) else theirs / ours

    def times_sooner(self, tuned: bool) -> float:
        """How many times longer a peer takes for its epochs than headstart for the accuracy that the peer then has, for
        the peer that leaves it the least lead; 0 where headstart never has it."""
        ours = self.runs[OURS, False]
        rivals = [self.runs[peer, tuned] for peer in PEERS]
        return min(rival["seconds"] / seconds_to(ours, rival["accuracy"]) for rival in rivals)

    def times_the_images(self, tuned: bool) -> float:
        """headstart's images a second over those of the quickest peer."""
        return images_per_second(self.runs[OURS, False]) / max(
            images_per_second(self.runs[peer, tuned]) for peer in PEERS
        )


def seconds_to(run: Run, accuracy: float) -> float:
    """Seconds until a run first has an accuracy; infinite if it never has."""
    return next((point["seconds"] for point in points(run) if point["accuracy"] >= accuracy), math.inf)


def points(run: Run) -> list[dict[str, float]]:
    """Seconds and accuracy at each epoch, and at the end."""
    return [*run["curve"], {"seconds": run["seconds"], "accuracy": run["accuracy"]}]


def images_per_second(run: Run) -> float:
    """Of training alone: an epoch in which all trains that the task trains at last, the median one. NaN where the head
    is fitted, not trained."""
    if run["library"] == OURS:
        return float(run.get("images_per_second", math.nan))
    most = max(epoch["trainable"] for epoch in run["curve"])
    whole = [epoch for epoch in run["curve"] if epoch["trainable"] == most]
    return statistics.median(epoch["samples"] / epoch["epoch_seconds"] for epoch in whole)


def rounds(runs: Iterable[Run]) -> dict[tuple[str, str], list[Round]]:
    """The rounds in which every library has run, by case and task."""
    found: dict[tuple[str, str, int], dict[Way, Run]] = defaultdict(dict)
    for run in runs:
        found[run["case"], run["task"], run["seed"]][run["library"], run["tuned"]] = run
    whole: dict[tuple[str, str], list[Round]] = defaultdict(list)
    for (case, task, seed), ways in found.items():
        if ways.keys() == set(WAYS):
            whole[case, task].append(Round(case, task, seed, ways))
    return dict(whole)


def check_equal_work(runs: Sequence[Run]) -> None:
    """Every library starts from the same weights; where all of a network trains, it sees as many samples in as many
    batches an epoch, and trains as many parameters of a network of as many operations. SystemExit where not."""
    for (_, task), found in rounds(runs).items():
        for one in found:
            _agree(one, "checksum of the weights", lambda run: run["weights"])
            if task in ("full", "scratch"):
                _agree(one, "samples an epoch", lambda run: run["curve"][-1]["samples"])
                _agree(one, "batches an epoch", lambda run: run["curve"][-1]["batches"])
                _agree(one, "trained parameters", lambda run: run["curve"][-1]["trainable"])
                _agree(one, "floating-point operations an image", lambda run: run["flops"])


def _agree(one: Round, what: str, value: Callable[[Run], Any]) -> None:
    values = {_name(way): value(run) for way, run in one.runs.items()}
    if len(set(values.values())) > 1:
        raise SystemExit(f"{one.case}, {one.task}, seed {one.seed}: the libraries differ in {what}: {values}")


def judge(runs: Sequence[Run]) -> list[str]:
    """A line for each bound: kept or MISSED, and the number, the median over the seeds."""
    return [
        f"{'kept  ' if kept else 'MISSED'}  {case:<12}  {task:<12}  {said}"
        for (case, task), found in rounds(runs).items()
        for kept, said in _verdicts(task, found)
    ]


def _verdicts(task: str, found: Sequence[Round]) -> Iterator[tuple[bool, str]]:
    for bounds, said, measure in (
        (_TO_ACCURACY.get(task), "times sooner at the final accuracy of", Round.times_sooner),
        (_THROUGHPUT.get(task), "times the images/s of", Round.times_the_images),
    ):
        for tuned, bound in zip((False, True), bounds or (), strict=False):
            ratio = statistics.median(measure(one, tuned) for one in found)
            whom = "the best tuned peer" if tuned else "the fastest peer with its defaults"
            yield ratio >= bound, f"{_times(ratio)} {said} {whom} (≥ {bound:g})"
    peer, difference, reach = accuracy_against_best(found)
    said = f"{difference:+.3f} accuracy against {_name(peer)}, the best peer (≥ −{reach:.3f}, its 95 % interval)"
    yield difference >= -reach, said


def accuracy_against_best(found: Sequence[Round]) -> tuple[Way, float, float]:
    """The peer with the best final accuracy, headstart's difference to it (mean over seeds), and the half width of the
    difference's 95 % interval: two proportions of the same number of test samples, seeds taken together."""
    best = _best(WAYS[1:], found)
    theirs, ours = (statistics.fmean(one.runs[way]["accuracy"] for one in found) for way in (best, (OURS, False)))
    judged = sum(one.runs[best]["judged"] for one in found)
    variance = (theirs * (1 - theirs) + ours * (1 - ours)) / judged
    return best, ours - theirs, 1.96 * math.sqrt(variance)


def short_table(runs: Sequence[Run]) -> str:
    """One row a case and task, for the README. The peers are those with the best final accuracy."""
    head = (
        "case",
        "task",
        "headstart",
        "best peer, defaults",
        "best peer, tuned",
        "times sooner at a peer's final accuracy",
        "times faster to the slowest peer's",
        "times the images/s",
    )
    rows = []
    for (case, task), found in rounds(runs).items():
        best = [_best([(peer, tuned) for peer in PEERS], found) for tuned in (False, True)]
        rates = task in ("full", "scratch")
        cells = [
            *(_brief(found, way) for way in ((OURS, False), *best)),
            _pair(found, Round.times_sooner),
            _pair(found, Round.times_faster),
            _pair(found, Round.times_the_images) if rates else "–",
        ]
        rows.append([case, task.replace("_", " "), *cells])
    return markdown(head, rows)


def long_table(runs: Sequence[Run]) -> str:
    """One row a case, task and library, with medians over the seeds and what they range over."""
    head = ("case", "task", "library", "s to accuracy", "at equal time", "accuracy", "s in all", "images/s", "MiB", "n")
    columns: tuple[tuple[Callable[[Round, Way], float], Callable[[float], str]], ...] = (
        (Round.seconds_to_level, _seconds),
        (Round.accuracy_at_equal_time, _share),
        (lambda one, way: one.runs[way]["accuracy"], _share),
        (lambda one, way: one.runs[way]["seconds"], _seconds),
        (lambda one, way: images_per_second(one.runs[way]), lambda value: f"{value:.3g}"),
        (lambda one, way: one.runs[way]["peak_memory"] / 2**20, lambda value: f"{value:.0f}"),
    )
    rows = []
    for (case, task), found in rounds(runs).items():
        level = statistics.median(one.level for one in found)
        for way in WAYS:
            cells = [spread([measure(one, way) for one in found], form) for measure, form in columns]
            rows.append([case, f"{task.replace('_', ' ')} ({level:.3f})", _name(way), *cells, str(len(found))])
    return markdown(head, rows)


def _best(ways: Sequence[Way], found: Sequence[Round]) -> Way:
    """The one with the highest final accuracy, the mean over the seeds."""
    return max(ways, key=lambda way: statistics.fmean(one.runs[way]["accuracy"] for one in found))


def _brief(found: Sequence[Round], way: Way) -> str:
    """Its name, seconds in all and final accuracy."""
    seconds, accuracy = (statistics.median(one.runs[way][key] for one in found) for key in ("seconds", "accuracy"))
    name = "" if way[0] == OURS else f"{way[0]} "
    return f"{name}{_seconds(seconds)} s, {accuracy:.3f}"


def _pair(found: Sequence[Round], measure: Callable[[Round, bool], float]) -> str:
    """The median against the peers' defaults, and against the tuned ones."""
    return " / ".join(_times(statistics.median(measure(one, tuned) for one in found)) for tuned in (False, True))


def _name(way: Way) -> str:
    library, tuned = way
    return library if library == OURS else f"{library}, {'tuned' if tuned else 'defaults'}"


def spread(values: Sequence[float], form: Callable[[float], str]) -> str:
    """The median, and the range where there is one."""
    # A NaN has no place in an order.
    known = sorted(value for value in values if not math.isnan(value))
    if not known:
        return "–"
    median = form(statistics.median(known))
    return median if len(known) == 1 else f"{median} [{form(known[0])}, {form(known[-1])}]"


def _seconds(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _share(value: float) -> str:
    return f"{value:.3f}"


def _times(value: float) -> str:
    return "no peer" if math.isinf(value) else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
