"""The gates of a promotion: each asks one question of a version and answers it with a number and its limit."""

import statistics
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np

from headstart.errors import HeadstartError
from headstart.judging.pairing import Pair
from headstart.metrics.calibration import expected_calibration_error
from headstart.metrics.classification import score
from headstart.metrics.counts import count, recalls
from headstart.metrics.gains import paired_bootstrap_gain
from headstart.metrics.metric import metric_title
from headstart.metrics.significance import mcnemar_p
from headstart.models.bundle import ModelBundle
from headstart.tracking.dossier import Dossier
from headstart.tracking.policy import Policy
from headstart.tracking.trial import fault

_WARM_UP, _REPEATS = 5, 50
_UNLABELLED = "its data has no labels to measure it by"


@dataclass(frozen=True)
class Gate:
    """What one gate found: whether `value` stands in `relation` to `limit`.

    `passed` is None where the question does not arise, for example about a champion where there is none, or where it
    cannot be answered and the policy lets that pass. `value` is None also where it could not be found out, which else
    closes the gate; `text` says why.
    """

    name: str
    passed: bool | None
    value: float | None
    relation: Literal[">", ">=", "<="]
    limit: float
    text: str


def judge(policy: Policy, challenger: Dossier, champion: Dossier | None, pair: Pair | str | None) -> list[Gate]:
    """Every gate of `policy`, in its order.

    `pair` is what the two predict for the same items, or says why they cannot be compared; None without a champion.
    """
    return [
        *_against_champion(policy, challenger, champion, pair),
        *_min_metrics(policy, challenger),
        *_gain(policy, challenger),
        *_class_regression(policy, champion, pair),
        *_ece(policy, challenger),
        *_size(policy, challenger),
        *_latency(policy, challenger, champion),
        *_leaked(policy, challenger),
        *_lineage(policy, challenger),
        *([loads(challenger)] if policy.loads else []),
    ]


def loads(version: Dossier) -> Gate:
    """Whether the version can be used: its files are there and whole, and it predicts its stored example."""
    found = fault(version)
    text = found or "its files are whole, and it predicts its stored example"
    return Gate("loads", found is None, float(found is not None), "<=", 0.0, text)


def _against_champion(
    policy: Policy, challenger: Dossier, champion: Dossier | None, pair: Pair | str | None
) -> Iterator[Gate]:
    if policy.against_champion == "none":
        return
    name = "against_champion"
    better = policy.against_champion == "better"
    relation: Literal[">", ">="] = ">" if better else ">="
    limit = 0.0 if better else -policy.margin
    if champion is None or pair is None:
        yield Gate(name, None, None, relation, limit, "there is no champion yet")
    elif isinstance(pair, str) or challenger.evidence is None:
        yield Gate(name, False, None, relation, limit, f"not comparable with version {champion.version}: {pair}")
    else:
        metric = challenger.evidence.metric
        gain = paired_bootstrap_gain(
            metric, pair.labels, pair.ours, pair.theirs, len(pair.classes), confidence=policy.confidence
        )
        text = (
            f"{metric_title(metric)} {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] against version "
            f"{champion.version} on {len(pair.ids):,} items"
        )
        if pair.left_out:
            text += f", {pair.left_out:,} left out as one of the two was trained on them"
        if metric == "accuracy":
            text += f"; McNemar p = {mcnemar_p(pair.labels, pair.ours, pair.theirs):.2g}"
        yield Gate(name, gain.low > limit if better else gain.low >= limit, gain.low, relation, limit, text)


def _min_metrics(policy: Policy, challenger: Dossier) -> Iterator[Gate]:
    for metric, limit in policy.min_metrics:
        if limit is None:
            continue
        name = f"min_metrics.{metric}"
        if challenger.evidence is None:
            yield _unknown(name, ">=", limit)
            continue
        test = challenger.evidence.predictions
        if not test.classes:
            yield _unknown(name, ">=", limit, _UNLABELLED)
            continue
        value = score(metric, test.labels, test.probabilities.argmax(axis=1), len(test.classes))
        yield Gate(name, value >= limit, value, ">=", limit, f"{metric_title(metric)} on the test split")


def _gain(policy: Policy, challenger: Dossier) -> Iterator[Gate]:
    for name, ending in (("min_gain", ""), ("min_gain_low", "_low")):
        limit = getattr(policy, name)
        if limit is None:
            continue
        if challenger.role == "source":
            yield Gate(name, None, None, ">=", limit, "a source has no gain")
        elif challenger.evidence is None:
            yield _unknown(name, ">=", limit)
        else:
            metric = challenger.evidence.metric
            value = challenger.evidence.figures.get(f"gain/{metric}{ending}")
            text = f"{'lower bound of the gain' if ending else 'gain'} over scratch in {metric_title(metric)}"
            if value is None:
                text = "no gain is recorded; run with the baseline scratch"
            yield Gate(name, value is not None and value >= limit, value, ">=", limit, text)


