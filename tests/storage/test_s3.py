import io
from datetime import UTC, datetime

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError, ResponseStreamingError
from botocore.response import StreamingBody
from botocore.stub import Stubber

from headstart.errors import HeadstartError, InputError
from headstart.storage import s3

WRITTEN = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def store(monkeypatch):
    """Answers in place of S3, each for one request and only in their order."""
    client = boto3.Session().client("s3", region_name="eu-west-1", aws_access_key_id="key", aws_secret_access_key="no")
    monkeypatch.setattr(s3, "client", lambda: client)
    with Stubber(client) as answers:
        yield answers
        answers.assert_no_pending_responses()


def keys(*names: str, token: str | None = None) -> dict[str, object]:
    answer: dict[str, object] = {
        "Contents": [{"Key": name, "Size": 1, "ETag": '"etag"', "LastModified": WRITTEN} for name in names],
        "IsTruncated": token is not None,
    }
    return {**answer, "NextContinuationToken": token} if token else answer


def listed(uri: str) -> list[str]:
    return [found.uri for found in s3.list_objects(uri)]


def body(content: bytes) -> dict[str, object]:
    return {"Body": StreamingBody(io.BytesIO(content), len(content)), "ContentLength": len(content)}


def test_a_prefix_is_read_page_by_page_as_it_is_needed(store):
    asked = {"Bucket": "scans", "Prefix": "new/"}
    store.add_response("list_objects_v2", keys("new/1.png", "new/2.png", token="more"), asked)
    found = s3.list_objects("s3://scans/new/")
    assert [next(found).uri, next(found).uri] == ["s3://scans/new/1.png", "s3://scans/new/2.png"]
    store.assert_no_pending_responses()
    store.add_response("list_objects_v2", keys("new/3.png"), {**asked, "ContinuationToken": "more"})
    assert [each.uri for each in found] == ["s3://scans/new/3.png"]


def test_an_object_is_itself_and_not_what_begins_with_its_name(store):
    store.add_response("list_objects_v2", keys("a.png"), {"Bucket": "scans", "Prefix": "a.png", "MaxKeys": 1})
    assert listed("s3://scans/a.png") == ["s3://scans/a.png"]


def test_a_prefix_without_its_slash_is_a_folder_and_not_its_neighbours(store):
    store.add_response("list_objects_v2", keys("new.txt"), {"Bucket": "scans", "Prefix": "new", "MaxKeys": 1})
    store.add_response("list_objects_v2", keys("new/", "new/1.png"), {"Bucket": "scans", "Prefix": "new/"})
    assert listed("s3://scans/new") == ["s3://scans/new/1.png"]


def test_a_bucket_alone_is_everything_in_it(store):
    store.add_response("list_objects_v2", keys("1.png"), {"Bucket": "scans", "Prefix": ""})
    assert listed("s3://scans") == ["s3://scans/1.png"]


def test_what_is_not_there_is_named(store):
    for _ in range(2):
        store.add_response("list_objects_v2", {"IsTruncated": False})
    with pytest.raises(s3.UnreadableObject, match="no object s3://scans/none and none below it"):
        listed("s3://scans/none")
    store.add_client_error("get_object", "NoSuchKey")
    with pytest.raises(s3.UnreadableObject, match="no object s3://scans/none"):
        s3.read_object("s3://scans/none", limit=10)


def test_an_object_is_read_up_to_a_limit(store):
    for _ in range(2):
        store.add_response("get_object", body(b"content"), {"Bucket": "scans", "Key": "new/1.png"})
    assert s3.read_object("s3://scans/new/1.png", limit=7) == b"content"
    with pytest.raises(s3.UnreadableObject, match="more than 0 MiB"):
        s3.read_object("s3://scans/new/1.png", limit=6)


def test_an_object_is_written_whole(store):
    store.add_response("put_object", {}, {"Bucket": "results", "Key": "new/table.csv", "Body": b"a,b\n"})
    s3.write_object("s3://results/new/table.csv", b"a,b\n")


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        ("NoSuchBucket", InputError, "There is no bucket scans"),
        ("SignatureDoesNotMatch", InputError, r"refuses access .*SignatureDoesNotMatch.*AWS_SECRET_ACCESS_KEY"),
        ("InvalidAccessKeyId", InputError, r"refuses access .*AWS_ACCESS_KEY_ID"),
        ("AccessDenied", InputError, r"refuses access to s3://scans/1.png"),
        ("SlowDown", HeadstartError, r"answered to s3://scans/1.png with SlowDown: calm down"),
    ],
)
def test_what_the_store_refuses_is_a_sentence(store, code, kind, sentence):
    store.add_client_error("get_object", code, "calm down")
    with pytest.raises(kind, match=sentence) as refused:
        s3.read_object("s3://scans/1.png", limit=10)
    assert not isinstance(refused.value, s3.UnreadableObject)


@pytest.mark.parametrize(
    ("failure", "kind", "sentence"),
    [
        (NoCredentialsError(), InputError, "There are no S3 credentials for s3://scans/1.png; set AWS_ACCESS_KEY_ID"),
        (EndpointConnectionError(endpoint_url="http://x"), InputError, r"s3\.eu-west-1.* does not answer"),
        (ResponseStreamingError(error="broken off"), HeadstartError, "S3 failed at s3://scans/1.png.*broken off"),
    ],
)
def test_a_store_that_is_out_of_reach_is_a_sentence(store, failure, kind, sentence, monkeypatch):
    def fail(**_):
        raise failure

    monkeypatch.setattr(s3.client(), "get_object", fail)
    with pytest.raises(kind, match=sentence):
        s3.read_object("s3://scans/1.png", limit=10)


@pytest.mark.parametrize("uri", ["s3://", "s3:///key", "s3://bucket", "s3://bucket/", "s3://bucket/folder/"])
def test_a_uri_that_names_no_object_is_refused_before_anything_is_asked(store, uri):
    with pytest.raises(InputError, match="write s3://bucket/key"):
        s3.write_object(uri, b"")


def test_an_endpoint_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    s3.client.cache_clear()
    with pytest.raises(InputError, match="Invalid endpoint: nonsense; correct"):
        listed("s3://scans/")


def test_a_token_that_cannot_be_sent_is_refused_without_being_shown(monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary\nX-Other: 1")
    s3.client.cache_clear()
    with pytest.raises(InputError, match="AWS_SESSION_TOKEN holds a line break") as refusal:
        listed("s3://scans/")
    assert "canary" not in str(refusal.value)
