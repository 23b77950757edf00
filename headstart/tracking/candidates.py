"""Candidate sources of a target, including the source that its own pipeline run pretrained."""

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
    """A source pretrained in this pipeline run. It is referenced by digest, because its registration as a version of
    `model` may not have finished."""

    model: str
    bundle: Path

    @property
    def reference(self) -> str:
        """The pinned reference. It depends on the content alone, not on the version number."""
        return by_content(self.model, bundle_digest(self.bundle))

    @property
    def background(self) -> Background:
        """The background from the bundle's evidence, the same as that of its later version."""
        found = Evidence.load(self.bundle / EVIDENCE)
        return Background(found.figures.get("test/accuracy"), frozenset(found.trained_on.tolist()), found.dataset)


@dataclass(frozen=True)
class Offer:
    """Pinned references of candidates, a function that fetches a registered one, and one that gives the background of
    each."""

    references: tuple[str, ...]
    fetch: Callable[[str], Path]
    background: Callable[[str], Background]


def offer(candidates: Sequence[str], pretrained: Pretrained | None) -> Offer:
    """Pin the candidates and append the pretrained source, unless a candidate has the same content.

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
