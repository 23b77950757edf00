"""`headstart rank`: which of several models a data set should start from, without fine-tuning them all."""

import argparse
import functools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headstart_pipelines.commands.arguments import (
    INPUT,
    JSON,
    LABEL_BUDGET,
    TASK,
    WORKSPACE,
    Command,
    given_input,
    option,
)

if TYPE_CHECKING:
    from rich.table import Table

    from headstart.data.dataset import Dataset
    from headstart.judging.ranking import Ranked
    from headstart.judging.selection import Selection

# Seconds of fine-tuning that are suggested unasked.
_SHORTLY = 60
_LEGEND = (
    "own: accuracy on its own test split; seen: target samples, of test + others, that it was trained on (≥: at least)"
)


def rank(options: argparse.Namespace) -> None:
    """Prints the ranking of the candidates and the reason for the first; as JSON where that is asked for.

    Raises:
        InputError: the data or a candidate cannot be reached; it is named.
    """
    from headstart_pipelines import display

    console = display.console()
    steps = None if options.json else display.Steps(console)
    if steps:
        steps.started("rank sources")
    # Takes seconds, during which the step is shown.
    from headstart.api import ranking as sources

    given = {
        "task": options.task,
        "labels_per_class": options.labels_per_class,
        "label_budget": options.label_budget,
        "split": options.split or None,
    }
    ranking = sources.rank(
        options.data,
        options.candidates,
        confirm=options.confirm,
        modality=options.modality,
        seed=options.seed,
        workspace=options.workspace,
        progress=functools.partial(steps.progressed, "rank sources") if steps else None,
        input=given_input(options),
        **{key: value for key, value in given.items() if value is not None},
    )
    dataset, selection = ranking.dataset, ranking.selection
    table = selection.to_dict()
    table["warnings"] += _unconfirmed(selection, dataset) if options.confirm else []
    if steps is None:
        table["confirm_seconds"] = selection.confirm_seconds
        print(json.dumps({"data": {"uri": options.data, **dataset.digests, **dataset.counts}, **table}, indent=2))
        return
    steps.finished("rank sources", table["seconds"])
    console.print("", ranking_table(selection.ranking), sep="\n")
    console.print(_LEGEND, style="dim", highlight=False)
    console.print(display.verdict(selection.reason, _suggestion(selection)), highlight=False)
    for warning in table["warnings"]:
        console.print(f"[yellow]{display.plain(warning)}[/]", highlight=False)


def _unconfirmed(selection: "Selection", dataset: "Dataset") -> list[str]:
    """The sentence that says why --confirm compared nothing."""
    if len(selection.ranking) == 1:
        return [
            f"--confirm fine-tunes the two best candidates to compare them; {selection.chosen.name} is the only one, "
            "so that nothing was fine-tuned."
        ]
    if not dataset.counts["val"]:
        return ["--confirm compares the two best on held-out samples, and there is none; give more --labels-per-class."]
    return []


def _suggestion(selection: "Selection") -> list[str]:
    """The sentence that suggests --confirm, where the two best overlap and it takes less than a minute."""
    seconds = selection.confirm_seconds
    if seconds is None or seconds > _SHORTLY:
        return []
    return [f"The probe does not tell the two best apart. --confirm fine-tunes both shortly, in about {seconds:.0f} s."]


def _shares(text: str) -> dict[str, float]:
    """Shares of the splits from a text such as train=0.2,val=0.1,test=0.7."""
    try:
        return {name.strip(): float(share) for name, share in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form train=0.2,val=0.1,test=0.7") from None


def ranking_table(ranking: "Sequence[Ranked]") -> "Table":
    """The candidates with their scores, the probe's best first and the chosen one marked."""
    from rich.table import Column, Table

    from headstart.features.score import SCORES
    from headstart_pipelines import display

    confirmed = any(ranked.confirmed is not None for ranked in ranking)
    table = Table(
        Column("source", overflow="fold"),
        Column("probe", no_wrap=True),
        *(
            Column(title, justify="right", no_wrap=True)
            for title in ("kNN", *(SCORES[name].title for name in SCORES.in_order()))
        ),
        *([Column("fine-tuned", no_wrap=True)] if confirmed else []),
        *(Column(title, justify="right", no_wrap=True) for title in ("own", "weights", "s", "seen")),
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    for ranked in ranking:
        table.add_row(
            display.plain(ranked.name.removeprefix("models:/")) + (" ←" if ranked.chosen else ""),
            _probe(ranked),
            *(_number(score) for score in (ranked.knn, *(ranked.scores[name] for name in SCORES.in_order()))),
            *([_with_error(ranked.confirmed, ranked.confirmed_error)] if confirmed else []),
            _number(ranked.source_accuracy),
            _count(ranked.parameters),
            f"{ranked.seconds:.1f}",
            _seen(ranked),
            style="bold" if ranked.chosen else None,
        )
    return table


def _seen(ranked: "Ranked") -> str:
    """Count of the target's test samples, and of its others, that the source was trained on: – where it is not known,
    ? where it may know test samples, ≥ where what a source of it was trained on is not known."""
    if ranked.overlap is None:
        return "?" if ranked.leaks else "–"
    alike, least = ranked.look_alikes or 0, "" if ranked.overlap_complete else "≥"
    return f"{least}{ranked.overlap['test'] + alike} + {least}{ranked.overlap['train'] + ranked.overlap['val']}"


def _probe(ranked: "Ranked") -> str:
    if ranked.probe is None:
        return "–"
    # An escaped bracket: rich reads [...] as markup.
    return f"{ranked.probe:.3f} \\[{ranked.probe_low:.3f}, {ranked.probe_high:.3f}]"


def _with_error(value: float | None, error: float | None) -> str:
    return "–" if value is None or error is None else f"{value:.3f} ± {error:.3f}"


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}"


def _count(parameters: int) -> str:
    return f"{parameters / 1e6:.1f}M" if parameters >= 1e6 else f"{parameters / 1e3:.0f}k"


COMMANDS = (
    Command(
        "rank",
        rank,
        "rank models by how well a data set would start from them",
        "headstart rank --data photos/ --candidates torchvision://resnet18/IMAGENET1K_V1 'models:/*-source'",
        (
            option("--data", required=True, metavar="DATA_URI", help="the target's samples, one folder a class, as for "
                   "prepare"),
            option("--candidates", required=True, nargs="+", metavar="REF", help="models:/name@alias, "
                   "models:/name/version, all registered models with such a name as 'models:/*-source' or with a tag "
                   "as 'models:/*-source[tag=value]', torchvision://model/weights, or a bundle's path or s3:// URI"),
            option("--modality", default="image", help="what the samples are (default image)"),
            INPUT,
            option("--size", type=int, metavar="N", help="side of stored pictures in pixels, as --input size=N"),
            TASK,
            LABEL_BUDGET,
            option("--labels-per-class", type=int, metavar="K", help="keep K training samples of each class"),
            option("--split", type=_shares, metavar="SHARES", help="shares of the splits as in a recipe, where the "
                   "data has none: train=0.2,val=0.1,test=0.7"),
            option("--seed", type=int, default=0, help="decides the splits and the folds (default 0)"),
            option("--confirm", action="store_true", help="fine-tune the two best for a quarter of the epochs"),
            JSON,
            WORKSPACE,
        ),
    ),
)  # fmt: skip
