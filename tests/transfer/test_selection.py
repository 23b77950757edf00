import shutil

import numpy as np
import pytest
import torch

from headstart.data.dataset import Dataset
from headstart.errors import InputError
from headstart.models.architectures import build_network
from headstart.models.preprocessing import Preprocessing
from headstart.models.sources import pin_source
from headstart.transfer.selection import select_source


@pytest.fixture
def random_path(source, tmp_path):
    """A bundle like the source's that has learned nothing."""
    torch.manual_seed(0)
    source.network = build_network("convnet", classes=len(source.classes), channels=1)
    source.save(tmp_path / "random")
    return tmp_path / "random"


def test_a_trained_source_is_preferred_to_random_weights_wherever_it_stands(renamed, source_path, random_path):
    trained, random = pin_source(str(source_path)), pin_source(str(random_path))
    for candidates in ([trained, random], [random, trained]):
        selection = select_source(candidates, renamed)
        assert [ranked.source for ranked in selection.ranking] == [trained, random]
        assert selection.ranking[0].probe > selection.ranking[1].probe
        assert selection.bundle.provenance["strategy"] == "pretraining"
        state = selection.bundle.network.state_dict()
        assert state["stages.0.1.num_batches_tracked"] > 0


def test_neither_validation_nor_test_samples_are_read(renamed, source_path, random_path, tmp_path):
    copy = Dataset.open(shutil.copytree(renamed.path, tmp_path / "copy"))
    for name in ("val", "test"):
        (copy.path / f"{name}.npy").write_bytes(b"not samples")
    candidates = [str(random_path), str(source_path)]
    probes = [
        [(ranked.source, ranked.probe, ranked.probe_error) for ranked in select_source(candidates, dataset).ranking]
        for dataset in (renamed, copy)
    ]
    assert probes[0] == probes[1]


def test_of_equals_the_earlier_is_taken(renamed, source_path, tmp_path):
    twin = shutil.copytree(source_path, tmp_path / "twin")
    for candidates in ([str(source_path), str(twin)], [str(twin), str(source_path)]):
        assert [ranked.source for ranked in select_source(candidates, renamed).ranking] == candidates


def test_where_the_labels_cannot_tell_the_smaller_network_is_taken(single, source, source_path, tmp_path):
    torch.manual_seed(0)
    source.network = build_network("convnet", classes=len(source.classes), channels=3)
    source.preprocessing = Preprocessing(size=16, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    source.save(tmp_path / "larger")
    selection = select_source([str(tmp_path / "larger"), str(source_path)], single)
    assert [ranked.source for ranked in selection.ranking] == [str(source_path), str(tmp_path / "larger")]
    assert [ranked.probe for ranked in selection.ranking] == [0.0, 0.0]
    assert selection.ranking[0].parameters < selection.ranking[1].parameters
    assert selection.bundle.preprocessing.channels == 1


def test_the_selection_is_the_same_again(renamed, source_path, random_path):
    candidates = [str(source_path), str(random_path)]
    first, again = (select_source(candidates, renamed, seed=4).ranking for _ in range(2))
    assert [ranked.probe for ranked in first] == [ranked.probe for ranked in again]


def test_the_chosen_source_comes_as_it_was(renamed, source, source_path):
    chosen = select_source([str(source_path)], renamed).bundle
    state = chosen.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in source.network.state_dict().items())
    assert (chosen.classes, chosen.provenance) == (source.classes, source.provenance)
    assert np.isclose(select_source([str(source_path)], renamed).ranking[0].parameters, 2.2e5, rtol=0.2)


def test_progress_ends_with_the_last_candidate(renamed, source_path, random_path):
    seen = []
    select_source(
        [str(source_path), str(random_path)],
        renamed,
        progress=lambda label, done, total, note="": seen.append((done, total)),
    )
    assert seen == [(1, 2), (2, 2)]


def test_no_candidate_is_an_error(renamed):
    with pytest.raises(InputError, match="There is no source to choose from"):
        select_source([], renamed)


def test_a_candidate_that_is_missing_or_not_what_was_pinned_is_named(renamed, source_path, tmp_path):
    with pytest.raises(InputError, match=str(tmp_path / "none")):
        select_source([str(source_path), str(tmp_path / "none")], renamed)
    with pytest.raises(InputError, match="was pinned to sha256:00"):
        select_source([f"{source_path}#sha256={'0' * 64}"], renamed)
