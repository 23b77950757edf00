"""From a recipe as written to one that says exactly what will run: absolute data, fingerprints, inputs, pinned models.

Nothing that is left open here can change between two runs of the same resolved recipe, which is what makes reuse of
unchanged steps true.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from headstart.data.kinds.torchvision import is_published
from headstart.data.reference import fingerprint, has_no_labels, listed, located
from headstart.data.section import Data
from headstart.errors import HeadstartError, InputError, MissingData
from headstart.modalities import modality
from headstart.models.reference import PUBLISHED, RECORD, pin_of
from headstart.recipe.inputs import settled_input
from headstart.recipe.recipe import Recipe
from headstart.storage import s3
from headstart.tracking import registry
from headstart.tracking.client import reach
from headstart.training.section import Pretraining


@s3.listed_once()
def resolve(recipe: Recipe) -> Recipe:
    """The resolved recipe; of data in S3, all that is said of it comes from one listing.

    Raises:
        InputError: data or a candidate cannot be reached; it is named.
    """
    source = recipe.source.model_copy(
        update={
            "data": _resolve_data("source", recipe.source.data, recipe) if recipe.source.data else None,
            "candidates": _pinned(recipe.source.candidates),
            "pretraining": _with_pinned_start(recipe),
        }
    )
    target = recipe.target and recipe.target.model_copy(
        update={"data": _resolve_data("target", recipe.target.data, recipe)}
    )
    return recipe.model_copy(update={"source": source, "target": target})


@dataclass(frozen=True)
class ForCluster:
    """A recipe resolved as far as it can be from outside of the cluster, and what is left open: "source" and "target"
    for data whose content is unknown, "candidates" for models that a step has yet to pin."""

    recipe: Recipe
    unknown: frozenset[str]


@s3.listed_once()
def resolve_for_cluster(
    recipe: Recipe, mounts: Collection[str], *, model_mounts: Collection[str] = (), live: bool = False
) -> ForCluster:
    """The recipe as pods can carry it out.

    Args:
        mounts: paths at which the step that prepares data sees volumes.
        model_mounts: paths at which the step that chooses a source does.
        live: whether the resolved recipe is for runs to come, which take data and models as they are then.

    Raises:
        InputError: data or a candidate is where no pod sees it; it is named.
    """
    unknown: set[str] = set()

    def data(role: str, section: Data) -> Data:
        with at(f"{role}.data"):
            if is_published(section.uri):
                # It never changes under its name.
                return section.model_copy(update={"uri": located(section.uri), "input": settled_input(section, recipe)})
            uri = seen_by_pods(section.uri, mounts, "aws s3 cp --recursive {path} s3://BUCKET/{name}")
            # What lies at a volume's path on this machine need not be what the volume holds.
            mark = fingerprint(uri) if s3.is_s3(uri) and not live else None
        if mark is None:
            unknown.add(role)
        return section.model_copy(update={"uri": uri, "fingerprint": mark, "input": settled_input(section, recipe)})

    source = recipe.source.model_copy(
        update={"data": data("source", recipe.source.data) if recipe.source.data else None}
    )
    target = recipe.target and recipe.target.model_copy(update={"data": data("target", recipe.target.data)})
    candidates: list[str] = []
    with at("source.candidates"):
        for uri in recipe.source.candidates:
            candidates += found if (found := _pinned_from_here(uri, model_mounts, live=live)) else [uri]
            # torchvision's weights never change under their name.
            if not found and not uri.startswith("torchvision://"):
                unknown.add("candidates")
    source = source.model_copy(update={"candidates": tuple(dict.fromkeys(candidates))})
    if (start := source.pretraining.start) and source.data:
        with at("source.pretraining.start"):
            found = _pinned_from_here(start, model_mounts, live=live)
        if found:
            source = source.model_copy(
                update={"pretraining": source.pretraining.model_copy(update={"start": found[0]})}
            )
        # Its training is what depends on it, which is never reused either where the source's data are unknown.
        elif not start.startswith("torchvision://"):
            unknown.add("source")
    return ForCluster(recipe.model_copy(update={"source": source, "target": target}), frozenset(unknown))


@contextmanager
def at(key: str) -> Iterator[None]:
    """Put the recipe's key before the message of an InputError about its value."""
    try:
        yield
    except InputError as error:
        kind = MissingData if isinstance(error, MissingData) else InputError
        raise kind(f"{key}: {error}") from error


