"""Copies, pictures that look the same, and what becomes of them within and across splits."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from headstart.data.dataset import SPLITS, Dataset
from headstart.errors import InputError
from headstart.modalities.image import near_duplicates as near_duplicates_module
from headstart.modalities.image.near_duplicates import MIN_SIDE, looks_of, near_duplicates
from headstart_pipelines.demo import digits, mnist_5k

Pack = Callable[..., Dataset]
SplitsOf = Callable[[Dataset], dict[str, str]]
QuarantineOf = Callable[[Dataset], dict[str, str]]


@cache
def photograph(number: int) -> Image.Image:
    return Image.fromarray(load_sample_images().images[number])


def crop(number: int, side: int = 120) -> Image.Image:
    """One of 48 different parts of two photographs, none of which is all sky."""
    image, place = photograph(number % 2), number // 2
    left, top = 80 * (place % 6) + 20, 55 * (place // 6 % 4) + 135
    return image.crop((left, top, left + side, top + side))


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two classes of 20 different parts of photographs."""
    for number in range(40):
        folder = tmp_path / "photographs" / ("china", "flower")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        crop(number).save(folder / f"{number:02}.png")
    return tmp_path / "photographs"


def saved_again(folder: Path, numbers: range, prefix: str = "again") -> list[tuple[str, str]]:
    """Saves pictures of the folder in another format or size; pairs of paths."""
    pairs = []
    for number in numbers:
        label = ("china", "flower")[number % 2]
        image, other = crop(number), folder / label / f"{prefix}{number:02}"
        if number % 3 == 0:
            other = other.with_suffix(".jpg")
            image.save(other, quality=80)
        elif number % 3 == 1:
            other = other.with_suffix(".png")
            image.resize((84, 84), Image.Resampling.LANCZOS).save(other)
        else:
            other = other.with_suffix(".webp")
            image.save(other, quality=80)
        pairs.append((f"{label}/{number:02}.png", f"{label}/{other.name}"))
    return pairs


@pytest.mark.parametrize("size", [32, 64])
def test_what_was_saved_again_shares_a_split_and_is_reported(
    photographs: Path, pack: Pack, splits_of: SplitsOf, size: int
) -> None:
    assert "Near duplicates" not in (pack(photographs, size=size).path / "report.html").read_text()
    pairs = saved_again(photographs, range(30))
    dataset = pack(photographs, size=size)
    splits = splits_of(dataset)
    assert [pair for pair in pairs if splits[pair[0]] != splits[pair[1]]] == []
    assert any("30 pairs of different files look the same" in note for note in dataset.manifest["notes"])
    page = (dataset.path / "report.html").read_text().split("Near duplicates")[-1]
    assert all(path in page for pair in pairs for path in pair)


def test_what_looks_like_a_test_sample_is_never_trained_on(
    photographs: Path, tmp_path: Path, pack: Pack, quarantine_of: QuarantineOf
) -> None:
    root = tmp_path / "given"
    for split in ("train", "test"):
        root.joinpath(split).mkdir(parents=True)
    photographs.rename(root / "train" / "x")
    for path in list((root / "train" / "x").iterdir()):
        path.rename(root / "train" / path.name)
    (root / "train" / "x").rmdir()
    for label in ("china", "flower"):
        (root / "test" / label).mkdir()
    pairs = saved_again(root / "test", range(6))
    quarantine = quarantine_of(pack(root, size=64))
    assert quarantine.keys() == {f"train/{original}" for original, _ in pairs}
    for original, again in pairs:
        assert quarantine[f"train/{original}"] == (
            f"it looks the same as test/{again} in the test split; it is kept there only"
        )


def test_of_duplicates_one_is_kept_where_they_are_dropped(
    photographs: Path, pack: Pack, quarantine_of: QuarantineOf
) -> None:
    before = pack(photographs, size=64)
    pairs = saved_again(photographs, range(9))
    (photographs / "china" / "copy.png").write_bytes((photographs / "china" / "20.png").read_bytes())
    dataset = pack(photographs, size=64, duplicates="drop")
    quarantine = quarantine_of(dataset)
    assert len(quarantine) == 10
    assert sum(dataset.counts.values()) == sum(before.counts.values()) == 40
    assert quarantine["china/copy.png"] == "china/20.png has the same content; that alone is kept"
    for pair in pairs:
        (dropped,) = [path for path in pair if path in quarantine]
        (kept,) = set(pair) - {dropped}
        assert quarantine[dropped] == f"{kept} looks the same; that alone is kept"


def test_what_belongs_together_has_one_name_in_its_split(photographs: Path, pack: Pack) -> None:
    pairs = saved_again(photographs, range(9))
    (photographs / "china" / "copy.png").write_bytes((photographs / "china" / "20.png").read_bytes())
    dataset = pack(photographs, size=64)
    splits = [dataset.split(name) for name in ("train", "val", "test")]
    group_of = {path: name for each in splits for path, name in zip(each.paths, each.groups, strict=True)}
    for one, other in [*pairs, ("china/copy.png", "china/20.png")]:
        assert group_of.pop(one) == group_of.pop(other) != ""
    assert set(group_of.values()) == {""}


def test_any_duplicate_ends_the_step_where_that_is_asked_for(photographs: Path, pack: Pack) -> None:
    assert sum(pack(photographs, size=64, duplicates="fail").counts.values()) == 40
    saved_again(photographs, range(1))
    with pytest.raises(InputError, match=r"duplicates: fail.*1 in all.*china/again00\.jpg|china/00\.png"):
        pack(photographs, size=64, duplicates="fail")
    (photographs / "flower" / "copy.png").write_bytes((photographs / "flower" / "21.png").read_bytes())
    with pytest.raises(InputError, match=r"2 in all, first flower/copy\.png \(the same content as flower/21\.png\)"):
        pack(photographs, size=64, duplicates="fail")


