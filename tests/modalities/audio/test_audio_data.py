"""Folders and tables of recordings become data sets, as those of pictures do."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from headstart.data.prepare import prepare
from headstart.data.section import Data
from tests.modalities.audio.sounds import speech, write


@pytest.fixture
def folder(tmp_path):
    """Two classes of twelve recordings each, of four speakers."""
    lines = ["path,label,group"]
    for number in range(24):
        label, speaker = ("yes", "no")[number % 2], f"speaker-{number % 8 // 2}"
        path = f"{label}/{number}.{('wav', 'flac', 'ogg')[number % 3]}"
        write(tmp_path / "sounds" / path, speech(number, 0.5 + number / 10))
        lines.append(f"{path},{label},{speaker}")
    (tmp_path / "sounds" / "samples.csv").write_text("\n".join(lines))
    return tmp_path / "sounds"


def index(packed) -> list[dict[str, str]]:
    return pq.read_table(packed.path / "index.parquet").to_pylist()


def test_recordings_of_one_speaker_never_part_between_training_and_test(folder, tmp_path):
    for seed in range(5):
        data = Data(uri=str(folder / "samples.csv"), input={"seconds": 1, "mels": 32})
        packed = prepare(data, tmp_path / f"packed-{seed}", modality="audio", seed=seed)

        splits: dict[str, set[str]] = {}
        for row in index(packed):
            splits.setdefault(row["group"], set()).add(row["split"])
        assert len(splits) == 4
        assert all(len(found) == 1 for found in splits.values())


def test_a_folder_is_packed_with_what_is_no_recording_in_quarantine_and_copies_in_one_split(folder, tmp_path):
    (folder / "samples.csv").unlink()
    (folder / "yes" / "cut.wav").write_bytes((folder / "yes" / "0.wav").read_bytes()[:-500])
    (folder / "yes" / "picture.wav").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    for number, level in ((1, 0.5), (4, 0.3), (6, 0.8)):
        label = "no" if number % 2 else "yes"
        write(folder / label / f"copy-{number}.wav", level * speech(number, 0.5 + number / 10))

    packed = prepare(Data(uri=str(folder), input={"seconds": 2}), tmp_path / "packed", modality="audio")

    assert packed.shape == (100, 64, 1)
    refused = [json.loads(line) for line in (packed.path / "quarantine.jsonl").read_text().splitlines()]
    assert {each["path"] for each in refused} == {"yes/cut.wav", "yes/picture.wav"}
    split_of = {row["path"]: row["split"] for row in index(packed)}
    assert split_of["no/copy-1.wav"] == split_of["no/1.flac"]
    assert split_of["yes/copy-4.wav"] == split_of["yes/4.flac"]
    assert split_of["yes/copy-6.wav"] == split_of["yes/6.wav"]
    report = (packed.path / "report.html").read_text()
    assert "Recordings as they came" in report
    assert "100 × 64" in report
    assert np.asarray(packed.samples("train")[0]).dtype == np.uint8
