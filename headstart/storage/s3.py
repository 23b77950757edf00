"""Objects in S3 or a compatible store, selected by AWS_ENDPOINT_URL and the other standard AWS variables."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import urlsplit

from headstart.credentials import require_sendable
from headstart.errors import HeadstartError, InputError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectRequestTypeDef, HeadObjectOutputTypeDef, ObjectTypeDef

CONNECTIONS = 16
"""Maximum number of concurrent requests of this process's threads."""

_SCHEME = "s3://"
_SECONDS_TO_CONNECT = 10
# Larger objects are buffered on disk while they are read.
_MEMORY = 64 * 2**20

_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_ENDPOINT_URL for a store that is not Amazon's) to a pair "
    "that may use the bucket"
)
_DENIED = frozenset(
    {"403", "AccessDenied", "AuthorizationHeaderMalformed", "ExpiredToken", "Forbidden", "InvalidAccessKeyId",
     "InvalidToken", "SignatureDoesNotMatch"}
)  # fmt: skip


class UnreadableObject(InputError):  # noqa: N818 - an object's state, which callers catch and record
    """An object is missing or too large; others in its bucket are readable."""


class ChangedObject(HeadstartError):  # noqa: N818 - as above
    """An object has changed since it was listed."""


def is_s3(uri: str) -> bool:
    """Return whether `uri` is in S3."""
    return uri.startswith(_SCHEME)


@cache
def client() -> "S3Client":
    """Return the S3 client that the threads of this process share; it reads the environment once.

    Raises:
        InputError: the environment or the AWS configuration files cannot be used.
    """
    require_sendable("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN")
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    try:
        # A session of its own: boto3's default session keeps the first credentials that it found.
        session = boto3.Session()
        config = Config(
            connect_timeout=_SECONDS_TO_CONNECT, max_pool_connections=CONNECTIONS, retries={"mode": "standard"}
        )
        return session.client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise InputError(f"S3 cannot be used as AWS is configured here: {error}; correct that.") from error


def list_objects(uri: str) -> Iterator[str]:
    """Yield the URIs of all objects below `s3://bucket/prefix/`, ordered by key, one page at a time.

    Without the trailing slash, `uri` is the object itself if it exists, else a prefix.

    Raises:
        UnreadableObject: there is neither.
        InputError, HeadstartError: the bucket cannot be listed.
    """
    for found, _ in _listed(uri):
        yield found


def list_times(uri: str) -> Iterator[tuple[str, float]]:
    """Yield the URIs of `list_objects`, each with its time of writing in seconds since 1970."""
    for found, entry in _listed(uri):
        yield found, entry["LastModified"].timestamp()


@dataclass(frozen=True)
class Object:
    """An object as listed; `etag` is the store's identifier of this content."""

    uri: str
    size: int
    etag: str


def list_contents(uri: str) -> Iterator[Object]:
    """Yield the objects of `list_objects` with size and ETag; inside `listed_once`, those of the first listing."""
    lists = _lists.get()
    if lists is None:
        yield from _contents(uri)
        return
    if uri not in lists:
        lists[uri] = list(_contents(uri))
    yield from lists[uri]


@contextmanager
def listed_once() -> Iterator[None]:
    """Make `list_contents` list each URI only once inside the body, so that all readers get the same result at the cost
    of one listing. An object that is replaced meanwhile is detected when it is read."""
    if _lists.get() is not None:
        yield
        return
    token = _lists.set({})
    try:
        yield
    finally:
        _lists.reset(token)


_lists: ContextVar[dict[str, list[Object]] | None] = ContextVar("lists", default=None)


def _contents(uri: str) -> Iterator[Object]:
    for found, entry in _listed(uri):
        yield Object(found, entry["Size"], entry["ETag"].strip('"'))


def _listed(uri: str) -> Iterator[tuple[str, "ObjectTypeDef"]]:
    bucket, key = _bucket_and_key(uri)
    if key and not key.endswith("/"):
        # Keys are sorted, so an object is the first with its own key as prefix.
        with _explained(uri):
            first = client().list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
        if first and first[0]["Key"] == key:
            yield uri, first[0]
            return
        key += "/"
    found = False
    with _explained(uri):
        for page in client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
            for entry in page.get("Contents", []):
                # S3 consoles mark a folder by an empty object whose key ends with a slash.
                if not entry["Key"].endswith("/"):
                    found = True
                    yield f"{_SCHEME}{bucket}/{entry['Key']}", entry
    if not found:
        raise UnreadableObject(f"There is no object {uri} and none below it; correct the bucket or the key.")


def read_object(uri: str, *, limit: int) -> bytes:
    """Return the content of an object.

    Raises:
        UnreadableObject: it is missing or has more than `limit` bytes; other errors as for `list_objects`.
    """
    bucket, key = _bucket_and_key(uri)
    with _explained(uri):
        answer = client().get_object(Bucket=bucket, Key=key)
        with answer["Body"] as body:
            if answer["ContentLength"] > limit:
                raise UnreadableObject(f"the object has more than {limit // 2**20} MiB")
            return body.read()


