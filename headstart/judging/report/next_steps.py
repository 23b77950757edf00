"""What to do with the result: what the verdict, the reasons and the facts beside it ask for."""

from collections.abc import Iterator
from typing import NamedTuple

from headstart.judging.headline import imbalance_hidden
from headstart.judging.report.judgement import Context, Judgement


class Step(NamedTuple):
    """Something to do, with the command that does it where one does."""

    text: str
    command: str | None = None


def section(judgement: Judgement) -> Context | None:
    steps = list(_steps(judgement))
    return {"steps": steps} if steps else None


def _steps(judgement: Judgement) -> Iterator[Step]:
    board, model = judgement.board, f"{judgement.experiment}-target"
    if board.verdict == "helped":
        yield Step("Promote the version that this run registers: it becomes the champion if every gate lets it.",
                   f"headstart promote {model}")  # fmt: skip
        yield Step("Predict with the champion.", f"headstart predict models:/{model}@champion FOLDER")
    elif board.delivered_entry.kind == "baseline":
        yield Step(f"Take {board.delivered}, which is delivered: no contender that uses this source does better.")
    for name in board.untrained:
        yield Step(
            f"Train longer, so that {name} learns its own samples and beating it says something.",
            "headstart run recipe.json --set training.epochs=100",
        )
    for reason in judgement.diagnostics.reasons:
        if reason.speaks_against and reason.remedy:
            yield Step(reason.remedy)
    if board.verdict != "helped":
        yield Step("Ask which other source the target would start from best.", "headstart rank CANDIDATE … --data DATA")
    if imbalance_hidden.__name__ in board.facts:
        yield Step("Choose by a metric in which every class counts alike.",
                   "headstart run recipe.json --set evaluation.metric=balanced_accuracy")  # fmt: skip
    if "test_seen_before" in board.facts:
        yield Step(
            "Measure the model that you take on samples that no choice has seen.",
            f"headstart evaluate models:/{model}@challenger NEW_DATA",
        )