def _class_regression(policy: Policy, champion: Dossier | None, pair: Pair | str | None) -> Iterator[Gate]:
    limit, name = policy.max_class_regression, "max_class_regression"
    if limit is None:
        return
    if champion is None or pair is None:
        yield Gate(name, None, None, "<=", limit, "there is no champion yet")
    elif isinstance(pair, str):
        yield Gate(name, False, None, "<=", limit, f"not comparable with version {champion.version}")
    else:
        counts, before = (count(pair.labels, each, len(pair.classes)) for each in (pair.ours, pair.theirs))
        drops = np.where(counts.labelled > 0, recalls(before) - recalls(counts), -np.inf)
        worst = int(drops.argmax())
        text = (
            f"recall of {pair.classes[worst]!r} from {recalls(before)[worst]:.3f} to {recalls(counts)[worst]:.3f}"
            if drops[worst] > 0
            else "no class lost recall"
        )
        value = max(float(drops[worst]), 0.0)
        yield Gate(name, value <= limit, value, "<=", limit, text)


def _ece(policy: Policy, challenger: Dossier) -> Iterator[Gate]:
    limit, name = policy.max_ece, "max_ece"
    if limit is None:
        return
    if challenger.evidence is None:
        yield _unknown(name, "<=", limit)
        return
    test = challenger.evidence.predictions
    if not test.classes:
        yield _unknown(name, "<=", limit, _UNLABELLED)
        return
    value = expected_calibration_error(test.labels, test.probabilities)
    yield Gate(name, value <= limit, value, "<=", limit, "expected calibration error on the test split")


def _size(policy: Policy, challenger: Dossier) -> Iterator[Gate]:
    limit, name = policy.max_size_mb, "max_size_mb"
    if limit is None:
        return
    try:
        value = sum(file.stat().st_size for file in challenger.bundle.iterdir()) / 1e6
    except HeadstartError as error:
        yield _unknown(name, "<=", limit, str(error))
        return
    yield Gate(name, value <= limit, value, "<=", limit, "MB of the bundle")


def _latency(policy: Policy, challenger: Dossier, champion: Dossier | None) -> Iterator[Gate]:
    limit, name = policy.max_latency_ms, "max_latency_ms"
    if limit is None:
        return
    try:
        value = _milliseconds(challenger)
    except HeadstartError as error:
        yield _unknown(name, "<=", limit, str(error))
        return
    text = "ms for one sample on this machine"
    if champion is not None:
        # The champion's files may be what is to be replaced.
        with suppress(HeadstartError):
            text += f"; version {champion.version} takes {_milliseconds(champion):.1f}"
    yield Gate(name, value <= limit, value, "<=", limit, text)


def _leaked(policy: Policy, challenger: Dossier) -> Iterator[Gate]:
    limit, name = policy.max_leaked, "max_leaked"
    if limit is None:
        return
    if challenger.evidence is None:
        yield _unknown(name, "<=", limit)
        return
    ids = challenger.evidence.predictions.ids
    value = sum(each in challenger.learned_from for each in ids.tolist())
    if challenger.unknown and value <= limit:
        text = f"at least {value:,} of its {len(ids):,} test items; {_not_known(challenger)}"
        yield Gate(name, _lets_pass(policy), None, "<=", float(limit), text)
        return
    text = f"of its {len(ids):,} test items it or a source of it was trained on"
    yield Gate(name, value <= limit, float(value), "<=", float(limit), text)


def _lineage(policy: Policy, challenger: Dossier) -> Iterator[Gate]:
    if not policy.lineage:
        return
    gaps = challenger.gaps
    if challenger.unknown and not gaps:
        text = f"digests and evidence agree; {_not_known(challenger)}"
        yield Gate("lineage", _lets_pass(policy), None, "<=", 0.0, text)
        return
    text = "; ".join(gaps) if gaps else "digests, evidence and sources are there and agree"
    yield Gate("lineage", not gaps, float(len(gaps)), "<=", 0.0, text)


def _not_known(challenger: Dossier) -> str:
    return f"what {' and '.join(challenger.unknown)} learned from is not known"


def _lets_pass(policy: Policy) -> bool | None:
    """What becomes of a gate that unknown training data leave unanswered."""
    return None if policy.unknown_training_data == "pass" else False


def _unknown(name: str, relation: Literal[">=", "<="], limit: float, text: str = "the version has no evidence") -> Gate:
    return Gate(name, False, None, relation, limit, text)


def _milliseconds(dossier: Dossier) -> float:
    """Median time of a prediction for one sample."""
    bundle = ModelBundle.load(dossier.bundle)
    size, channels = bundle.preprocessing.size, bundle.preprocessing.channels
    sample = np.zeros((1, size, size, channels), dtype=np.uint8)
    seconds = []
    for _ in range(_WARM_UP + _REPEATS):
        start = time.perf_counter()
        bundle.predict_probabilities(sample)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[_WARM_UP:])
