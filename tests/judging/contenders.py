"""Trainings as contenders on the test split."""

from collections.abc import Collection, Mapping
from pathlib import Path

from headstart.data.dataset import Dataset
from headstart.judging.assessment import Assessment, evaluate
from headstart.judging.contenders import Contender
from headstart.judging.section import Evaluation
from headstart.training.trained import Trained


def assessed(
    trained: Mapping[str, Trained], dataset: Dataset, root: Path, strategies: Collection[str], evaluation: Evaluation
) -> Assessment:
    """What all of `trained`, of which those that are no `strategies` are baselines, reach on the test split."""
    contenders = [
        Contender(
            name,
            "transfer" if name in strategies else "baseline",
            each.save(root / name, dataset),
            each.validation,
            each.seconds,
            run_id=f"run-{name}",
            source="models:/the-source/1" if name in strategies else None,
        )
        for name, each in trained.items()
    ]
    return evaluate(contenders, dataset, root / "predictions", evaluation=evaluation)
