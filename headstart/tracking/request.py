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

_MAX_BYTES = 32 * 2**20
# A photo of most phones.
_MAX_PIXELS = 12_500_000
_PATIENCE_SECONDS = 0.5
# A request is held by the first and its pictures by the second, in this order.
_REQUESTS, _PICTURES = Room(256 * 2**20), Room(200 * 2**20)
# MLflow reads JSON twice and makes text of it for messages.
_COPIES_OF_A_REQUEST = 8
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
        if len(data) > _MAX_BYTES:
            raise Refusal(f"The request has more than {_MAX_BYTES // 2**20} MiB; send fewer pictures at a time.")
        give_back_memory()
        kind = content_type or ""
        # A tensor has no types of columns, for which MLflow asks the schema when it reads CSV.
        schema = None if kind.startswith(scoring_server.CONTENT_TYPE_CSV) else input_schema
        unbounded = _bounds.set(Bounds(_MAX_PIXELS, _PICTURES, _PATIENCE_SECONDS))
        try:
            with _REQUESTS.take(_COPIES_OF_A_REQUEST * len(data), _PATIENCE_SECONDS):
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
