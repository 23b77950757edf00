"""Requests to a model that `mlflow models serve` serves: what one may cost, and how its refusal reads.

A small file may hold a large picture, and anyone may send it. So a request is bounded, and all that are answered at a
time share the memory that reading and decoding them takes. Calls in Python come from whoever runs them, and may be of
any size.
"""

import functools
import json
import logging
import math
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_EXHAUSTED
from mlflow.pyfunc import scoring_server

from headstart.modalities.room import NoRoom, Room
from headstart.training.memory import give_back_memory

# A photo of most phones.
_MAX_PIXELS = 12_500_000
_PATIENCE_SECONDS = 0.5
_MIB = 2**20
# Requests are held by the first and their pictures by the second, in this order.
_MAX_MIB = 256
_REQUESTS, _PICTURES = Room(_MAX_MIB * _MIB), Room(200 * _MIB)
# MLflow reads JSON twice, each value into an object of its own, and makes text of it for messages. A value takes half
# as much, but also 3 microseconds.
_COPIES_OF_A_REQUEST = 8
_BYTES_OF_A_VALUE = 400
_MESSAGE_LENGTH = 1000

_Invocations = Callable[[bytes, str | None, Any, Any], scoring_server.InvocationsResponse]

log = logging.getLogger(__name__)


class Refusal(MlflowException):
    """A request that cannot be answered. The server's answer is the reason alone, HTTP status 400, or 429 for one that
    may be answered later."""

    def __init__(self, reason: str, error_code: int = INVALID_PARAMETER_VALUE) -> None:
        super().__init__(reason, error_code=error_code)

    def serialize_as_json(self) -> str:
        # The server has put the whole request in front of the message, base64 text included.
        return json.dumps({"error_code": self.error_code, "message": str(self)})


class Busy(Refusal):
    """The memory that requests share is taken."""

    def __init__(self) -> None:
        super().__init__("The server is reading as many pictures as its memory allows; ask again.", RESOURCE_EXHAUSTED)


@dataclass(frozen=True)
class Bounds:
    """Bounds of a request: pixels of all its pictures, the memory for decoding them (None for the process's), and how
    many seconds it waits for that."""

    pixels: float = math.inf
    room: Room | None = None
    patience: float | None = None

    def hold(self, pixels: Iterable[int]) -> None:
        """Refuses pictures, of so many pixels each, as soon as they are too much for a request."""
        if any(total > self.pixels for total in accumulate(pixels)):
            raise Refusal(
                f"The request's pictures have more than {self.pixels / 1_000_000:g} megapixels; shrink them or send "
                "fewer at a time."
            )


_UNBOUNDED = Bounds()
_bounds: ContextVar[Bounds] = ContextVar("bounds", default=_UNBOUNDED)


def bounds() -> Bounds:
    """The bounds of the request that is being answered; a call in Python has none."""
    return _bounds.get()


@functools.cache
def bound_server() -> None:
    """Lets MLflow's server of this process answer within bounds, and without the stack traces of its parsers."""
    scoring_server.invocations = _bounded(scoring_server.invocations)


def _bounded(invocations: _Invocations) -> _Invocations:
    """The function by which MLflow's server answers a request, bounded."""

    @functools.wraps(invocations)
    def answer(
        data: bytes, content_type: str | None, model: Any, input_schema: Any
    ) -> scoring_server.InvocationsResponse:
        give_back_memory()
        kind = content_type or ""
        need = _memory(data, kind)
        if need > _MAX_MIB * _MIB:
            raise Refusal(
                f"The request would take more than {_MAX_MIB} MiB to read; send fewer pictures at a time, and rather "
                "their files than their pixels."
            )
        # A tensor has no types of columns, for which MLflow asks the schema when it reads CSV.
        schema = None if kind.startswith(scoring_server.CONTENT_TYPE_CSV) else input_schema
        unbounded = _bounds.set(Bounds(_MAX_PIXELS, _PICTURES, _PATIENCE_SECONDS))
        try:
            with _REQUESTS.take(need, _PATIENCE_SECONDS):
                return invocations(data, kind, model, schema)
        except NoRoom:
            raise Busy from None
        except MlflowException as error:
            trace = error.json_kwargs.pop("stack_trace", "")
            if "unexpected error" in error.message:
                log.error("A request could not be answered.\n%s", trace)
            # It may repeat the request, and says what is wrong at its end.
            if len(error.message) > _MESSAGE_LENGTH:
                error.message = f"… {error.message[-_MESSAGE_LENGTH:]}"
            raise
        except (ValueError, RecursionError) as error:
            raise Refusal(f"The request is not JSON that can be read: {str(error)[:_MESSAGE_LENGTH]}.") from None
        finally:
            _bounds.reset(unbounded)

    return answer


def _memory(data: bytes, content_type: str) -> int:
    """How many bytes MLflow takes to read a request, about."""
    if content_type.startswith(scoring_server.CONTENT_TYPE_PARQUET):
        return _COPIES_OF_A_REQUEST * max(len(data), _unpacked(data))
    values = sum(data.count(mark) for mark in (b",", b"[", b"{", b"\n"))
    return _COPIES_OF_A_REQUEST * len(data) + _BYTES_OF_A_VALUE * values


def _unpacked(data: bytes) -> int:
    """How many bytes a Parquet table has unpacked, as it says; 0 where it is none, which MLflow refuses."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        found = parquet.read_metadata(pa.BufferReader(data))
    except (pa.ArrowException, OSError, ValueError):
        return 0
    groups = sum(found.row_group(number).total_byte_size for number in range(found.num_row_groups))
    # Equal cells are written once.
    return groups + _BYTES_OF_A_VALUE // _COPIES_OF_A_REQUEST * found.num_rows * found.num_columns
