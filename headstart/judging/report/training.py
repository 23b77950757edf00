"""The training curves of all strategies that trained by epochs: small multiples on shared axes."""

from collections.abc import Sequence

from headstart.charts import Axis, polyline, recorded
from headstart.figures import figure
from headstart.judging.leaderboard import Entry
from headstart.judging.report.judgement import Context, Judgement
from headstart.metrics.metric import METRICS

Points = Sequence[tuple[float, float]]


def section(judgement: Judgement) -> Context | None:
    board, key = judgement.board, f"val/{judgement.board.metric}"
    trained = [entry for entry in board.entries if _points(judgement, entry, key)]
    if not trained:
        return None
    scores = {entry.strategy: _points(judgement, entry, key) for entry in trained}
    losses = {
        entry.strategy: [_points(judgement, entry, name) for name in ("train/loss", "val/loss")] for entry in trained
    }
    all_scores = [point for points in scores.values() for point in points]
    all_losses = [loss for both in losses.values() for points in both for _, loss in points]
    epochs = Axis.spanning([0.0, *(epoch for epoch, _ in all_scores)], least_step=1.0)
    score_axis = Axis.spanning([*(entry.validation or 0.0 for entry in trained), *(score for _, score in all_scores)])
    loss_axis = Axis.spanning([0.0, *all_losses], intervals=3)
    curves = []
    for entry in trained:
        epoch = judgement.assessment.kept.get(entry.strategy)
        train_loss, val_loss = losses[entry.strategy]
        curves.append(
            {
                "strategy": entry.strategy,
                "chosen": entry.chosen,
                "score": polyline(scores[entry.strategy], epochs, score_axis),
                "train_loss": polyline(train_loss, epochs, loss_axis),
                "val_loss": polyline(val_loss, epochs, loss_axis),
                "kept": _kept(entry, epoch, scores[entry.strategy]),
                # Weights between those of epochs stand nowhere on the axis.
                "dot": None
                if epoch is None or entry.validation is None
                else (epochs.at(epoch), round(100 - score_axis.at(entry.validation), 2)),
            }
        )
    return {
        "curves": curves,
        "untrained": [entry.strategy for entry in board.entries if entry not in trained],
        "epochs": epochs,
        "scores": score_axis,
        "losses": loss_axis if all_losses else None,
        "shares": not (judgement.diagnostics.numbers or judgement.diagnostics.labels),
    }


def _points(judgement: Judgement, entry: Entry, name: str) -> list[tuple[float, float]]:
    return recorded(judgement.assessment.history.get(entry.strategy, ()), name)


def _kept(entry: Entry, epoch: int | None, scores: Points) -> str:
    """The weights that a strategy kept with their score, and the epoch that scored better, if there is one."""
    weights = {None: "weights between the start and an epoch", 0: "the start"}.get(epoch, f"epoch {epoch}")
    if entry.validation is None:
        return f"kept {weights}; no label was held out"
    merit = METRICS[entry.metric].merit
    best_epoch, best = max(scores, key=lambda point: merit(point[1]))
    better = f"; best {figure(best)} in epoch {best_epoch:.0f}" if merit(best) > merit(entry.validation) else ""
    return f"kept {weights}: {figure(entry.validation)}{better}"
