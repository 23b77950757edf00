import threading
from dataclasses import replace

import pytest

from headstart.tracking.client import connect
from headstart.tracking.looks import count_looks, look, record_look, seen_before
from headstart.tracking.promotion import promote


@pytest.fixture
def runs(client):
    """Ids of new runs, in two experiments."""
    experiments = [client.create_experiment(name) for name in ("pets", "wild")]
    return [client.create_run(experiments[number % 2]).info.run_id for number in range(6)]


def test_looks_are_counted_over_all_experiments_by_the_splits_digest_and_once_a_run(client, runs):
    assert count_looks(client, "sha256:1") == 0
    for run in [*runs[:3], runs[0], runs[0]]:
        record_look(client, run, "sha256:1")
    record_look(client, runs[3], "sha256:2")
    assert count_looks(client, "sha256:1") == 3
    assert count_looks(client, "sha256:2") == 1
    # Who deletes a run has looked nevertheless.
    client.delete_run(runs[0])
    assert count_looks(client, "sha256:1") == 3


def test_a_pipeline_run_looks_once_however_often_its_step_is_attempted(client, new_run):
    first = new_run("evaluate")
    parent = replace(first, id=first.parent_id, parent_id=None)
    again, another = new_run("evaluate", parent=parent), new_run("evaluate")
    assert [look(run, "sha256:1") for run in (first, again, parent, another, again)] == [1, 1, 1, 2, 2]


def test_looks_that_race_are_all_counted(client, runs):
    threads = [threading.Thread(target=lambda run=run: record_look(connect(), run, "sha256:1")) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count_looks(client, "sha256:1") == len(runs)


def test_the_first_look_says_nothing_and_the_second_says_so():
    assert seen_before(1) is None
    assert seen_before(2).startswith("This is look 2 at these test items")


def test_a_promotion_is_a_look_and_its_gates_say_which(registry):
    tested = registry.get_model_version("pets-target", "1").tags["headstart.test_digest"]
    first = promote(registry, "pets-target", force=True, reason="to see it")
    assert first.change
    assert count_looks(registry, tested) == 1
    assert not [gate for gate in first.gates if "look" in gate.text]
    # It is the champion already: no gate was asked.
    promote(registry, "pets-target")
    assert count_looks(registry, tested) == 1


def test_from_the_second_look_on_the_gates_say_so(registry):
    tested = registry.get_model_version("pets-target", "1").tags["headstart.test_digest"]
    parent = registry.create_run(registry.create_experiment("another"))
    record_look(registry, parent.info.run_id, tested)
    gates = {gate.name: gate.text for gate in promote(registry, "pets-target").gates}
    assert gates["min_gain"].endswith("; look 2 at these test items")