def read_range(found: Object, start: int, length: int) -> bytes:
    """Return bytes of an object, provided that it has not changed since it was listed.

    Raises:
        ChangedObject: it has changed; other errors as for `list_objects`.
    """
    bucket, key = _bucket_and_key(found.uri)
    asked: GetObjectRequestTypeDef = {"Bucket": bucket, "Key": key, "IfMatch": f'"{found.etag}"'}
    if (start, length) != (0, found.size):
        asked["Range"] = f"bytes={start}-{start + length - 1}"
    with _explained(found.uri):
        answer = client().get_object(**asked)
        with answer["Body"] as body:
            # Bounded, so that an answer longer than requested cannot fill the memory.
            content = body.read(length + 1)
    if len(content) != length:
        raise HeadstartError(f"S3 sent {len(content)} bytes of {found.uri} instead of {length}")
    return content


def describe(found: Object, part: int | None = None) -> "HeadObjectOutputTypeDef":
    """Return the store's metadata of an object, or of one of the parts in which it was uploaded."""
    bucket, key = _bucket_and_key(found.uri)
    with _explained(found.uri):
        if part is None:
            return client().head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        return client().head_object(Bucket=bucket, Key=key, PartNumber=part)


def endpoint() -> str:
    """Return the address of the store."""
    return str(client().meta.endpoint_url)


def open_object(uri: str) -> BinaryIO:
    """Return a temporary copy of an object's content, open for reading and seeking; closing it deletes it."""
    bucket, key = _bucket_and_key(uri)
    copy = tempfile.SpooledTemporaryFile(max_size=_MEMORY)  # noqa: SIM115 - the caller closes it
    with _explained(uri):
        client().download_fileobj(bucket, key, copy)
    copy.seek(0)
    return cast(BinaryIO, copy)


def download(uri: str, path: Path) -> None:
    """Download an object's content to a file."""
    bucket, key = _bucket_and_key(uri)
    with _explained(uri):
        client().download_file(bucket, key, str(path))


def write_object(uri: str, content: bytes) -> None:
    """Write `content` to the object at `uri`, replacing it."""
    bucket, key = _bucket_and_key(uri)
    if not key or key.endswith("/"):
        raise InputError(f"{uri} names no object; write s3://bucket/key.")
    with _explained(uri):
        client().put_object(Bucket=bucket, Key=key, Body=content)


def upload(path: Path, uri: str) -> None:
    """Upload a file to the object at `uri`, in parts if it is large; the object becomes visible when it is complete."""
    bucket, key = _bucket_and_key(uri)
    # Not upload_file, which hides the store's error.
    with path.open("rb") as file, _explained(uri):
        client().upload_fileobj(file, bucket, key)


def remove_object(uri: str) -> None:
    """Delete an object; do nothing if it is missing."""
    bucket, key = _bucket_and_key(uri)
    with _explained(uri):
        client().delete_object(Bucket=bucket, Key=key)


def _bucket_and_key(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix(_SCHEME).partition("/")
    if not bucket:
        raise InputError(f"{uri} names no bucket; write s3://bucket/key.")
    return bucket, key


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Convert botocore's exceptions into errors of one sentence each."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionError,
        NoCredentialsError,
        ParamValidationError,
        PartialCredentialsError,
    )

    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise InputError(f"There are no S3 credentials for {uri}; {_CREDENTIALS}.") from error
    except ClientError as error:
        code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
        if code in ("404", "NoSuchKey"):
            raise UnreadableObject(f"there is no object {uri}") from error
        if code in ("412", "PreconditionFailed"):
            raise ChangedObject(f"{uri} changed while it was read; run again.") from error
        if code == "NoSuchBucket":
            raise InputError(f"There is no bucket {_bucket_and_key(uri)[0]} for {uri}; correct it.") from error
        if code in _DENIED:
            raise InputError(f"S3 refuses access to {uri} ({code}); {_CREDENTIALS}.") from error
        raise HeadstartError(f"S3 answered to {uri} with {code}: {message}") from error
    except ConnectionError as error:
        where = urlsplit(client().meta.endpoint_url).netloc.rpartition("@")[2]
        raise InputError(
            f"The S3 endpoint {where} does not answer for {uri} ({type(error).__name__}); start it, or correct "
            "AWS_ENDPOINT_URL."
        ) from error
    except ParamValidationError as error:
        raise InputError(f"{uri} cannot be the name of an object; write s3://bucket/key.") from error
    except (BotoCoreError, Boto3Error) as error:
        raise HeadstartError(f"S3 failed at {uri}: {' '.join(str(error).split())}") from error
