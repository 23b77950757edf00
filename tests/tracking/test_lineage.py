import pytest

from headstart.errors import InputError
from headstart.tracking import client as paging
from headstart.tracking.lineage import champions, lineage, mermaid

VGG = "torchvision://vgg16/IMAGENET1K_V1"


@pytest.fixture
def add(registry):
    """Makes a version that has only tags, which are all that lineage reads."""

    def make(model, digest=None, source=None, source_digest=None, strategy=None, alias=None):
        if not registry.search_registered_models(f"name = '{model}'"):
            registry.create_registered_model(model)
        tags = {
            "headstart.model_digest": digest,
            "headstart.source_model": source,
            "headstart.source_digest": source_digest,
            "headstart.strategy": strategy,
        }
        tags = {key: value for key, value in tags.items() if value}
        version = registry.create_model_version(model, "file:///nowhere", tags=tags).version
        if alias:
            registry.set_registered_model_alias(model, alias, version)
        return version

    return make


def names(descendants):
    """The tree below a model as nested mappings of addresses."""
    return {child["uri"]: names(child["descendants"]) for child in descendants}


def test_a_target_names_its_source(registry, source, target):
    family = lineage(registry, "models:/pets-target@challenger")
    assert family == {
        "uri": "models:/pets-target/1",
        "model": "pets-target",
        "version": "1",
        "digest": target.digest,
        "role": "target",
        "strategy": "full",
        "aliases": ["challenger"],
        "status": "registered",
        "source": {
            "uri": "models:/pets-source/1",
            "model": "pets-source",
            "version": "1",
            "digest": source.digest,
            "role": "source",
            "strategy": "pretraining",
            "aliases": [],
            "status": "registered",
            "source": None,
        },
        "descendants": [],
    }


def test_a_source_names_its_descendants(registry, target):
    family = lineage(registry, "models:/pets-source")
    assert family["source"] is None
    assert [(child["model"], child["version"], child["digest"]) for child in family["descendants"]] == [
        ("pets-target", "1", target.digest)
    ]


def test_a_family_is_followed_over_generations_and_models(registry, target, add):
    add("grandchild", "sha256:3", "models:/pets-target/1", target.digest)
    up = lineage(registry, "models:/grandchild/1")
    assert (up["source"]["model"], up["source"]["source"]["model"]) == ("pets-target", "pets-source")
    down = lineage(registry, "models:/pets-source/1")
    assert names(down["descendants"]) == {"models:/pets-target/1": {"models:/grandchild/1": {}}}


def test_one_of_the_two_tags_is_enough(registry, source):
    """Registration was killed between two of its calls, or somebody deleted a tag by hand."""
    registry.delete_model_version_tag("pets-source", "1", "headstart.descendant/pets-target/1")
    assert names(lineage(registry, "models:/pets-source/1")["descendants"]) == {"models:/pets-target/1": {}}
    registry.set_model_version_tag(
        "pets-source", "1", "headstart.descendant/pets-target/1", lineage(registry, "models:/pets-target/1")["digest"]
    )
    registry.delete_model_version_tag("pets-target", "1", "headstart.source_model")
    assert lineage(registry, "models:/pets-target/1")["source"]["digest"] == source.digest


def test_a_source_outside_the_registry_is_named_by_its_address_and_content(registry, add):
    add("disasters", "sha256:5", VGG, "sha256:4")
    source = lineage(registry, "models:/disasters/1")["source"]
    assert (source["uri"], source["digest"], source["status"]) == (VGG, "sha256:4", "outside")
    assert (source["model"], source["version"], source["source"]) == (None, None, None)


def test_a_source_outside_the_registry_can_be_asked_for_its_descendants(registry, add):
    add("disasters", "sha256:5", VGG, "sha256:4")
    add("floods", "sha256:6", VGG, "sha256:44")
    assert names(lineage(registry, VGG)["descendants"]) == {"models:/disasters/1": {}, "models:/floods/1": {}}
    with pytest.raises(
        InputError, match="No version in the registry names torchvision://alexnet/DEFAULT as its source"
    ):
        lineage(registry, "torchvision://alexnet/DEFAULT")


def test_a_source_that_was_deleted_is_still_named(registry, source):
    registry.delete_model_version("pets-source", "1")
    named = lineage(registry, "models:/pets-target/1")["source"]
    assert (named["uri"], named["digest"], named["status"]) == ("models:/pets-source/1", source.digest, "missing")


def test_a_model_that_was_deleted_does_not_cut_the_family_in_two(registry, target, add):
    add("grandchild", "sha256:3", "models:/pets-target/1", target.digest, alias="champion")
    registry.delete_model_version("pets-target", "1")
    family = lineage(registry, "models:/pets-source/1")
    assert names(family["descendants"]) == {"models:/pets-target/1": {"models:/grandchild/1": {}}}
    assert family["descendants"][0]["status"] == "missing"
    assert [model["model"] for model in champions(registry, "models:/pets-source/1")] == ["grandchild"]


