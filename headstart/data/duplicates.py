"""Files with the same content: harmless copies, contradicting labels, and leaks between given splits."""

from collections import defaultdict
from collections.abc import Iterable

from headstart.data.folder import Refusal
from headstart.data.samples import Sample

# Of copies in several given splits one place wins: a test sample must stay what it was, and must never be trained on.
_WINS = ("test", "val", "train")


def copies(samples: Iterable[Sample]) -> list[list[Sample]]:
    """The groups of two or more samples of equal content, in the order of their first member."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.sha256].append(sample)
    return [group for group in groups.values() if len(group) > 1]


def contradictions(samples: Iterable[Sample]) -> list[Refusal]:
    """Refuses every copy of a content that lies under two labels: nobody knows which of them is right."""
    refused = []
    for group in copies(samples):
        for sample in group:
            other = next((copy for copy in group if copy.file.label != sample.file.label), None)
            if other is not None:
                reason = f"the same content has another label, '{other.file.label}', as {other.file.path}"
                refused.append(Refusal(sample.file.path, reason, sample.sha256))
    return refused


def leaks(samples: Iterable[Sample]) -> list[Refusal]:
    """Refuses the copies of a test sample in train and val, and those of a validation sample in train."""
    refused = []
    for group in copies(samples):
        given = {sample.file.split for sample in group}
        kept = next((split for split in _WINS if split in given), None)
        for sample in group:
            if sample.file.split != kept:
                original = next(copy for copy in group if copy.file.split == kept)
                reason = f"the same content is in the {kept} split, as {original.file.path}; it is kept there only"
                refused.append(Refusal(sample.file.path, reason, sample.sha256))
    return refused
