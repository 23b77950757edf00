"""Limits of requests to a model served by `headstart serve` or `mlflow models serve`, and the text of refusals.

A small file can decode to a large picture, and anyone can send one. Requests are therefore limited, and all concurrent
ones share a fixed amount of memory for parsing and decoding. Calls from Python are trusted and unlimited.
"""

import functools
import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_EXHAUSTED
from mlflow.pyfunc import scoring_server

from headstart.modalities.room import NoRoom, Room
from headstart.training.memory import give_back_memory

# The size of a photo from most phones.
_MAX_PIXELS = 12_500_000
_PATIENCE_SECONDS = 0.5
_MIB = 2**20
# Memory for requests and for decoded pictures, always acquired in this order.
_MAX_MIB = 256
_REQUESTS, _PICTURES = Room(_MAX_MIB * _MIB), Room(200 * _MIB)
# MLflow parses JSON twice, each value into an object of its own, and formats it for messages. A value takes half of
# that memory, but also 3 microseconds.
_COPIES_OF_A_REQUEST = 8
_BYTES_OF_A_VALUE = 400
_MESSAGE_LENGTH = 1000

_Invocations = Callable[[bytes, str | None, Any, Any], scoring_server.InvocationsResponse]

log = logging.getLogger(__name__)


class Refusal(MlflowException):
    """A request that cannot be answered. The response holds only the reason, with HTTP status 400, or 429 if the same
    request may succeed later."""

    def __init__(self, reason: str, error_code: int = INVALID_PARAMETER_VALUE) -> None:
        super().__init__(reason, error_code=error_code)

    def serialize_as_json(self) -> str:
        # The server prepends the whole request to the message, including base64 text.
        return json.dumps({"error_code": self.error_code, "message": str(self)})


class Busy(Refusal):
    """The memory shared by requests is exhausted."""

    def __init__(self) -> None:
        super().__init__("The server is reading as many samples as its memory allows; ask again.", RESOURCE_EXHAUSTED)


@dataclass(frozen=True)
class Bounds:
    """Limits of a request: total values of its samples (of pictures, their pixels), the memory pool for decoding them
    (None: the process's own), and the seconds to wait for that memory."""

    pixels: float = math.inf
    room: Room | None = None
    patience: float | None = None

    def hold(self, pixels: Iterable[int]) -> None:
        """Check the numbers of values of a request's samples against the limit.

        Raises:
            Refusal: their sum exceeds it; raised at the first sample that does.
        """
        if any(total > self.pixels for total in accumulate(pixels)):
            raise Refusal(
                f"The request's pictures have more than {self.pixels / 1_000_000:g} megapixels; shrink them or send "
                "fewer at a time."
            )


_UNBOUNDED = Bounds()
_bounds: ContextVar[Bounds] = ContextVar("bounds", default=_UNBOUNDED)


def bounds() -> Bounds:
    """Return the limits of the current request; a call from Python has none."""
    return _bounds.get()


@functools.cache
def bound_server() -> None:
    """Apply the limits to this process's MLflow server, and remove its parsers' stack traces from responses."""
    scoring_server.invocations = _bounded(scoring_server.invocations)


def _bounded(invocations: _Invocations) -> _Invocations:
    """Wrap the function with which MLflow's server answers a request, so that the limits apply."""

    @functools.wraps(invocations)
    def answer(
        data: bytes, content_type: str | None, model: Any, input_schema: Any
    ) -> scoring_server.InvocationsResponse:
        kind = content_type or ""
        # For CSV, MLflow asks the schema for column types, which a tensor does not have.
        schema = None if kind.startswith(scoring_server.CONTENT_TYPE_CSV) else input_schema
        try:
            with admitted(data, kind):
                return invocations(data, kind, model, schema)
        except MlflowException as error:
            trace = error.json_kwargs.pop("stack_trace", "")
            if "unexpected error" in error.message:
                log.error("A request could not be answered.\n%s", trace)
            # The message may repeat the request; its end holds the cause.
            if len(error.message) > _MESSAGE_LENGTH:
                error.message = f"… {error.message[-_MESSAGE_LENGTH:]}"
            raise
        except (ValueError, RecursionError) as error:
            raise Refusal(f"The request is not JSON that can be read: {str(error)[:_MESSAGE_LENGTH]}.") from None

    return answer


@contextmanager
def admitted(data: bytes, content_type: str) -> Iterator[None]:
    """Within it, the limits of a request apply, and it holds its share of the memory for requests.

    Raises:
        Refusal: it is too large to be read.
        Busy: the memory is taken by others.
    """
    give_back_memory()
    need = _memory(data, content_type)
    if need > _MAX_MIB * _MIB:
        raise Refusal(
            f"The request would take more than {_MAX_MIB} MiB to read; send fewer samples at a time, and rather "
            "their files than their pixels."
        )
    unbounded = _bounds.set(Bounds(_MAX_PIXELS, _PICTURES, _PATIENCE_SECONDS))
    try:
        with _REQUESTS.take(need, _PATIENCE_SECONDS):
            yield
    except NoRoom:
        raise Busy from None
    finally:
        _bounds.reset(unbounded)


def _memory(data: bytes, content_type: str) -> int:
    """Estimate the bytes of memory that MLflow takes to parse a request."""
    if content_type.startswith(scoring_server.CONTENT_TYPE_PARQUET):
        return _COPIES_OF_A_REQUEST * max(len(data), _unpacked(data))
    values = sum(data.count(mark) for mark in (b",", b"[", b"{", b"\n"))
    return _COPIES_OF_A_REQUEST * len(data) + _BYTES_OF_A_VALUE * values


def _unpacked(data: bytes) -> int:
    """Return the uncompressed size of a Parquet table in bytes, from its metadata; 0 if it is not Parquet, which MLflow
    refuses."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        found = parquet.read_metadata(pa.BufferReader(data))
    except (pa.ArrowException, OSError, ValueError):
        return 0
    groups = sum(found.row_group(number).total_byte_size for number in range(found.num_row_groups))
    # Dictionary encoding stores equal cells once, so the cells count too.
    return groups + _BYTES_OF_A_VALUE // _COPIES_OF_A_REQUEST * found.num_rows * found.num_columns
