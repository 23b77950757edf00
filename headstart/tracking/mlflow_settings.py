"""Settings of the MLflow library and filters for its logs, to be applied before it is imported."""

import logging
import os

_OUTAGE_LINE_SECONDS = 60
# Off by default: usage data, a line for each table of a new store, and the address of each run, which may contain a
# password.
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Artifacts go through the server. A server may offer presigned addresses in an S3 store that only the server can
    # reach; the client would then retry for minutes and fail.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}

log = logging.getLogger(__name__)


class _OneLineAnOutage(logging.Filter):
    """Log filter: one line a minute for an outage, instead of urllib3's line for every retry of every request. urllib3
    retries a server's own error responses without a line; these are reported too."""

    _last = -float("inf")

    def filter(self, record: logging.LogRecord) -> bool:
        arguments = record.args if isinstance(record.args, tuple) else ()
        if record.msg.startswith("Retrying"):
            problem = f"does not answer ({reason(arguments[1])})" if isinstance(arguments[1], Exception) else None
        elif record.msg.startswith("Incremented Retry"):
            history = getattr(arguments[1], "history", ())
            status = history[-1].status if history else None
            problem = f"answers with status {status}" if status else None
        else:
            return record.levelno > logging.DEBUG
        if problem and record.created - self._last >= _OUTAGE_LINE_SECONDS:
            self._last = record.created
            log.warning("A server %s; trying again for some minutes.", problem)
        return False


_outages = _OneLineAnOutage()


def _without_traceback(record: logging.LogRecord) -> bool:
    # MLflow logs each database error with its traceback and SQL before raising it.
    return record.exc_info is None


def configure_mlflow() -> None:
    """Set the environment variables that MLflow reads when it is imported, unless the user has set them, and filter the
    logs of its connections. Unpickling is disabled whatever the user has set. Repeated calls change nothing."""
    for variable, value in _DEFAULTS.items():
        os.environ.setdefault(variable, value)
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    for name in ("urllib3.connectionpool", "urllib3.util.retry"):
        logging.getLogger(name).addFilter(_outages)
    logging.getLogger("urllib3.util.retry").setLevel(logging.DEBUG)
    logging.getLogger("mlflow.store.db.utils").addFilter(_without_traceback)


def reason(error: BaseException) -> str:
    """Return the innermost cause inside the wrappers of urllib, urllib3 and requests."""
    inner = getattr(error, "reason", error.args[-1] if error.args else None)
    return reason(inner) if isinstance(inner, BaseException) else str(error).rpartition(": ")[2]