def refuse_unlabelled(role: str, data: Data, recipe: Recipe) -> None:
    """InputError if the data lies in a folder without class folders and its labels are learned."""
    if data.labels == "none" or not has_no_labels(data.uri, modality_name=recipe.modality):
        return
    if role == "target":
        raise InputError(f"{data.uri} has no class folders; lay a target's samples out as <class>/<file>.")
    if recipe.source.pretraining.objective == "supervised":
        raise InputError(
            f"{data.uri} has no class folders, and pretraining.objective supervised learns labels; lay its samples out "
            "as <class>/<file>, or set source.pretraining.objective to vicreg."
        )
    if data.labels_per_class:
        raise InputError(f"{data.uri} has no class folders, so labels_per_class has no meaning; remove it.")


def _refuse_what_the_task_lacks(data: Data, recipe: Recipe) -> None:
    """InputError if the evaluation asks for what the task lacks that the target's labels look like. They are listed
    only where the recipe asks for something that not every task has."""
    if data.task != "auto" or recipe.evaluation.suits_every_task:
        return
    kind = modality(recipe.modality)
    with (
        at("target.data"),
        listed(data.uri, kind, data.labels_for("target"), given=kind.probe(data.input), task=data.task) as listing,
    ):
        task, looks = listing.task, listing.looks
    recipe.evaluation.for_task(task, looks)


def _resolve_data(role: str, data: Data, recipe: Recipe) -> Data:
    with at(f"{role}.data"):
        uri = located(data.uri)
        refuse_unlabelled(role, data, recipe)
    if role == "target":
        _refuse_what_the_task_lacks(data, recipe)
    found = {"uri": uri, "fingerprint": fingerprint(uri), "input": settled_input(data, recipe)}
    return data.model_copy(update=found)


def _with_pinned_start(recipe: Recipe) -> Pretraining:
    pretraining = recipe.source.pretraining
    if pretraining.start is None or recipe.source.data is None:
        return pretraining
    from headstart.models.sources import pin_source

    with at("source.pretraining.start"):
        return pretraining.model_copy(
            update={"start": pin_source(pretraining.start, resolve_registered=registry.resolve)}
        )


def _pinned(candidates: Sequence[str]) -> tuple[str, ...]:
    if not candidates:
        return ()
    # Here, because it brings torch, which a run without candidates needs in its steps alone.
    from headstart.models.sources import pin_sources

    with at("source.candidates"):
        return pin_sources(candidates, resolve_registered=registry.resolve, search_registered=registry.search)


def _pinned_from_here(uri: str, mounts: Collection[str], *, live: bool) -> tuple[str, ...]:
    """Pin a candidate; empty where that is left to the step that chooses the source."""
    from headstart.models.sources import pin_source, pin_sources

    if pin_of(uri):
        return (uri,)
    if uri.startswith(PUBLISHED):
        return ()
    if uri.startswith(RECORD):
        if live or not is_record_reached():
            return ()
        return pin_sources([uri], resolve_registered=registry.resolve, search_registered=registry.search)
    uri = seen_by_pods(uri, mounts, "headstart run registers it; or upload it to s3://BUCKET/{name}")
    if live or not s3.is_s3(uri):
        return ()
    try:
        return (pin_source(uri),)
    except HeadstartError:
        # This machine has no credentials for the store, say; the step that loads it has, or says why not.
        return ()


def is_record_reached() -> bool:
    """Whether MLflow's record can be read from here; that of a cluster may be reached from its inside only."""
    server = os.environ.get("MLFLOW_TRACKING_URI")
    if not server:
        return False
    try:
        reach(server)
    except InputError:
        return False
    return True


def seen_by_pods(uri: str, mounts: Collection[str], remedy: str) -> str:
    """The URI of something in S3 as it is, or the path of something on a volume; InputError for anything else."""
    if s3.is_s3(uri):
        return uri
    parts = urlsplit(uri)
    if "://" in uri and parts.scheme != "file":
        raise InputError(f"'{uri}' is not understood; give s3://bucket/prefix, or a path on a volume of the profile.")
    path = PurePosixPath(unquote(parts.path) if parts.scheme == "file" else uri)
    if ".." not in path.parts and any(path.is_relative_to(mount) for mount in mounts):
        return str(path)
    seen = f"The profile mounts {', '.join(sorted(mounts))}" if mounts else "The profile mounts no volume"
    raise InputError(
        f"'{uri}' is on this machine, where no pod sees it. Put it into S3 "
        f"({remedy.format(path=uri, name=path.name)}) and name that, or put it on a volume that the profile mounts and "
        f"give its path there. {seen}."
    )
