"""From a recipe as written to one that pods can carry out."""

import pytest

from headstart.errors import InputError
from headstart.recipe.recipe import Recipe
from headstart_pipelines import resolve
from headstart_pipelines.resolve import resolve_for_cluster


def recipe(source=None, target="s3://data/digits", candidates=()):
    """A recipe with these references."""
    values = {"name": "digits", "source": {"candidates": list(candidates)}, "target": {"data": {"uri": target}}}
    if source:
        values["source"]["data"] = {"uri": source}
    return Recipe.of(values)


def test_data_in_s3_is_fingerprinted_and_sized(monkeypatch):
    monkeypatch.setattr(resolve, "fingerprint", lambda uri: f"etag:{uri}")

    found = resolve_for_cluster(recipe("s3://data/mnist"), ())

    assert found.recipe.source.data.fingerprint == "etag:s3://data/mnist"
    assert found.recipe.target.data.input["size"] == 32
    assert found.unknown == frozenset()


def test_what_cannot_be_reached_from_here_is_said_to_be_unknown(monkeypatch):
    monkeypatch.setattr(resolve, "fingerprint", lambda uri: None if "mnist" in uri else "etag:1")

    found = resolve_for_cluster(recipe("s3://data/mnist"), ())

    assert found.recipe.source.data.fingerprint is None
    assert found.unknown == {"source"}


@pytest.mark.parametrize("uri", ["/data/digits", "file:///data/digits"])
def test_a_path_on_a_volume_is_the_pods_own_affair(uri):
    found = resolve_for_cluster(recipe("s3://data/mnist", uri), {"/data"})

    assert found.recipe.target.data.uri == "/data/digits"
    assert found.recipe.target.data.fingerprint is None
    assert found.unknown == {"target"}


@pytest.mark.parametrize("uri", ["data/digits", "/database/digits", "/data/../etc", "file:///srv/digits"])
def test_a_path_of_this_machine_is_refused_with_what_to_do(uri):
    with pytest.raises(InputError, match=r"(?s)^target\.data: .*Put it into S3 \(aws s3 cp --recursive .*/data\."):
        resolve_for_cluster(recipe("s3://data/mnist", uri), {"/data"})


def test_an_unknown_scheme_is_refused():
    with pytest.raises(InputError, match="is not understood"):
        resolve_for_cluster(recipe("gs://data/mnist"), ())


def test_published_data_are_known_by_their_name():
    found = resolve_for_cluster(recipe("torchvision://MNIST"), ())

    assert found.recipe.source.data.uri == "torchvision://MNIST"
    assert found.unknown == frozenset()


def test_registered_candidates_are_pinned_where_the_registry_is_in_reach(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example.com")
    monkeypatch.setattr(resolve, "reach", lambda uri: None)
    monkeypatch.setattr(resolve.registry, "resolve", lambda uri: f"{uri.partition('@')[0]}/3#sha256={'a' * 64}")

    found = resolve_for_cluster(recipe(candidates=["models:/digits-source@champion"]), ())

    assert found.recipe.source.candidates == (f"models:/digits-source/3#sha256={'a' * 64}",)
    assert "candidates" not in found.unknown


@pytest.mark.parametrize("address", [None, "http://127.0.0.1:9"])
def test_registered_candidates_are_left_to_the_step_that_chooses_where_it_is_not(monkeypatch, address):
    if address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)

    found = resolve_for_cluster(recipe(candidates=["models:/digits-source@champion"]), ())

    assert found.recipe.source.candidates == ("models:/digits-source@champion",)
    assert "candidates" in found.unknown


def test_published_weights_are_not_downloaded_to_submit():
    found = resolve_for_cluster(recipe(candidates=["torchvision://resnet18/IMAGENET1K_V1"]), ())

    assert found.recipe.source.candidates == ("torchvision://resnet18/IMAGENET1K_V1",)
    assert "candidates" not in found.unknown


def test_a_candidate_on_this_machine_is_refused():
    with pytest.raises(InputError, match=r"^source\.candidates: '.*bundle' is on this machine"):
        resolve_for_cluster(recipe(candidates=["file:///home/me/bundle"]), {"/data"})


def test_a_candidate_on_a_volume_is_left_to_the_step_that_sees_it():
    found = resolve_for_cluster(recipe(candidates=["/models/bundle"]), (), model_mounts={"/models"})

    assert found.recipe.source.candidates == ("/models/bundle",)
    assert found.unknown >= {"candidates"}