def test_the_same_look_under_two_labels_is_said_and_keeps_both(photographs: Path, pack: Pack) -> None:
    crop(0).save(photographs / "flower" / "odd.jpg", quality=90)
    dataset = pack(photographs, size=64, duplicates="drop")
    assert sum(dataset.counts.values()) == 41
    (note,) = [note for note in dataset.manifest["notes"] if "two labels" in note]
    assert "china/00.png and flower/odd.jpg" in note


def test_adding_a_near_duplicate_moves_nothing_else(
    tmp_path: Path, fill: Callable[..., Path], photographs: Path, pack: Pack, splits_of: SplitsOf
) -> None:
    root = fill(tmp_path / "many", {"china": 60, "flower": 60})
    for path in photographs.rglob("*.png"):
        path.rename(root / path.parent.name / f"photo{path.name}")
    before = splits_of(pack(root, size=32))
    saved_again(root, range(8))
    after = splits_of(pack(root, size=32))
    moved = {path for path in before if before[path] != after[path]}
    # The lower of two hashes decides where both go, so that a picture goes with its newer version in half the cases.
    assert moved <= {f"{('china', 'flower')[n % 2]}/photo{n:02}.png" for n in range(8)}


@pytest.mark.parametrize(("load", "sizes"), [(mnist_5k, (28, 32)), (digits, (28, 32))])
def test_different_digits_never_count_as_the_same(load: Callable[[], tuple[np.ndarray, np.ndarray]], sizes) -> None:
    images = load()[0][::2]
    for size in sizes:
        stored = [np.asarray(Image.fromarray(image).resize((size, size)))[:, :, None] for image in images]
        looks = looks_of(stored)
        assert None not in looks
        assert near_duplicates([look for look in looks if look], stored.__getitem__) == []


def test_small_and_plain_pictures_have_no_look() -> None:
    rng = np.random.default_rng(0)
    assert looks_of([rng.integers(0, 256, (MIN_SIDE - 1, MIN_SIDE - 1, 1), dtype=np.uint8)]) == [None]
    assert looks_of([np.full((64, 64, 3), 200, np.uint8)]) == [None]
    assert looks_of([]) == []


def test_the_search_finds_what_a_comparison_of_all_pairs_finds() -> None:
    """Also where many pictures share a part of their hash, and in clusters of more than two."""
    rng = np.random.default_rng(3)
    pictures = []
    for number in range(150):
        base = np.asarray(crop(number % 48).resize((32, 32)), dtype=np.float32)
        pictures.append(np.clip(base + rng.normal(0, 1.5 * (number // 48), base.shape), 0, 255).astype(np.uint8))
    looks = [look for look in looks_of(pictures) if look]
    assert len(looks) == 150
    joined = list(range(150))
    for i, j in near_duplicates(looks, pictures.__getitem__):
        joined = [joined[i] if cluster == joined[j] else cluster for cluster in joined]
    thumbnails = [np.asarray(Image.fromarray(p).convert("L"), dtype=np.float32) for p in pictures]
    for i in range(150):
        for j in range(i):
            distance = np.sqrt(np.mean((thumbnails[i] - thumbnails[j]) ** 2))
            correlation = np.corrcoef(thumbnails[i].ravel(), thumbnails[j].ravel())[0, 1]
            if distance < 3 and correlation > 0.995:
                assert joined[i] == joined[j]
            if i % 48 != j % 48:
                assert joined[i] != joined[j]


def test_frames_of_a_few_scenes_are_each_compared_with_a_few_others_and_copies_among_them_found(caplog) -> None:
    """Frames of a scene have one hash, so that each may be compared with every other; here all are told apart."""
    rng = np.random.default_rng(0)
    scenes = rng.uniform(40, 215, (2, 8, 8, 1)).repeat(4, 1).repeat(4, 2)
    frames = [np.clip(scenes[n % 2] + rng.normal(0, 12, (32, 32, 1)), 0, 255).astype(np.uint8) for n in range(800)]
    copies = [np.clip(frame + rng.normal(0, 1, frame.shape), 0, 255).astype(np.uint8) for frame in frames[:20]]
    pictures, read = [*frames, *copies], []
    looks = [look for look in looks_of(pictures) if look]

    def pixels_of(number: int) -> np.ndarray:
        read.append(number)
        return pictures[number]

    compared = []
    with pytest.MonkeyPatch.context() as patch:
        same = near_duplicates_module._same
        patch.setattr(near_duplicates_module, "_same", lambda i, j, of: (compared.extend(i), same(i, j, of))[1])
        assert near_duplicates(looks, pixels_of) == [(number, 800 + number) for number in range(20)]
    assert sorted(read) == list(range(len(pictures))), "each is read once"
    # With 32 others in each of 4 bands, where all pairs would be 200 a picture.
    assert len(compared) <= 4 * 32 * len(pictures)
    assert "each was compared with its nearest only" in caplog.text


def test_a_group_of_copies_and_looks_in_a_packed_set_is_in_one_split_only(photographs: Path, pack: Pack) -> None:
    saved_again(photographs, range(20))
    saved_again(photographs, range(0, 20, 3), prefix="third")
    dataset = pack(photographs, size=48)
    by_origin: dict[str, set[str]] = {}
    for name in SPLITS:
        for path in dataset.split(name).paths:
            by_origin.setdefault(path.split("/")[1][-6:-4] + path.split("/")[0], set()).add(name)
    numbers = {origin for origin in by_origin if len(by_origin[origin]) > 1 and origin[0].isdigit()}
    assert numbers == set()
