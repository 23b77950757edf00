"""Spread: the mean standard deviation of a source's features."""

from headstart.features.score import Probed, Score


def spread(probed: Probed) -> float:
    return float(probed.features.std(axis=0).mean())


SCORE = Score("spread", spread)
