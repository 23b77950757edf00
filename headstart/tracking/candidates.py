"""Models that a run begins with: candidate sources of a target, including the one that its own pipeline run pretrained,
and the start of a pretraining."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headstart.judging.evidence import EVIDENCE, Evidence
from headstart.models.bundle import ModelBundle, bundle_digest
from headstart.models.reference import by_content, pin_of, unpinned
from headstart.models.sources import Background, load_source, pin_source, pin_sources
from headstart.tracking import registry
from headstart.tracking.version_record import background
from headstart.training.section import Pretraining


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
        learned_from, complete = frozenset(found.trained_on.tolist()), True
        if start := ModelBundle.load(self.bundle).provenance.get("source"):
            before = background(start)
            learned_from |= before.learned_from or frozenset()
            complete = before.learned_from is not None and before.complete
        return Background(found.figures.get("test/accuracy"), learned_from, found.dataset, complete)


@dataclass(frozen=True)
class Offer:
    """Pinned references of candidates, a function that fetches a registered one, and one that gives the background of
    each."""

    references: tuple[str, ...]
    fetch: Callable[[str], Path]
    background: Callable[[str], Background]


@contextmanager
def started(pretraining: Pretraining, modality: str) -> Iterator[tuple[Pretraining, Path | None]]:
    """Yield the section with its start pinned, and the path of the start's bundle while the context lasts; None where
    training starts from random weights.

    Raises:
        InputError: the start cannot be reached, or reads another modality.
    """
    if pretraining.start is None:
        yield pretraining, None
        return
    pinned = pin_source(pretraining.start, resolve_registered=registry.resolve)
    with tempfile.TemporaryDirectory() as folder:
        load_source(pinned, modality=modality, fetch_registered=registry.fetch).save(Path(folder, "start"))
        yield pretraining.model_copy(update={"start": pinned}), Path(folder, "start")


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
