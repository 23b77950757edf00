"""The page that shows a person what a packed data set holds and what was left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from headstart.data.dataset import Samples
from headstart.data.dimensions import Dimensions
from headstart.data.listing import Refusal
from headstart.html import image_uri, render

_MAX_ROWS = 50
_LISTED = ("refused", "duplicates", "near", "leaks")
_MAX_PICTURES = 240
_PICTURES_PER_CLASS = 12
_THUMBNAIL = 64  # pixels: what the page's grid shows, so that large samples do not make a heavy page


@dataclass(frozen=True)
class Contents:
    """The page's content beside the manifest.

    `train_samples` is uint8 (N, H, W, C) with the class name of each in `train_labels`; `dimensions` the (width,
    height) in pixels of each picture taken in, as it is shown; `stored_bytes` the size of all splits on the disk.
    `duplicates` has groups of paths with equal content; `near` pairs of paths that look the same; `leaks` those of
    `refused` that lay in two given splits.
    """

    train_samples: Samples
    train_labels: Sequence[str]
    dimensions: Sequence[tuple[int, int]]
    stored_bytes: int
    refused: Sequence[Refusal] = ()
    duplicates: Sequence[Sequence[str]] = ()
    near: Sequence[tuple[str, str]] = ()
    leaks: Sequence[Refusal] = ()


def render_report(manifest: dict[str, Any], contents: Contents) -> str:
    """The HTML page of a packed data set."""
    splits = [name for name in manifest["splits"] if name != "unused" or manifest["splits"][name]["samples"]]
    classes = manifest["classes"]
    rows = []
    for number, label in enumerate(classes):
        counts = {name: manifest["splits"][name]["class_counts"][number] for name in splits}
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
        dimensions=Dimensions.of(contents.dimensions, stored=manifest["shape"][0]),
        store=manifest.get("store", "raw"),
        stored_bytes=_in_bytes(contents.stored_bytes),
        pictures=_pictures(classes or [""], contents.train_samples, contents.train_labels),
        **{name: getattr(contents, name)[:_MAX_ROWS] for name in _LISTED},
        **{f"{name}_count": len(getattr(contents, name)) for name in _LISTED},
    )


def _in_bytes(count: float) -> str:
    """A number of bytes with three digits or so."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _pictures(classes: Sequence[str], samples: Samples, labels: Sequence[str]) -> list[tuple[str, list[str]]]:
    """(class, [data URI, …]) for the first classes, at most _MAX_PICTURES in all."""
    each = max(1, min(_PICTURES_PER_CLASS, _MAX_PICTURES // len(classes)))
    rows_of: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        rows_of.setdefault(label, []).append(row)
    shown = [label for label in classes if label in rows_of][:_MAX_PICTURES]
    # Samples lie in the order of their paths, so the first ones are alike where they come from one place.
    chosen = {label: rows_of[label][:: max(1, len(rows_of[label]) // each)][:each] for label in shown}
    return [(label, [_thumbnail(samples[row]) for row in chosen[label]]) for label in shown]


def _thumbnail(pixels: np.ndarray) -> str:
    if pixels.shape[0] <= _THUMBNAIL:
        return image_uri(pixels)
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return image_uri(np.asarray(image.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR)))
