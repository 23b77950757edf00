"""Duplicates: harmless copies, contradicting labels, and leaks between given splits.

Exact copies have the same bytes; near duplicates are alike by the rule of their modality.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from headstart.data.listing import Refusal
from headstart.data.samples import Readable, Sample
from headstart.data.shards import array_of
from headstart.data.shelf import Shelf
from headstart.errors import InputError
from headstart.modalities import Modality
from headstart.modalities.alike import Alike

Policy = Literal["report", "drop", "fail"]
"""The policy for duplicates of one label in one split: all are kept and named in the report, all but one are
quarantined, or there is no data set."""

# Of copies in several given splits one place wins: a test sample must stay what it was, and must never be trained on.
_WINS = ("test", "val", "train")


@dataclass(frozen=True)
class Pair:
    """Two samples of different content that are alike."""

    one: Sample
    other: Sample

    @property
    def contradicts(self) -> bool:
        return self.one.file.label != self.other.file.label


@dataclass(frozen=True)
class Checked:
    """The samples that remain beside their duplicates, and the refused ones; `leaks` are among `refused`."""

    samples: Readable
    refused: list[Refusal]
    leaks: list[Refusal]
    near: list[Pair]


def check_duplicates(name: str, readable: Readable, shelf: Shelf, kind: Modality, policy: Policy) -> Checked:
    """The samples of the data set `name`, whose arrays `shelf` has, without those that the policy or other samples rule
    out. InputError if there is any duplicate and the policy is `fail`."""
    pairs = near_pairs(readable, kind.alike, lambda sample: array_of(sample, kind, shelf)) if kind.alike else []
    # All others are alone, and stay.
    samples = readable.take(readable.copies | _in_pairs(readable, pairs))
    contradicting = contradictions(samples)
    if policy == "fail":
        refuse_any(name, contradicting, samples, pairs, kind)
    samples = _without(samples, contradicting)
    leaking = leaks(samples)
    samples = _without(samples, leaking)
    leaking += near_leaks(samples, pairs, kind)
    samples = _without(samples, leaking)
    spared = spare(samples, pairs, kind) if policy == "drop" else []
    refused = [*contradicting, *leaking, *spared]
    return Checked(_without(readable, refused), refused, leaking, pairs)


def describe_near(pairs: Sequence[Pair], kind: Modality) -> list[str]:
    """Notes for the report on samples that are alike."""
    if not pairs:
        return []
    verb = _verb(kind)
    notes = [f"Near duplicates: {len(pairs)} pairs of different files {verb} the same. They never part between splits."]
    contradicting = [pair for pair in pairs if pair.contradicts]
    if contradicting:
        first = contradicting[0]
        notes.append(
            f"{len(contradicting)} of these pairs have two labels, first {first.one.file.path} and "
            f"{first.other.file.path}: see which is right."
        )
    return notes


def copies(samples: Readable) -> list[list[Sample]]:
    """The groups of two or more samples of equal content, in the order of their first member."""
    groups: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples.take(samples.copies):
        groups[sample.content].append(sample)
    return list(groups.values())


def near_pairs(samples: Readable, alike: Alike, array_of: Callable[[Sample], np.ndarray]) -> list[Pair]:
    """Pairs of near duplicates, enough to connect all of them; of exact copies, only the first is compared."""
    first = np.zeros(len(samples), dtype=bool)
    first[np.unique(samples.contents, return_index=True)[1]] = True
    marked = np.flatnonzero(first & samples.marks.is_there)
    if len(marked) < 2:
        return []
    found = alike.pairs(samples.marks.take(marked), lambda number: array_of(samples[int(marked[number])]))
    return [Pair(samples[int(marked[i])], samples[int(marked[j])]) for i, j in found]


def contradictions(samples: Readable) -> list[Refusal]:
    """Refuses every copy of a content that lies under two labels: nobody knows which of them is right."""
    refused = []
    for group in copies(samples):
        first = group[0]
        other = next((sample for sample in group if sample.file.label != first.file.label), None)
        if other is None:
            continue
        for sample in group:
            contrary = other if sample.file.label == first.file.label else first
            reason = f"the same content has another label, '{contrary.file.label}', as {contrary.file.path}"
            refused.append(Refusal(sample.file.path, reason, sample.sha256))
    return refused


def leaks(samples: Readable) -> list[Refusal]:
    """Refuses the copies of a test sample in train and val, and those of a validation sample in train."""
    refused = []
    for group in copies(samples):
        first = {sample.file.split: sample for sample in reversed(group)}
        kept = next((split for split in _WINS if split in first), None)
        for sample in group:
            if sample.file.split != kept:
                original = first[kept]
                reason = f"the same content is in the {kept} split, as {original.file.path}; it is kept there only"
                refused.append(Refusal(sample.file.path, reason, sample.sha256))
    return refused


def near_leaks(samples: Readable, pairs: Sequence[Pair], kind: Modality) -> list[Refusal]:
    """Refuses samples that are alike to one of a given split that wins over their own, directly or through others."""
    alike = Clusters()
    for pair in pairs:
        alike.join(pair.one.content, pair.other.content)
    among = list(samples.take(_in_pairs(samples, pairs)))
    winners: dict[object, Sample] = {}
    for split in _WINS:
        for sample in among:
            if sample.file.split == split:
                winners.setdefault(alike.of(sample.content), sample)
    refused = []
    for sample in among:
        winner = winners.get(alike.of(sample.content), sample)
        if winner.file.split != sample.file.split:
            reason = (
                f"it {_verb(kind)}s the same as {winner.file.path} in the {winner.file.split} split; it is kept there "
                "only"
            )
            refused.append(Refusal(sample.file.path, reason, sample.sha256))
    return refused


def spare(samples: Readable, pairs: Sequence[Pair], kind: Modality) -> list[Refusal]:
    """Refuses all but one of the samples of one label and split that are copies or alike."""
    alike = Clusters()
    for pair in pairs:
        if _same_place(pair.one, pair.other):
            alike.join(_kind(pair.one), _kind(pair.other))
    members: dict[object, list[Sample]] = defaultdict(list)
    for sample in samples.take(samples.copies | _in_pairs(samples, pairs)):
        members[alike.of(_kind(sample))].append(sample)
    refused = []
    for group in members.values():
        kept = min(group, key=lambda sample: (sample.sha256, sample.file.path))
        for sample in group:
            if sample is not kept:
                how = "has the same content" if sample.sha256 == kept.sha256 else f"{_verb(kind)}s the same"
                refused.append(Refusal(sample.file.path, f"{kept.file.path} {how}; that alone is kept", sample.sha256))
    return refused


def refuse_any(
    name: str, contradicting: Sequence[Refusal], samples: Readable, pairs: Sequence[Pair], kind: Modality
) -> None:
    """InputError if there is any duplicate at all."""
    found = [f"{refusal.path} ({refusal.reason})" for refusal in contradicting]
    found += [f"{group[1].file.path} (the same content as {group[0].file.path})" for group in copies(samples)]
    found += [f"{pair.other.file.path} ({_verb(kind)}s the same as {pair.one.file.path})" for pair in pairs]
    if found:
        raise InputError(
            f"{name} has duplicates, which the policy duplicates: fail does not allow: {len(found)} in all, first "
            f"{'; '.join(found[:3])}. Remove them, or choose report or drop."
        )


class Clusters:
    """Disjoint sets (union-find): `join` unites the sets of two things."""

    def __init__(self) -> None:
        self._above: dict[object, object] = {}

    def of(self, thing: object) -> object:
        """The representative of a thing's set."""
        root = thing
        while self._above.get(root, root) != root:
            root = self._above[root]
        while self._above.get(thing, thing) != root:
            self._above[thing], thing = root, self._above[thing]
        return root

    def join(self, one: object, other: object) -> None:
        self._above[self.of(one)] = self.of(other)


def _verb(kind: Modality) -> str:
    return kind.alike.verb if kind.alike else "seem"


def _kind(sample: Sample) -> tuple[int, str, str | None]:
    return sample.content, sample.file.label, sample.file.split


def _same_place(one: Sample, other: Sample) -> bool:
    return (one.file.label, one.file.split) == (other.file.label, other.file.split)


def _in_pairs(samples: Readable, pairs: Iterable[Pair]) -> np.ndarray:
    """Whether the content of each sample is alike to another, bool (N,)."""
    return np.isin(samples.contents, [sample.content for pair in pairs for sample in (pair.one, pair.other)])


def _without(samples: Readable, refused: Sequence[Refusal]) -> Readable:
    return samples.take(~samples.of_paths(refusal.path for refusal in refused)) if refused else samples
