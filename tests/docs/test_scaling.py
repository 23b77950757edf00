"""The table of docs/scaling.md follows from the figures below it and from the code."""

import json
import math
import re
from typing import Any

import pytest
import yaml

from headstart.data.limits import MAX_ENTRIES
from headstart.data.streamed import BLOCK
from headstart.training.batches import LANES
from headstart_pipelines.catalog import compile_pipeline
from headstart_pipelines.placement import Placement
from headstart_pipelines.profile import Parts, Profile, load_profile
from tests.docs.pages import ROOT
from tests.docs.scaling import requests

PAGE = " ".join((ROOT / "docs" / "scaling.md").read_text().split())
COUNTS = (100_000, 1_000_000, 2_000_000, 10_000_000)
SHARD = 640
GIB = 2**30


def row(name: str) -> list[str]:
    """The cells of the row whose first one begins so."""
    found = re.search(rf"\| {re.escape(name)}[^|]*\|((?: [^|]+ \|){{4}})", PAGE)
    assert found, name
    return [cell.strip() for cell in found[1].strip("|").split("|")]


def numbers(name: str) -> list[float]:
    return [float(re.sub(r"[^0-9.]", "", cell)) for cell in row(name)]


def figures(pattern: str) -> tuple[float, ...]:
    found = re.search(pattern, PAGE)
    assert found, pattern
    return tuple(float(figure.replace(",", "")) for figure in found.groups())


def close(count: float, digits: int = 0) -> Any:
    return pytest.approx(count, abs=0.51 * 10**-digits)


PARTS = [int(number) for number in numbers("steps that read, P")]


def test_the_columns_are_the_counts_and_the_last_is_above_what_a_prefix_may_hold():
    assert numbers("") == list(COUNTS)
    assert COUNTS[-2] == MAX_ENTRIES < COUNTS[-1]
    assert row("S3: objects read")[-1] == "refused"
    with pytest.raises(ValueError, match="less than or equal to 64"):
        Parts(source=PARTS[-1] + 1)


def test_a_requests_row_is_what_the_preparation_asks():
    written = [int(cell.replace(",", "")) for cell in row("S3: requests beside")[:-1]]
    for count, parts, found in zip(COUNTS, PARTS, written, strict=False):
        assert found == requests(count, parts, math.ceil(count / SHARD)) - count


def test_a_part_is_as_many_pods_as_the_compiled_pipeline_has(tmp_path):
    def pods(parts: int | None) -> int:
        profile = load_profile(ROOT / "infra" / "profiles" / "cpu.yaml").model_copy(
            update={"preparation_parts": Parts(source=parts)}
        )
        return _pods(tmp_path, profile)

    assert [pods(parts) - pods(None) for parts in (8, 16)] == [1 + 3 * parts for parts in (8, 16)]
    assert numbers("further pods") == [1 + 3 * parts for parts in PARTS]
    assert numbers("further bytes of the workflow") == [close(57_000 * parts / 1e6, 2) for parts in PARTS]


def test_seconds_memory_and_bytes_follow_from_what_was_measured():
    start, each = figures(r"takes ([0-9.]+) s and ([0-9.]+) µs an item of one processor")
    base, held = figures(r"and ([0-9,]+) MiB and ([0-9,]+) bytes an item of memory")
    (looks,) = figures(r"comes to ([0-9.]+) µs and 460 bytes a picture")
    (index,) = figures(r"in memory, ([0-9,]+) bytes a training item")
    assert numbers("reading, minutes") == [close(count * 3.1e-3 / 60) for count in COUNTS]
    assert numbers("joining, seconds") == [close(start + count * each / 1e6) for count in COUNTS]
    assert numbers("joining, memory") == [close((base * 2**20 + count * held) / GIB, 2) for count in COUNTS]
    assert numbers("comparing looks") == [close(count * looks / 1e6) for count in COUNTS]
    assert numbers("the store, at 224 px") == [close(count * 224 * 224 * 3 / 1e9) for count in COUNTS]
    assert numbers("a training's index") == [close(0.7 * count * index / GIB, 2) for count in COUNTS]


def test_an_epoch_that_streams_asks_for_as_many_blocks_as_its_samples_fill():
    size = 224 * 224 * 3
    assert numbers("requests of an epoch") == [close(0.7 * count * size / BLOCK) for count in COUNTS]
    assert numbers("bytes a second") == [close(1000 * size / 1e6)] * len(COUNTS)
    assert f"Samples are drawn from {LANES} blocks at a time" in PAGE


def _pods(folder: Any, profile: Profile) -> int:
    """The pods of the compiled pretraining: a driver of each graph and of each turn of a loop, two of each step."""
    compile_pipeline("pretrain", folder / "p.yaml", Placement(profile=profile), allow_tag=True)
    package = next(yaml.safe_load_all((folder / "p.yaml").read_text()))

    def of(entry: dict[str, Any]) -> int:
        component = package["components"][entry["componentRef"]["name"]]
        inner = 1 + sum(map(of, component["dag"]["tasks"].values())) if "dag" in component else 2
        turns = entry.get("parameterIterator")
        return 1 + len(json.loads(turns["items"]["raw"])) * inner if turns else inner

    return 1 + sum(map(of, package["root"]["dag"]["tasks"].values()))
