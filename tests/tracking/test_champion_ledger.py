from dataclasses import replace

import pytest

from headstart.errors import HeadstartError, InputError
from headstart.tracking.champion_ledger import Ledger, read_ledger
from headstart.tracking.names import LEDGER


def read(registry, model="pets-target") -> Ledger:
    return read_ledger(registry, registry.get_registered_model(model))


def enter(registry, *changes: str) -> Ledger:
    """Enters changes one after the other."""
    for change in changes:
        assert read(registry).enter(registry, change)
    return read(registry)


def test_a_model_that_never_had_a_champion_has_an_empty_ledger(registry, target):
    ledger = read(registry)
    assert (ledger.entries, ledger.completed, ledger.open) == ((), (), None)
    assert ledger.run_id == registry.get_model_version("pets-target", "1").run_id


def test_of_two_who_want_the_same_place_the_first_has_it(registry):
    ours, theirs = read(registry), read(registry)
    assert ours.enter(registry, "a").entries == ("a",)
    assert theirs.enter(registry, "b") is None
    assert read(registry).entries == ("a",)


def test_an_entry_that_is_sent_twice_is_one(registry):
    ledger = read(registry)
    assert ledger.enter(registry, "a") == ledger.enter(registry, "a") == read(registry)


def test_a_change_took_place_if_nobody_came_between_its_two_entries(registry):
    ledger = enter(registry, "a", "a", "b", "c", "c", "d")
    assert (ledger.completed, ledger.open) == (("a", "c"), "d")
    assert enter(registry, "d").open is None


def test_models_that_share_a_run_do_not_share_a_ledger(registry, source, target):
    enter(registry, "a")
    ledger = read(registry, "pets-source")
    assert ledger.run_id == read(registry).run_id
    assert ledger.entries == ()


def test_the_ledger_stays_where_it_is_when_older_versions_go(registry, new_run):
    run = new_run()
    registry.create_model_version("pets-target", "file:///nowhere", run_id=run.id)
    ledger = enter(registry, "a")
    registry.set_registered_model_tag("pets-target", LEDGER, ledger.run_id)
    registry.delete_model_version("pets-target", "1")
    assert read(registry) == ledger


def test_a_run_that_is_gone_for_good_is_replaced_by_the_next(registry, new_run):
    run = new_run()
    registry.create_model_version("pets-target", "file:///nowhere", run_id=run.id)
    registry.set_registered_model_tag("pets-target", LEDGER, "0" * 32)
    registry.delete_run(registry.get_model_version("pets-target", "1").run_id)
    assert read(registry).run_id == run.id


def test_a_deleted_ledger_is_not_silently_begun_anew(registry):
    ledger = enter(registry, "a")
    registry.set_registered_model_tag("pets-target", LEDGER, ledger.run_id)
    registry.delete_run(ledger.run_id)
    with pytest.raises(HeadstartError, match=f"mlflow runs restore --run-id {ledger.run_id}"):
        read(registry)


def test_a_mistake_is_not_taken_for_somebody_elses_entry(registry):
    with pytest.raises(HeadstartError, match="refused"):
        replace(read(registry), model="pets: 'target'").enter(registry, "a")
    with pytest.raises(HeadstartError, match="refused"):
        replace(read(registry), run_id="0" * 32).enter(registry, "a")


def test_a_model_without_any_run_has_nowhere_to_keep_one(registry):
    registry.create_registered_model("foreign")
    registry.create_model_version("foreign", "file:///nowhere")
    with pytest.raises(InputError, match="No version of foreign has an MLflow run"):
        read(registry, "foreign")
