"""The sources that a target may choose from, the one that its pipeline run pretrained among them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.judging.evidence import EVIDENCE, Evidence
from headstart.models.bundle import bundle_digest
from headstart.models.reference import by_content, pin_of, unpinned
from headstart.models.sources import Background, pin_sources
from headstart.tracking import registry
from headstart.tracking.version_record import background


@dataclass(frozen=True)
class Pretrained:
    """A source of this pipeline run. Its registration as a version of `model` may not have ended, so that it is known
    by its content."""

    model: str
    bundle: Path

    @property
    def reference(self) -> str:
        """Pinned; the same for the same content, whatever number the version gets."""
        return by_content(self.model, bundle_digest(self.bundle))

    @property
    def background(self) -> Background:
        """What its evidence says, as it will say of the version."""
        found = Evidence.load(self.bundle / EVIDENCE)
        return Background(found.figures.get("test/accuracy"), frozenset(found.trained_on.tolist()), found.dataset)


@dataclass(frozen=True)
class Offer:
    """Pinned references, how a registered one is fetched, and what is known of each beside its content."""

    references: tuple[str, ...]
    fetch: Callable[[str], Path]
    background: Callable[[str], Background]


def offer(candidates: Sequence[str], pretrained: Pretrained | None) -> Offer:
    """The candidates, pinned, and after them the source that was pretrained unless one of them has its content.

    Raises:
        InputError: a candidate cannot be reached, or a search finds nothing.
    """
    found = pin_sources(candidates, resolve_registered=registry.resolve, search_registered=registry.search)
    if pretrained is None or pin_of(pretrained.reference) in map(pin_of, found):
        return Offer(found, registry.fetch, background)
    own = pretrained.reference
    return Offer(
        (*found, own),
        lambda uri: pretrained.bundle if uri == unpinned(own) else registry.fetch(uri),
        lambda uri: pretrained.background if uri == own else background(uri),
    )
