"""Searches for models in the registry, and what is known of those that they find."""

import numpy as np
import pytest

from headstart.errors import InputError
from headstart.tracking import client as paging
from headstart.tracking.registration import register
from headstart.tracking.registry import resolve, search
from headstart.tracking.version_record import background


@pytest.fixture
def more(registry, bundle, new_run, tmp_path):
    """Beside the family pets: birds-source 1 and 2, and letters, which headstart has not registered."""
    for version in (1, 2):
        register(new_run(), bundle(tmp_path / f"birds-{version}", seed=10 + version), model="birds-source")
    registry.create_registered_model("letters-source")
    registry.create_registered_model("plain-source")
    registry.create_model_version("plain-source", "file:///nowhere")
    return registry


def test_a_search_finds_the_latest_version_of_every_model_with_such_a_name_pinned(more, source):
    assert search("models:/*-source") == [resolve("models:/birds-source/2"), source.reference]
    assert search("models:/pets-*") == [source.reference, resolve("models:/pets-target/1")]
    assert search("models:/?ets-source") == [source.reference]


def test_a_search_takes_the_champion_where_there_is_one(more):
    more.set_registered_model_alias("birds-source", "champion", "1")
    assert search("models:/birds-*") == [resolve("models:/birds-source/1")]


def test_a_tag_of_the_version_or_of_the_model_narrows_a_search(more, source):
    more.set_registered_model_tag("pets-source", "domain", "animals")
    more.set_model_version_tag("birds-source", "2", "domain", "animals")
    more.set_model_version_tag("birds-source", "1", "hand", "left")
    assert len(search("models:/*[domain=animals]")) == 2
    assert search("models:/*[role=source,domain=animals,headstart.data_digest=sha256:1]") == [
        resolve("models:/birds-source/2"),
        source.reference,
    ]
    assert search("models:/*[strategy=full]") == [resolve("models:/pets-target/1")]
    with pytest.raises(InputError, match=r"models:/\*\[hand=left\] finds no model"):
        search("models:/*[hand=left]")


def test_what_headstart_has_not_registered_is_left_out_with_a_warning(more, caplog):
    assert "plain" not in "".join(search("models:/*"))
    assert "finds plain-source, which headstart has not registered" in caplog.text


def test_a_search_reads_every_page_of_the_registry(more, monkeypatch):
    everything = search("models:/*")
    monkeypatch.setattr(paging, "PAGE_SIZE", 1)
    assert search("models:/*") == everything
    assert len(everything) == 3


def test_a_search_that_finds_nothing_names_what_there_is(registry):
    with pytest.raises(InputError, match=r"models:/x\* finds no model .* models are: pets-source, pets-target"):
        search("models:/x*")


@pytest.mark.parametrize(
    "pattern", ["models:/*-source[domain]", "models:/*-source[=x]", "models:/*[a=b", "models:/*/1", "models:/*[]"]
)
def test_what_is_no_search_is_refused_with_the_form_of_one(registry, pattern):
    with pytest.raises(InputError, match=r"is not a search for models; write models:/\*-source"):
        search(pattern)


# What is known


def test_a_registered_source_is_known_by_its_evidence(registry, source, family_home):
    known = background(source.reference)
    assert known.accuracy == pytest.approx(50 / 60)
    assert known.learned_from == {"train-1", "train-2", "val-1"}
    assert known.complete


def test_what_a_source_of_a_candidate_has_seen_counts_too(registry, target, bundle, write_evidence, new_run, tmp_path):
    origin = {"source": target.reference, "source_digest": target.digest}
    proof = write_evidence(tmp_path / "evidence", trained_on=np.array(["grandchild"]))
    register(new_run(), bundle(tmp_path / "next", seed=5, role="target", **origin), model="next", evidence=proof)
    assert background("models:/next/1").learned_from == {"grandchild", "train-1", "train-2", "val-1"}


def test_what_came_from_published_weights_may_have_seen_more_than_is_known(
    registry, bundle, write_evidence, new_run, tmp_path
):
    origin = {"source": "torchvision://vgg16/IMAGENET1K_V1", "source_digest": "sha256:5"}
    proof = write_evidence(tmp_path / "evidence")
    register(new_run(), bundle(tmp_path / "next", seed=5, role="target", **origin), model="next", evidence=proof)
    known = background("models:/next/1")
    assert (known.learned_from, known.complete) == ({"train-1", "train-2", "val-1"}, False)


def test_of_what_was_registered_without_evidence_nothing_is_known(more):
    assert background("models:/birds-source/1").learned_from is None
