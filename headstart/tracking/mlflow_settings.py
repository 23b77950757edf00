"""Settings of MLflow's library and the logs of its connections, made before it is imported."""

import logging
import os

_OUTAGE_LINE_SECONDS = 60
# Users did not ask to send usage data anywhere, nor to read of each table that a new store gets or the address of each
# run, which may hold a password.
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Artifacts go through the server. A server may offer signed addresses in its S3 store, which often nobody but the
    # server reaches: the client would try for minutes, and fail.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}

log = logging.getLogger(__name__)


class _OneLineAnOutage(logging.Filter):
    """Says in a sentence, once a minute, what urllib3 says about every retry of every request, or does not say: that a
    server answers with an error of its own is worth a retry to it and no line."""

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
    # MLflow logs each error of a database with its traceback and its SQL before it raises it.
    return record.exc_info is None


def configure_mlflow() -> None:
    """Sets the environment variables that MLflow reads when it is imported, where the user has not, and shortens what
    its connections log. Nothing is unpickled, whatever the user has set. Doing it again changes nothing."""
    for variable, value in _DEFAULTS.items():
        os.environ.setdefault(variable, value)
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    for name in ("urllib3.connectionpool", "urllib3.util.retry"):
        logging.getLogger(name).addFilter(_outages)
    logging.getLogger("urllib3.util.retry").setLevel(logging.DEBUG)
    logging.getLogger("mlflow.store.db.utils").addFilter(_without_traceback)


def reason(error: BaseException) -> str:
    """The cause at the bottom of what urllib, urllib3 and requests wrap around it."""
    inner = getattr(error, "reason", error.args[-1] if error.args else None)
    return reason(inner) if isinstance(inner, BaseException) else str(error).rpartition(": ")[2]
