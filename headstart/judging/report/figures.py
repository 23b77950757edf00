"""The chosen strategy's figures at a glance, and notes on how to read them."""

from collections.abc import Iterator

from headstart.judging.report.judgement import Context, Judgement

_FEW_ITEMS = 100
# The figures that stand beside the metric, where there are any.
_BESIDE = {"macro_f1": "macro F1", "r2": "R²", "coverage": "coverage"}


def section(judgement: Judgement) -> Context:
    intervals = judgement.diagnostics.intervals
    return {
        "beside": [
            (title, intervals[name])
            for name, title in _BESIDE.items()
            if name in intervals and name != judgement.board.metric
        ],
        "notes": list(_notes(judgement)),
    }


def _notes(judgement: Judgement) -> Iterator[str]:
    """Yield warnings for a careful reader."""
    board, classes = judgement.board, judgement.metrics.get("per_class", [])
    chosen = board.chosen
    best = next(entry for entry in board.entries if entry.kind == "transfer")
    if best is not chosen and best.value != chosen.value:
        yield (
            f"{best.strategy} does better on the test split than {chosen.strategy}, but the choice was made on "
            "held-out samples: choosing by the test split would flatter the result."
        )
    if board.items < _FEW_ITEMS:
        yield f"Only {board.items} test items: where classes have few, intervals are too narrow; collect more."
    absent = [row["name"] for row in classes if row["support"] == 0]
    if absent:
        names = ", ".join(absent[:5]) + (" …" if len(absent) > 5 else "")
        yield f"{len(absent)} of {len(classes)} classes have no test item and no say here: {names}"
