"""What changed from version 1 of pets-target, which is right on 50 of 60 test items, to a further one."""

import pytest

from headstart.tracking.difference import Setting, difference


def test_what_a_version_fixes_and_breaks_is_told_on_the_same_samples(registry, add):
    found = difference(registry, "models:/pets-target/1", f"models:/pets-target/{add(right=58)}")

    assert (found.one, found.other) == ("pets-target/1", "pets-target/2")
    assert (found.samples, found.fixed, found.broken) == (60, 8, 0)
    assert found.gain.value == pytest.approx(8 / 60)
    assert found.sentence.startswith("pets-target/2 is better than pets-target/1: +0.133 [+0.")
    assert sum(each.samples * (each.other - each.one) for each in found.classes) == pytest.approx(8)


def test_the_other_way_round_it_is_worse(registry, add):
    found = difference(registry, f"models:/pets-target/{add(right=58)}", "models:/pets-target/1")
    assert (found.fixed, found.broken) == (0, 8)
    assert found.sentence.startswith("pets-target/1 is worse than pets-target/2: -0.133 [-0.")


def test_settings_are_told_only_where_they_differ(registry, add, bundle, source, tmp_path):
    place = bundle(tmp_path / "other", seed=3, role="target", strategy="partial", source=source.reference)
    found = difference(registry, "models:/pets-target/1", f"models:/pets-target/{add(bundle_at=place)}")
    settings = {each.name: each for each in found.settings}
    assert settings["strategy"] == Setting("strategy", "full", "partial")
    assert not {"architecture", "reads", "classes", "role"} & settings.keys()


def test_a_version_does_not_differ_from_itself(registry):
    found = difference(registry, "models:/pets-target/1", "models:/pets-target")
    assert (found.settings, found.fixed, found.broken) == ((), 0, 0)
    assert "pets-target/1 is not told from pets-target/1: +0.000" in found.sentence


def test_versions_that_cannot_be_compared_say_why(registry, add):
    digests = {"data_digest": "sha256:1", "train_digest": "sha256:2", "test_digest": "sha256:of other samples"}
    found = difference(registry, "models:/pets-target/1", f"models:/pets-target/{add(digests=digests)}")
    assert (found.gain, found.classes) == (None, ())
    assert found.sentence.startswith(
        "pets-target/2 and pets-target/1 cannot be compared: their stored predictions are about different items"
    )
