import pytest

from headstart.errors import InputError
from headstart.tracking.lineage import lineage


def test_a_target_names_its_source(registry, source, target):
    family = lineage(registry, "models:/pets-target@challenger")
    assert family == {
        "model": "pets-target",
        "version": "1",
        "digest": target.digest,
        "role": "target",
        "strategy": "full",
        "aliases": ["challenger"],
        "source": {
            "model": "pets-source",
            "version": "1",
            "digest": source.digest,
            "role": "source",
            "strategy": "pretraining",
            "aliases": [],
            "source": None,
        },
        "descendants": [],
    }


def test_a_source_names_its_descendants(registry, source, target):
    family = lineage(registry, "models:/pets-source")
    assert family["source"] is None
    assert [(child["model"], child["version"], child["digest"]) for child in family["descendants"]] == [
        ("pets-target", "1", target.digest)
    ]


def version_of(client, model, tags):
    """A version with only tags, which are all that lineage reads."""
    if not client.search_registered_models(f"name = '{model}'"):
        client.create_registered_model(model)
    return client.create_model_version(model, "file:///nowhere", tags=tags)


def test_a_family_is_followed_over_generations(registry):
    version_of(registry, "grandchild", {"headstart.source_model": "models:/pets-target/1"})
    registry.set_model_version_tag("pets-target", "1", "headstart.descendant/grandchild/1", "sha256:3")
    up = lineage(registry, "models:/grandchild/1")
    assert (up["source"]["model"], up["source"]["source"]["model"]) == ("pets-target", "pets-source")
    down = lineage(registry, "models:/pets-source/1")
    assert down["descendants"][0]["descendants"][0]["model"] == "grandchild"


def test_a_source_outside_the_registry_is_named_by_its_address_and_content(registry):
    uri = "torchvision://vgg16/IMAGENET1K_V1"
    version_of(registry, "disasters", {"headstart.source_model": uri, "headstart.source_digest": "sha256:4"})
    assert lineage(registry, "models:/disasters/1")["source"] == {"uri": uri, "digest": "sha256:4"}


def test_a_source_that_was_deleted_is_still_named(registry, source):
    registry.delete_model_version("pets-source", "1")
    family = lineage(registry, "models:/pets-target/1")
    assert family["source"] == {"uri": "models:/pets-source/1", "digest": source.digest}


def test_a_descendant_that_was_deleted_does_not_hide_the_others(registry, target):
    version_of(registry, "pets-target", {})
    registry.set_model_version_tag("pets-source", "1", "headstart.descendant/pets-target/2", "sha256:5")
    registry.delete_model_version("pets-target", "1")
    family = lineage(registry, "models:/pets-source/1")
    assert [child["version"] for child in family["descendants"]] == ["2"]


def test_tags_that_were_edited_into_a_circle_end(registry):
    registry.set_model_version_tag("pets-target", "1", "headstart.descendant/pets-source/1", "sha256:6")
    registry.set_model_version_tag("pets-source", "1", "headstart.source_model", "models:/pets-target/1")
    assert lineage(registry, "models:/pets-source/1")["model"] == "pets-source"


def test_an_unknown_model_is_refused(registry):
    with pytest.raises(InputError, match="no models:/cats"):
        lineage(registry, "models:/cats")
