import numpy as np
import pytest
import torch

from headstart.modalities.image import MODALITY
from headstart.modalities.image.augmentation import AUGMENTATIONS
from headstart.modalities.image.augmentations.crop import shifted_by_index, shifted_by_slices

augment, draws_per_sample = MODALITY.augment, MODALITY.draws_per_sample


@pytest.fixture
def batch() -> torch.Tensor:
    return torch.arange(4 * 16 * 16 * 3).remainder(251).to(torch.uint8).reshape(4, 16, 16, 3)


METHODS = [*AUGMENTATIONS, "views"]
MOVING = [method for method in METHODS if method != "none"]


def draws(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, draws_per_sample, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("method", MOVING)
def test_augmentation_keeps_shape_and_type_and_follows_the_draws_of_each_sample(
    batch: torch.Tensor, method: str
) -> None:
    first = augment(batch, draws(4, seed=1), method=method, flip=True)
    other = augment(batch, draws(4, seed=2), method=method, flip=True)
    assert first.shape == batch.shape
    assert first.dtype == torch.uint8
    assert not torch.equal(first, other)
    alone = [augment(batch[i : i + 1], draws(4, seed=1)[i : i + 1], method=method, flip=True) for i in range(4)]
    assert torch.equal(torch.cat(alone), first)


@pytest.mark.parametrize("method", METHODS)
def test_without_strength_augmentation_moves_nothing(batch: torch.Tensor, method: str) -> None:
    moved = augment(batch, draws(4), method=method, strength=0.0)
    assert (moved.int() - batch.int()).abs().max() <= 1


def test_crop_shifts_by_an_eighth_at_most_and_fills_with_the_mirror_image(batch: torch.Tensor) -> None:
    padded = torch.nn.functional.pad(batch.permute(0, 3, 1, 2).float(), (2, 2, 2, 2), mode="reflect")
    crops = padded.to(torch.uint8).permute(0, 2, 3, 1).unfold(1, 16, 1).unfold(2, 16, 1)
    offsets = set()
    for seed in range(40):
        for number, picture in enumerate(augment(batch, draws(4, seed), method="crop")):
            hits = [
                (y, x) for y in range(5) for x in range(5) if torch.equal(crops[number, y, x].permute(1, 2, 0), picture)
            ]
            assert hits
            offsets.add(hits[0])
    assert {y for y, _ in offsets} == {x for _, x in offsets} == set(range(5))


def cropped(picture: np.ndarray, drawn: np.ndarray, strength: float) -> np.ndarray:
    """One picture (H, W, C), shifted and mirrored as `augment` says, in so many words."""
    reach = [round(strength * (side // 8)) for side in picture.shape[:2]]
    top, left = (int(draw * (2 * most + 1)) for draw, most in zip(drawn[1:3], reach, strict=True))
    padded = np.pad(picture, ((reach[0], reach[0]), (reach[1], reach[1]), (0, 0)), mode="reflect")
    crop = padded[top : top + picture.shape[0], left : left + picture.shape[1]]
    return crop[:, ::-1] if drawn[0] < 0.5 else crop


@pytest.mark.parametrize("strength", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 16, 1), (33, 20, 3), (8, 9, 1), (7, 1, 3)], ids=str)
def test_crop_is_a_part_of_the_picture_padded_by_reflection_and_half_of_them_mirrored(
    shape: tuple[int, int, int], strength: float
) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (60, *shape), dtype=np.uint8)
    drawn = draws(60)
    moved = augment(torch.from_numpy(pictures), drawn, method="crop", strength=strength, flip=True).numpy()
    for picture, found, own in zip(pictures, moved, drawn.numpy(), strict=True):
        assert np.array_equal(found, cropped(picture, own, strength))


@pytest.mark.parametrize("method", METHODS)
def test_augmentation_leaves_the_stored_pictures_as_they_are(batch: torch.Tensor, method: str) -> None:
    before = batch.clone()
    augment(batch, draws(4), method=method, flip=True)
    assert torch.equal(batch, before)


@pytest.mark.parametrize("shape", [(16, 16, 3), (33, 20, 1)], ids=str)
def test_a_gpu_shifts_pictures_as_a_cpu_does(shape: tuple[int, int, int]) -> None:
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (50, *shape), dtype=np.uint8))
    down, right = torch.randint(-4, 5, (2, 50), generator=torch.Generator().manual_seed(0))
    assert torch.equal(shifted_by_index(pictures, down, right), shifted_by_slices(pictures, down, right))


def test_affine_moves_the_centre_of_a_blob_by_a_tenth_of_the_side_and_its_area_by_the_square_of_the_scale() -> None:
    axis = torch.arange(64) - 31.5
    disc = ((axis[:, None] ** 2 + axis[None, :] ** 2) < 12**2).to(torch.uint8) * 255
    blobs = augment(disc.expand(500, 64, 64)[..., None], draws(500), method="affine").float()
    area = blobs.sum((1, 2, 3)) / disc.sum()
    assert 1 / 1.25**2 - 0.05 < area.min() < 0.75
    assert 1.5 < area.max() < 1 / 0.75**2 + 0.05
    centre = (blobs[..., 0] * axis[:, None]).sum((1, 2)) / blobs.sum((1, 2, 3))
    assert 4 < centre.abs().max() < 64 / 10 / 0.75 + 1


def test_only_flip_mirrors_and_it_mirrors_about_half() -> None:
    left_bright = torch.zeros(400, 8, 8, 1, dtype=torch.uint8)
    left_bright[:, :, :3] = 255
    assert (augment(left_bright, draws(400), method="crop")[:, :, 0] == 255).all()
    mirrored = augment(left_bright, draws(400), method="crop", flip=True)[:, 0, 7, 0] == 255
    assert 0.4 < mirrored.float().mean() < 0.6
