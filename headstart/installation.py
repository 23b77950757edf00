"""What an installation may lack: an extra, or a platform that is supported."""

import sys

from headstart.errors import InputError

# The extra that brings a module, by the module's top-level name.
_EXTRAS = {
    "httptools": "serve",
    "kfp": "pipelines",
    "kfp_kubernetes": "pipelines",
    "kfp_server_api": "pipelines",
    "kubernetes": "pipelines",
    "mlxtend": "demo",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "optuna": "search",
    "prometheus_client": "serve",
    "soundfile": "audio",
    "starlette": "serve",
    "timm": "timm",
    "tokenizers": "text",
    "uvicorn": "serve",
}


class MissingExtraError(InputError, ImportError):
    """A package that an extra brings is not installed."""


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """Return the sentence that names the extra to install for a module that is not there; None for any other module."""
    name = (error.name or "").partition(".")[0]
    extra = _EXTRAS.get(name)
    return (
        MissingExtraError(f"{name} is not installed; install it with: pip install 'headstart[{extra}]'")
        if extra
        else None
    )


def require_platform() -> None:
    """Check that this is Linux or macOS.

    Raises:
        InputError: it is not.
    """
    if sys.platform not in ("linux", "darwin"):
        raise InputError(
            f"headstart runs on Linux and macOS, not on {sys.platform}; on Windows, install it in WSL "
            "(https://learn.microsoft.com/windows/wsl/install)."
        )
