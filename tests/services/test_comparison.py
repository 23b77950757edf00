"""Comparison and lineage on the real server: right, and in as many requests for many runs as for few."""

from collections.abc import Callable, Iterator

import pytest
import requests
from mlflow import MlflowClient

from headstart.tracking import client as mlflow_client
from headstart.tracking.client import connect
from headstart.tracking.leaderboard import Comparison, compare
from headstart.tracking.lineage import champions, lineage
from headstart.tracking.names import CHAMPION, MODEL_DIGEST, SOURCE_DIGEST, SOURCE_MODEL
from tests.services.experiments import STRATEGIES, write_experiment
from tests.services.stack import Stack

pytestmark = pytest.mark.services

FEW, MANY, METRICS = 20, 200, 50


@pytest.fixture(scope="module")
def written(stack: Stack) -> dict[str, dict[str, dict[str, float]]]:
    """What the runs of the experiments few and many were given."""
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in stack.environment.items():
            patch.setenv(variable, value)
        client = connect()
        return {
            "few": write_experiment(client, "few", runs=FEW, metrics=METRICS),
            "many": write_experiment(client, "many", runs=MANY, metrics=METRICS),
        }


@pytest.fixture
def count_requests(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """How many requests a call makes."""
    sent: list[str] = []
    send = requests.Session.send
    monkeypatch.setattr(requests.Session, "send", lambda *args, **kw: sent.append("") or send(*args, **kw))

    def count(call: Callable[[], object]) -> int:
        sent.clear()
        call()
        return len(sent)

    return count


@pytest.mark.parametrize("every_run", [False, True])
def test_200_runs_are_compared_in_as_many_requests_as_20(record, written, count_requests, every_run):
    few, many = (
        count_requests(lambda name=name: compare(record, name, every_run=every_run)) for name in ("few", "many")
    )
    assert 0 < many == few <= 4


def check(found: Comparison, written: dict[str, dict[str, float]]) -> None:
    """Every row has the figures that its run was given, and the best comes first."""
    names = {"accuracy": "test/accuracy", "macro_f1": "test/macro_f1", "gain_low": "gain/accuracy_low"}
    names |= {"gain": "gain/accuracy", "seconds": "time/seconds", "accuracy_high": "test/accuracy_high"}
    for row in found.rows:
        given = written[row["run_id"]]
        assert {key: row[key] for key in names} == {key: given.get(name) for key, name in names.items()}
    values = [row["accuracy"] for row in found.rows]
    assert values == sorted(values, reverse=True)


def test_200_runs_are_compared_rightly(record, written):
    found = compare(record, "many", every_run=True)
    assert {row["run_id"] for row in found.rows} == set(written["many"])
    assert {entry.pipeline_run for entry in found.entries} == {f"many-{n:03}" for n in range(MANY // len(STRATEGIES))}
    check(found, written["many"])


def test_the_latest_pipeline_run_is_found_among_many(record, written):
    found = compare(record, "many")
    assert sorted(row["strategy"] for row in found.rows) == sorted(STRATEGIES)
    assert {entry.pipeline_run for entry in found.entries} == {"many-039"}
    assert found.sentence == "helped: in pipeline run 39."
    check(found, written["many"])


def test_what_fills_many_pages_is_compared_whole(record, written, monkeypatch):
    monkeypatch.setattr(mlflow_client, "PAGE_SIZE", 32)
    assert {row["run_id"] for row in compare(record, "many", every_run=True).rows} == set(written["many"])


@pytest.fixture
def family(record: MlflowClient) -> Iterator[Callable[[str, int], str]]:
    """Registers a source with so many descendants, all of them champions; its address."""
    made = []

    def add(model: str, digest: str, source: dict[str, str]) -> None:
        record.create_registered_model(model)
        made.append(model)
        record.create_model_version(model, "s3://nowhere/model", tags={MODEL_DIGEST: digest, **source})
        record.set_registered_model_alias(model, CHAMPION, "1")

    def make(name: str, descendants: int) -> str:
        uri = f"models:/{name}/1"
        add(name, f"sha256:{name}", {})
        for number in range(descendants):
            add(f"{name}-{number:02}", f"sha256:{name}{number}", {SOURCE_MODEL: uri, SOURCE_DIGEST: f"sha256:{name}"})
        return uri

    yield make
    for model in made:
        record.delete_registered_model(model)


def test_a_large_family_is_found_in_as_many_requests_as_a_small_one(record, family, count_requests):
    small, large = family("small", 2), family("large", 30)
    for ask in (lineage, champions):
        asked = [count_requests(lambda ask=ask, uri=uri: ask(record, uri)) for uri in (small, large)]
        assert 0 < asked[0] == asked[1] <= 4


def test_the_champions_that_descend_from_a_source_are_found_on_the_server(record, family):
    uri = family("origin", 3)
    family("unrelated", 2)
    assert [model["model"] for model in champions(record, uri)] == [f"origin-{n:02}" for n in range(3)]
    assert lineage(record, "models:/origin-01/1")["source"]["uri"] == uri
