"""A modality, an augmentation or a corruption is added by one member of its registry; nothing else lists them."""

import numpy as np
import pytest
import torch

from headstart.errors import InputError
from headstart.judging.robustness import robustness
from headstart.modalities import MODALITIES, modality
from headstart.modalities.augmentation import Augmentation
from headstart.modalities.corruption import Corruption
from headstart.modalities.image import Image
from headstart.modalities.image.augmentation import AUGMENTATIONS
from headstart.modalities.image.corruption import CORRUPTIONS
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle
from headstart.recipe.recipe import Recipe


def test_a_recipe_may_name_an_augmentation_that_was_added_and_training_applies_it(add_member):
    recipe = {"name": "scans", "source": {"candidates": ["x"]}, "target": {"data": {"uri": "here"}}}
    recipe["training"] = {"augmentation": "invert"}
    known = "auto, none, affine, crop"
    with pytest.raises(InputError, match=f"training.augmentation: 'invert' .* choose one of {known}"):
        Recipe.of(recipe)

    add_member(AUGMENTATIONS, "invert", Augmentation(lambda batch, draws, strength: 255 - batch))

    assert Recipe.of(recipe).training.augmentation == "invert"
    batch = torch.arange(2 * 8 * 8, dtype=torch.uint8).reshape(2, 8, 8, 1)
    assert torch.equal(modality("image").augment(batch, torch.rand(2, 10), method="invert"), 255 - batch)


@pytest.mark.parametrize(("place", "position"), [(0, 0), (3, 3), (100, -1)])
def test_a_corruption_that_was_added_is_judged_at_its_place(add_member, place, position):
    add_member(CORRUPTIONS, "darkness", Corruption("darkness", lambda samples, severity: samples // 4, place=place))
    samples = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 1), dtype=np.uint8)
    bundle = ModelBundle(
        network=convnet(classes=2, channels=1).eval(),
        architecture="convnet",
        modality="image",
        preprocessing=Preprocessing.fit(samples, size=16, channels=1),
        classes=("a", "b"),
    )

    found = robustness(bundle, samples, np.zeros(4, dtype=int))

    assert len(found.corrupted) == 8
    assert found.corrupted[position].corruption == "darkness"


def test_a_recipe_may_name_a_modality_that_was_added(add_member):
    recipe = {"name": "scans", "modality": "scan", "target": {"data": {"uri": "here"}}, "source": {"candidates": ["x"]}}
    with pytest.raises(InputError, match="modality: 'scan'"):
        Recipe.of(recipe)

    add_member(MODALITIES, "scan", Image())

    assert Recipe.of(recipe).modality == "scan"
    assert modality("scan").extensions == modality("image").extensions
