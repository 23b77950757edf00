"""What a command says of data in S3 comes from one listing, and the next command's from another."""

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import md5
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import boto3
import numpy as np
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from PIL import Image

from headstart.api.ranking import _prepared
from headstart.data.section import Data
from headstart.recipe.recipe import Recipe
from headstart.storage import s3
from headstart_pipelines.check import check
from headstart_pipelines.resolve import resolve, resolve_for_cluster

PAGE = 10


class _Raw(io.BytesIO):
    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


@dataclass
class Bucket:
    """Answers in place of a store with one bucket; `listed` counts the pages that it was asked for."""

    objects: dict[str, bytes] = field(default_factory=dict)
    listed: Counter[tuple[str, int, str]] = field(default_factory=Counter)

    def answer(self, request: Any, **_: Any) -> AWSResponse:
        parts = urlsplit(request.url)
        query = parse_qs(parts.query)
        if "list-type" in query:
            asked = (
                query["prefix"][0],
                int(query.get("max-keys", [PAGE])[0]),
                query.get("continuation-token", [""])[0],
            )
            self.listed[asked] += 1
            return self._response(request.url, self._page(*asked))
        return self._response(request.url, self.objects[parts.path.removeprefix("/data/")])

    def _page(self, prefix: str, size: int, after: str) -> bytes:
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        etags = {key: md5(self.objects[key], usedforsecurity=False).hexdigest() for key in keys}
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-02T00:00:00Z</LastModified>"
            f'<ETag>"{etags[key]}"</ETag><Size>{len(self.objects[key])}</Size></Contents>'
            for key in keys[:size]
        )
        more = f"<NextContinuationToken>{keys[size - 1]}</NextContinuationToken>" if len(keys) > size else ""
        truncated = str(bool(more)).lower()
        return f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{more}{entries}</ListBucketResult>".encode()

    @staticmethod
    def _response(url: str, content: bytes) -> AWSResponse:
        return AWSResponse(url, 200, {"Content-Length": str(len(content))}, _Raw(content))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
    """A store with s3://data/pictures/<class>/<file>.png, 12 pictures a class, and s3://data/pictures/list.csv."""
    bucket, rows = Bucket(), ["path,label"]
    for label in ("cat", "dog"):
        for number in range(12):
            file = io.BytesIO()
            pixels = np.random.default_rng(number + 100 * (label == "cat")).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(file, "PNG")
            bucket.objects[f"pictures/{label}/{number:02}.png"] = file.getvalue()
            rows.append(f"{label}/{number:02}.png,{label}")
    bucket.objects["pictures/list.csv"] = "\n".join(rows).encode()
    client = boto3.Session().client(
        "s3", region_name="here", endpoint_url="http://store", aws_access_key_id="key", aws_secret_access_key="no",
        config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
    client.meta.events.register("before-send.s3", bucket.answer)
    monkeypatch.setattr(s3, "client", lambda: client)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    return bucket


def recipe(source: str, target: str) -> Recipe:
    return Recipe.of({"name": "case", "source": {"data": {"uri": source}}, "target": {"data": {"uri": target}}})


def test_run_lists_a_prefix_and_what_a_table_names_once_each(bucket: Bucket) -> None:
    resolved = resolve(recipe("s3://data/pictures", "s3://data/pictures/list.csv"))
    assert resolved.source.data
    assert resolved.target
    assert resolved.source.data.fingerprint
    assert resolved.target.data.fingerprint
    assert set(bucket.listed.values()) == {1}
    # Whether it is an object, and 25 of them in pages of 10; likewise the table, and the folders of what it names.
    assert sum(bucket.listed.values()) == (1 + 3) + (1 + 2 + 2)


def test_source_and_target_in_one_prefix_are_listed_once_for_a_cluster(bucket: Bucket) -> None:
    found = resolve_for_cluster(recipe("s3://data/pictures", "s3://data/pictures"), ())
    assert not found.unknown
    assert sum(bucket.listed.values()) == 1 + 3


@pytest.mark.parametrize("uri", ["s3://data/pictures", "s3://data/pictures/list.csv"])
def test_check_lists_a_data_set_once(uri: str, bucket: Bucket, tmp_path: Path) -> None:
    lines = list(islice(check(recipe(uri, "elsewhere"), tmp_path), 2))
    assert "24 samples in 2 classes" in lines[1]
    assert set(bucket.listed.values()) == {1}


def test_rank_prepares_what_it_took_the_fingerprint_of(bucket: Bucket, tmp_path: Path) -> None:
    section = Data.of({"uri": "s3://data/pictures", "size": 8})
    packed = _prepared(section, ["torchvision://resnet18/IMAGENET1K_V1"], tmp_path / "rank", modality="image", seed=0)
    assert sum(packed.counts.values()) == 24
    assert set(bucket.listed.values()) == {1}


def test_the_next_command_sees_what_is_new(bucket: Bucket) -> None:
    before = resolve(recipe("s3://data/pictures", "s3://data/pictures"))
    bucket.objects["pictures/cat/new.png"] = bucket.objects["pictures/cat/00.png"]
    after = resolve(recipe("s3://data/pictures", "s3://data/pictures"))
    assert before.source.data
    assert after.source.data
    assert before.source.data.fingerprint != after.source.data.fingerprint


def test_what_changes_within_a_command_is_the_next_ones(bucket: Bucket) -> None:
    with s3.listed_once():
        first = list(s3.list_contents("s3://data/pictures/"))
        del bucket.objects["pictures/cat/00.png"]
        with s3.listed_once():
            assert list(s3.list_contents("s3://data/pictures/")) == first
        assert list(s3.list_contents("s3://data/pictures/")) == first
    assert len(list(s3.list_contents("s3://data/pictures/"))) == len(first) - 1
