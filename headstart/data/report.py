"""The page that shows a person what a packed data set holds and what was left out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from headstart.data.columns import Coded
from headstart.data.dataset import Samples
from headstart.data.listing import Refusal
from headstart.html import render
from headstart.metrics.task import MULTI_LABEL
from headstart.modalities import Modality, modality
from headstart.sections import Section

_MAX_ROWS = 50
_LISTED = ("refused", "duplicates", "near", "leaks")
_MAX_SHOWN = 240
# Of numbers, and sets of labels, which may be as many as there are samples.
_MAX_NUMBERS = 12
_SHOWN_PER_CLASS = 12


@dataclass(frozen=True)
class Contents:
    """The page's content beside the manifest.

    `train_samples` are the stored samples of the training split with the class name of each in `train_labels`; `facts`
    is what the modality tells of each sample taken in; `stored_bytes` the size of all splits on the disk.
    `duplicates` has groups of paths with equal content; `near` pairs of paths that look the same; `leaks` those of
    `refused` that lay in two given splits.
    """

    train_samples: Samples
    train_labels: Sequence[str]
    facts: Sequence[Mapping[str, Any]]
    stored_bytes: int
    refused: Sequence[Refusal] = ()
    duplicates: Sequence[Sequence[str]] = ()
    near: Sequence[tuple[str, str]] = ()
    leaks: Sequence[Refusal] = ()


def render_report(manifest: dict[str, Any], contents: Contents) -> str:
    """The HTML page of a packed data set."""
    splits = [name for name in manifest["splits"] if name != "unused" or manifest["splits"][name]["samples"]]
    classes, kind, shape = manifest["classes"], modality(manifest["modality"]), tuple(manifest["shape"])
    store, given = manifest.get("store", "raw"), kind.input.model_construct(**manifest.get("input", {}))
    rows = []
    strata = manifest.get("strata")
    for number, label in enumerate(strata["names"] if strata else classes):
        counts = {
            name: strata["counts"][name][number] if strata else manifest["splits"][name]["class_counts"][number]
            for name in splits
        }
        rows.append({"label": label, "counts": counts, "total": sum(counts.values())})
    totals = [manifest["splits"][name]["samples"] for name in splits]
    return render(
        "data/report.html",
        manifest=manifest,
        splits=splits,
        rows=rows,
        largest=max((row["total"] for row in rows), default=0),
        totals=totals,
        total=sum(totals),
        of_samples=Markup(kind.data_report(contents.facts, shape, given)),  # noqa: S704 (a modality's own template)
        stored=kind.in_words(shape),
        verb=kind.alike.verb if kind.alike else "seem",
        store=f"raw {kind.values}" if store == "raw" else store.upper(),
        stored_bytes=contents.stored_bytes,
        examples=_examples(kind, given, _shown(manifest, contents), contents) if kind.is_shown else [],
        **{name: getattr(contents, name)[:_MAX_ROWS] for name in _LISTED},
        **{f"{name}_count": len(getattr(contents, name)) for name in _LISTED},
    )


def _shown(manifest: dict[str, Any], contents: Contents) -> list[str]:
    """The labels that examples are shown of: the classes, of several the most frequent sets, and of numbers some from
    the least to the largest."""
    if manifest.get("task") == MULTI_LABEL:
        return [label for label, _ in Counter(contents.train_labels).most_common(_MAX_NUMBERS)]
    if "strata" not in manifest:
        return manifest["classes"] or [""]
    # One number may be written in two ways.
    numbers = sorted(set(contents.train_labels), key=lambda label: (float(label), label))
    return numbers[:: max(1, len(numbers) // _MAX_NUMBERS)][:_MAX_NUMBERS]


def _examples(
    kind: Modality, given: Section, classes: Sequence[str], contents: Contents
) -> list[tuple[str, list[str]]]:
    """(class, [element, …]) for the first classes, at most _MAX_SHOWN in all."""
    each = max(1, min(_SHOWN_PER_CLASS, _MAX_SHOWN // len(classes)))
    labels = Coded.of(contents.train_labels)
    order = np.argsort(labels.codes, kind="stable")
    ends = np.cumsum(labels.counts)
    rows_of = {
        label: order[end - count : end]
        for label, end, count in zip(labels.values, ends.tolist(), labels.counts.tolist(), strict=True)
    }
    shown = [label for label in classes if label in rows_of][:_MAX_SHOWN]

    def element(row: int, label: str) -> str:
        alt = f"a training sample of {label}" if label else "a training sample"
        return kind.as_html(contents.train_samples[row], alt, given, small=True)

    # Samples lie in the order of their paths, so the first ones are alike where they come from one place.
    chosen = {label: rows_of[label][:: max(1, len(rows_of[label]) // each)][:each].tolist() for label in shown}
    return [(label, [element(row, label) for row in chosen[label]]) for label in shown]
