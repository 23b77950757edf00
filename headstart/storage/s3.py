"""Objects in S3 or a compatible store, selected by AWS_ENDPOINT_URL and the other standard AWS variables."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import urlsplit

from headstart.credentials import require_sendable
from headstart.errors import HeadstartError, InputError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef, ObjectTypeDef

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


@dataclass(frozen=True)
class Object:
    """An object as it was when it was listed; `etag` is the store's name for this very content, `written` the moment at
    which it was written, in seconds since 1970."""

    uri: str
    size: int
    etag: str
    written: float = field(default=0.0, compare=False)


def list_objects(uri: str) -> Iterator[Object]:
    """All objects below `s3://bucket/prefix/` in the order of their keys, read page by page.

    Without the trailing slash, `uri` is the object itself if it exists, else a prefix.

    Raises:
        UnreadableObject: there is neither.
        InputError, HeadstartError: the bucket cannot be listed.
    """
    found = False
    with _request(uri) as (bucket, key):
        if key and not key.endswith("/"):
            # Keys come sorted, so that an object is the first below its own key.
            first = client().list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
            if first and first[0]["Key"] == key:
                yield _object(bucket, first[0])
                return
            key += "/"
        for page in client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
            for entry in page.get("Contents", []):
                # Consoles mark a folder by an empty object whose key ends with the slash.
                if not entry["Key"].endswith("/"):
                    found = True
                    yield _object(bucket, entry)
    if not found:
        raise UnreadableObject(f"There is no object {uri} and none below it; correct the bucket or the key.")


def _object(bucket: str, entry: "ObjectTypeDef") -> Object:
    uri = f"{_SCHEME}{bucket}/{entry['Key']}"
    return Object(uri, entry["Size"], entry["ETag"].strip('"'), entry["LastModified"].timestamp())


def list_contents(uri: str) -> Iterator[Object]:
    """What `list_objects` yields; within `listed_once`, as it was listed first."""
    lists = _lists.get()
    if lists is None:
        yield from list_objects(uri)
        return
    if uri not in lists:
        lists[uri] = list(list_objects(uri))
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


def read_object(uri: str, *, limit: int) -> bytes:
    """The content of an object; UnreadableObject if it is not there or has more than `limit` bytes, and errors as for
    `list_objects`."""
    with _request(uri) as (bucket, key):
        answer = client().get_object(Bucket=bucket, Key=key)
        with answer["Body"] as body:
            if answer["ContentLength"] > limit:
                raise UnreadableObject(f"the object has more than {limit // 2**20} MiB")
            content = body.read(answer["ContentLength"] + 1)
    if len(content) != answer["ContentLength"]:
        raise HeadstartError(f"S3 sent {len(content)} bytes of {uri} instead of {answer['ContentLength']}")
    return content


def read_range(found: Object, start: int, length: int) -> bytes:
    """Return bytes of an object, provided that it has not changed since it was listed.

    Raises:
        ChangedObject: it has changed; other errors as for `list_objects`.
    """
    asked: dict[str, str] = {"IfMatch": f'"{found.etag}"'}
    if (start, length) != (0, found.size):
        asked["Range"] = _range(start, length)
    return _read(found.uri, length, asked)


def read_part(uri: str, start: int, length: int) -> bytes:
    """Return bytes of an object; UnreadableObject if it is not there or is shorter, and errors as for
    `list_objects`."""
    return _read(uri, length, {"Range": _range(start, length)})


def _range(start: int, length: int) -> str:
    return f"bytes={start}-{start + length - 1}"


def _read(uri: str, length: int, asked: Mapping[str, str]) -> bytes:
    with _request(uri) as (bucket, key):
        answer = client().get_object(Bucket=bucket, Key=key, **asked)  # type: ignore[arg-type]
        with answer["Body"] as body:
            if answer["ContentLength"] < length:
                raise UnreadableObject(f"the object {uri} is shorter than it was")
            # Bounded, so that an answer longer than requested cannot fill the memory.
            content = body.read(length + 1)
    if len(content) != length:
        raise HeadstartError(f"S3 sent {len(content)} bytes of {uri} instead of {length}")
    return content


def describe(found: Object, part: int | None = None) -> "HeadObjectOutputTypeDef":
    """What the store says of an object, or of one of the parts in which it was written."""
    with _request(found.uri) as (bucket, key):
        if part is None:
            return client().head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        return client().head_object(Bucket=bucket, Key=key, PartNumber=part)


def endpoint() -> str:
    """Return the address of the store."""
    return str(client().meta.endpoint_url)


def open_object(uri: str) -> BinaryIO:
    """A copy of an object's content, open for reading and seeking, that is gone when it is closed."""
    copy = tempfile.SpooledTemporaryFile(max_size=_MEMORY)  # noqa: SIM115 - the caller closes it
    with _request(uri) as (bucket, key):
        client().download_fileobj(bucket, key, copy)
    copy.seek(0)
    return cast(BinaryIO, copy)


def download(uri: str, path: Path) -> None:
    """Writes an object's content to a file."""
    with _request(uri) as (bucket, key):
        client().download_file(bucket, key, str(path))


def write_object(uri: str, content: bytes) -> None:
    """Makes `content` the object at `uri`, in place of what was there."""
    with _request(uri) as (bucket, key):
        if not key or key.endswith("/"):
            raise InputError(f"{uri} names no object; write s3://bucket/key.")
        client().put_object(Bucket=bucket, Key=key, Body=content)


def upload(path: Path, uri: str) -> None:
    """Makes a file's content the object at `uri`, in parts if it is large; it appears once all of it is there."""
    # Not upload_file: it hides what the store refused.
    with path.open("rb") as file, _request(uri) as (bucket, key):
        client().upload_fileobj(file, bucket, key)


def remove_object(uri: str) -> None:
    """Removes an object; nothing happens if it is not there."""
    with _request(uri) as (bucket, key):
        client().delete_object(Bucket=bucket, Key=key)


@contextmanager
def _request(uri: str) -> Iterator[tuple[str, str]]:
    """The bucket and the key that `uri` names; botocore's exceptions become one sentence each.

    InputError if it names no bucket.
    """
    bucket, _, key = uri.removeprefix(_SCHEME).partition("/")
    if not bucket:
        raise InputError(f"{uri} names no bucket; write s3://bucket/key.")
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
        yield bucket, key
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise InputError(f"There are no S3 credentials for {uri}; {_CREDENTIALS}.") from error
    except ClientError as error:
        code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
        if code in ("404", "NoSuchKey"):
            raise UnreadableObject(f"there is no object {uri}") from error
        if code in ("416", "InvalidRange"):
            raise UnreadableObject(f"the object {uri} is shorter than it was") from error
        if code in ("412", "PreconditionFailed"):
            raise ChangedObject(f"{uri} changed while it was read; run again.") from error
        if code == "NoSuchBucket":
            raise InputError(f"There is no bucket {bucket} for {uri}; correct it.") from error
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