def test_a_version_that_took_a_deleted_ones_name_is_not_taken_for_it(registry, target, add):
    registry.delete_registered_model("pets-target")
    assert add("pets-target", "sha256:new") == 1
    family = lineage(registry, "models:/pets-source/1")
    assert [(child["status"], child["digest"]) for child in family["descendants"]] == [("replaced", target.digest)]
    assert lineage(registry, "models:/pets-target/1")["source"] is None


def test_a_registry_that_was_filled_anew_holds_no_source_of_older_models(registry, add):
    add("old", "sha256:8", "models:/pets-source/1", "sha256:before")
    named = lineage(registry, "models:/old/1")["source"]
    assert (named["digest"], named["status"]) == ("sha256:before", "replaced")
    assert names(lineage(registry, "models:/pets-source/1")["descendants"]) == {"models:/pets-target/1": {}}


def test_a_source_is_known_by_its_content_after_its_model_was_renamed(registry):
    registry.rename_registered_model("pets-source", "animals")
    assert lineage(registry, "models:/pets-target/1")["source"]["uri"] == "models:/animals/1"
    assert names(lineage(registry, "models:/animals/1")["descendants"]) == {"models:/pets-target/1": {}}


def test_a_version_that_headstart_did_not_register_has_a_family_of_its_own(registry, add):
    add("foreign")
    family = lineage(registry, "models:/foreign/1")
    assert (family["digest"], family["role"], family["source"], family["descendants"]) == (None, None, None, [])


def test_tags_that_were_edited_into_a_circle_end(registry, source, target):
    registry.set_model_version_tag("pets-source", "1", "headstart.source_model", "models:/pets-target/1")
    registry.set_model_version_tag("pets-source", "1", "headstart.source_digest", target.digest)
    family = lineage(registry, "models:/pets-source/1")
    assert family["source"]["model"] == "pets-target"
    assert family["source"]["source"] is None
    assert names(family["descendants"]) == {"models:/pets-target/1": {}}
    registry.set_model_version_tag("pets-source", "1", "headstart.source_model", "models:/pets-source/1")
    registry.set_model_version_tag("pets-source", "1", "headstart.source_digest", source.digest)
    assert lineage(registry, "models:/pets-source/1")["source"] is None


def test_the_champions_of_all_generations_are_named_in_one_call(registry, target, add):
    registry.set_registered_model_alias("pets-target", "champion", "1")
    add("grandchild", "sha256:3", "models:/pets-target/1", target.digest, alias="champion")
    add("grandchild", "sha256:4", "models:/pets-target/1", target.digest, alias="challenger")
    add("stranger", "sha256:5", VGG, "sha256:44", alias="champion")
    found = champions(registry, "models:/pets-source/1")
    assert [model["uri"] for model in found] == ["models:/pets-target/1", "models:/grandchild/1"]
    assert [model["uri"] for model in champions(registry, "models:/pets-target/1")] == ["models:/grandchild/1"]
    assert [model["uri"] for model in champions(registry, VGG)] == ["models:/stranger/1"]
    assert champions(registry, "models:/grandchild/2") == []


def test_a_family_that_fills_many_pages_is_complete(registry, source, add, monkeypatch):
    for number in range(5):
        add(f"model-{number}", f"sha256:{number}", "models:/pets-source/1", source.digest, alias="champion")
    monkeypatch.setattr(paging, "PAGE_SIZE", 2)
    found = champions(registry, "models:/pets-source/1")
    assert [model["model"] for model in found] == [f"model-{number}" for number in range(5)]


def test_the_flowchart_leads_from_the_source_to_every_descendant(registry, target, add):
    add("grandchild", "sha256:3", "models:/pets-target/1", target.digest, alias="champion")
    assert mermaid(lineage(registry, "models:/pets-target/1")).splitlines() == [
        "flowchart TD",
        '    m0["pets-source/1<br>pretraining"]',
        '    m1["pets-target/1<br>full @challenger"]',
        '    m2["grandchild/1<br>@champion"]',
        "    m0 --> m1",
        "    m1 --> m2",
        "    classDef champion stroke-width:4px",
        "    class m2 champion",
    ]


def test_names_and_tags_cannot_write_into_the_flowchart(registry, add):
    hostile = '"]\n click m0 "javascript:alert(1)" <img src=x> `end` %%{init} #quot;'
    add("a&b", "sha256:3", hostile, "sha256:4", strategy=hostile)
    chart = mermaid(lineage(registry, "models:/a&b/1"))
    assert len(chart.splitlines()) == 4
    assert chart.count('"') == 4
    assert not set(chart.replace("<br>", "")) & set("<`%{&'")


def test_an_unknown_model_is_refused(registry):
    with pytest.raises(InputError, match="no models:/cats"):
        lineage(registry, "models:/cats")
