"""Requests over HTTP hold texts as they are, in each form that MLflow knows."""

import pytest
from starlette.testclient import TestClient

from headstart.tracking import http_server
from tests.modalities.text.corpus import TOPICS, text_of

TEXTS = [text_of("sport", 1), 'two lines,\n"quoted" <b>über</b>', "short"]


@pytest.fixture(scope="module")
def client(trained):
    with TestClient(http_server.application(trained, trained.predict_probabilities)) as client:
        yield client


@pytest.mark.parametrize(
    "request_of",
    [
        lambda texts: {"inputs": texts},
        lambda texts: {"inputs": {"text": texts}},
        lambda texts: {"instances": [{"text": text} for text in texts]},
        lambda texts: {"dataframe_records": [{"text": text} for text in texts]},
        lambda texts: {"dataframe_split": {"columns": ["text"], "data": [[text] for text in texts]}},
    ],
)
def test_texts_are_answered_one_record_each(client, trained, request_of):
    answer = client.post("/invocations", json=request_of(TEXTS))

    assert answer.status_code == 200, answer.text
    found = answer.json()["predictions"]
    assert [set(each) for each in found] == [{"label", "probability", *(f"p_{name}" for name in TOPICS)}] * 3
    alone = client.post("/invocations", json={"inputs": TEXTS[1:2]}).json()["predictions"][0]
    assert alone["p_sport"] == pytest.approx(found[1]["p_sport"], abs=1e-5)


def test_csv_holds_texts_too(client):
    content = 'text\n"a match, a goal"\n"shares and profit"\n'

    answer = client.post("/invocations", content=content, headers={"content-type": "text/csv"})

    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"]) == 2


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["fine", " "], "Text 1 of the request cannot be read: it is empty"),
        (["nul\0"], "Text 0 of the request cannot be read: it holds NUL"),
        ([3], "give a text"),
    ],
)
def test_what_is_no_text_is_refused_with_its_number(client, texts, reason):
    answer = client.post("/invocations", json={"dataframe_split": {"columns": ["text"], "data": [[t] for t in texts]}})

    assert answer.status_code == 400
    assert reason in answer.json()["message"]
