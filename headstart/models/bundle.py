"""Model bundle: a directory with a network, its preprocessing and class names, and its provenance."""

import hashlib
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

from headstart.data.tree import one_line
from headstart.errors import InputError
from headstart.metrics.task import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TASKS, Calibration, Task
from headstart.modalities import modality as find_modality
from headstart.modalities.batch import Inputs
from headstart.modalities.preprocessing import Preprocessing, Samples
from headstart.models.architectures import build_network
from headstart.models.network import Network
from headstart.storage.local import new_directory, read_json, write_bytes, write_json
from headstart.storage.sums import SUMS, read_sums, verify_sums, write_sums
from headstart.version import __version__

# Version 2 added the temperature to model.json, which a reader of version 1 would ignore.
FORMAT_VERSION = 2

_WEIGHTS = "model.safetensors"
_DESCRIPTION = "model.json"
FILES = (SUMS, _DESCRIPTION, _WEIGHTS)
# Samples that are read and computed at once.
_AT_ONCE = 256


class NotFinite(InputError):  # noqa: N818 - a model's state
    """A model's results are not finite numbers."""

    def __init__(self) -> None:
        super().__init__(
            "The model's results are no numbers: its training diverged, or its weights, mean, standard deviation or "
            "temperature were damaged; take another version, or train it again at a lower learning rate."
        )


@dataclass
class ModelBundle:
    """A network with its preprocessing and class names, and its provenance as plain JSON values.

    `architecture` is a name that `build_network` accepts; `classes[i]` names logit i. A network trained without labels
    has neither classes nor logits, only features. `temperature` divides the logits before the softmax: finite, above 0,
    and 1 if the probabilities are not calibrated.

    `task` is what the model answers. A model of numbers has one logit, the number, and one name of a class,
    `NUMBER`; its `temperature` is the standard deviation of its errors on held-out samples, and `margin` half of the
    interval that holds 90% of new ones, None where nothing was held out. Of several labels, `classes` are their names
    and `thresholds` the probabilities from which on each is given.
    """

    network: Network
    architecture: str
    modality: str
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    temperature: float = 1.0
    provenance: dict[str, Any] = field(default_factory=dict)
    task: str = SINGLE_LABEL
    margin: float | None = None
    thresholds: tuple[float, ...] | None = None

    @property
    def kind(self) -> Task:
        """The rules of the task."""
        return TASKS[self.task]

    @property
    def answer(self) -> str:
        """What the model answers with: "3 classes", "4 labels", "a number" or "no classes"."""
        if self.task == REGRESSION:
            return "a number"
        return f"{len(self.classes) or 'no'} {'labels' if self.task == MULTI_LABEL else 'classes'}"

    @property
    def calibration(self) -> Calibration:
        """What held-out samples told of how sure the model may be: `temperature`, `margin` and `thresholds`."""
        return Calibration(self.temperature, self.margin, self.thresholds)

    @calibration.setter
    def calibration(self, found: Calibration) -> None:
        self.temperature, self.margin, self.thresholds = found.scale, found.margin, found.thresholds

    def calibrate(self, logits: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> None:
        """Calibrate by the logits (N, classes) of held-out samples, their labels (N,) and their groups (N,)."""
        self.calibration = self.kind.calibrated(logits, labels, groups)

    def require_head(self) -> None:
        """Check that the network has classes to predict.

        Raises:
            InputError: it has none.
        """
        if not self.classes:
            raise InputError(
                "The model was pretrained without labels: it has features and knows no classes; transfer it to a "
                "target first."
            )

    def save(self, path: Path) -> str:
        """Write the bundle's directory atomically, replacing an existing one, and return its digest."""
        with new_directory(path) as draft:
            state = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
            # Not save_file, whose files only the owner can read, whatever the umask.
            write_bytes(draft / _WEIGHTS, serialize(state))
            description = {
                "format_version": FORMAT_VERSION,
                "architecture": self.architecture,
                "modality": self.modality,
                "preprocessing": self.preprocessing.to_dict(),
                "classes": list(self.classes),
                "temperature": float(self.temperature),
                "provenance": self.provenance,
                **({} if self.task == SINGLE_LABEL else {"task": self.task}),
                **({"margin": self.margin} if self.task == REGRESSION else {}),
                **({"thresholds": list(self.thresholds)} if self.thresholds else {}),
            }
            write_json(draft / _DESCRIPTION, description)
            write_sums(draft, (_DESCRIPTION, _WEIGHTS))
        return bundle_digest(path)

    @classmethod
    def load(cls, path: Path) -> "ModelBundle":
        """Read a bundle that `save` wrote; the network is in eval mode on the CPU.

        Verifies SHA256SUMS before it reads anything else, never unpickles, and preserves the random state.

        Raises:
            InputError: a file is missing, changed, foreign, or does not match the architecture; the message names it.
        """
        path = Path(path)
        _read_sums(path)
        verify_sums(path, (_DESCRIPTION, _WEIGHTS))
        description = _read_description(path / _DESCRIPTION)
        preprocessing = find_modality(description["modality"]).preprocessing(description["preprocessing"])
        classes = tuple(description["classes"])
        state = _read_weights(path / _WEIGHTS)
        # Checked before the network is built: one for a million classes takes gigabytes.
        rows = state["head.weight"].shape[:1] if "head.weight" in state else ()
        if rows != (len(classes),):
            raise InputError(f"{path / _WEIGHTS} does not fit the {len(classes)} classes of the model: see head.weight")
        with torch.random.fork_rng(devices=[]):
            network = build_network(description["architecture"], classes=len(classes), channels=preprocessing.channels)
        if description["architecture"].startswith("timm/") and network.state_dict().keys() - state.keys():
            from headstart.models.timm import under_new_names

            name = description["architecture"].removeprefix("timm/")
            state = under_new_names(name, state, network, preprocessing.channels)
        task, margin = description.get("task", SINGLE_LABEL), description.get("margin")
        # Of an ensemble the members answer the same question.
        for name, module in network.named_modules():
            if isinstance(module, Network) and f"{name}.scale".lstrip(".") in state:
                module.measure(0.0, 1.0)
            if isinstance(module, Network) and task == MULTI_LABEL:
                module.label()
        _load_weights(network, state, path / _WEIGHTS, description["architecture"])
        return cls(
            network=network.eval(),
            architecture=description["architecture"],
            modality=description["modality"],
            preprocessing=preprocessing,
            classes=classes,
            temperature=description["temperature"],
            provenance=description["provenance"],
            task=task,
            margin=margin,
            thresholds=tuple(description["thresholds"]) if "thresholds" in description else None,
        )

    def predict_logits(self, samples: Samples, batch_size: int = _AT_ONCE) -> np.ndarray:
        """Predict float32 logits (N, classes) of stored samples, in eval mode.

        Args:
            batch_size: the most samples that are read at once. Of large ones the network takes fewer.

        Raises:
            NotFinite: a logit is NaN or infinite.
        """
        return _finite(self._predict(self.network, samples, batch_size, len(self.classes)))

    def predict_outputs(self, samples: Samples, batch_size: int = _AT_ONCE) -> np.ndarray:
        """Predict the task's calibrated outputs, float32 (N, ...), of stored samples: probabilities, or numbers.

        Raises:
            NotFinite: a logit or probability is NaN or infinite.
        """
        return self._outputs(self.predict_logits(samples, batch_size))

    def predict_probabilities(self, samples: Samples, batch_size: int = _AT_ONCE) -> np.ndarray:
        """Predict calibrated class probabilities, float32 (N, classes), of stored samples, in eval mode.

        Raises:
            NotFinite: a logit or probability is NaN or infinite.
        """
        return self._probabilities(self.predict_logits(samples, batch_size))

    def outputs_of(self, features: np.ndarray) -> np.ndarray:
        """What `predict_outputs` gives samples with these feature vectors, float32 (N, feature_dim), to the bit.

        Raises:
            NotFinite: a logit or probability is NaN or infinite.
        """
        device, network = self.network.head.weight.device, self.network

        def classified(rows: slice) -> Tensor:
            return network.classify(torch.from_numpy(features[rows]).to(device))

        # In the same batches, since products of other numbers of rows may differ in their last bits.
        return self._outputs(_finite(self._in_batches(classified, len(features), _AT_ONCE, len(self.classes))))

    def predict_features(self, samples: Samples, batch_size: int = _AT_ONCE) -> np.ndarray:
        """Predict float32 feature vectors (N, feature_dim) of stored samples, in eval mode.

        Raises:
            NotFinite: a value is NaN or infinite.
        """
        return _finite(self._predict(self.network.features, samples, batch_size, self.network.feature_dim))

    def _predict(
        self, function: Callable[[Inputs], Tensor], samples: Samples, batch_size: int, width: int
    ) -> np.ndarray:
        kind, device = find_modality(self.modality), self.network.head.weight.device

        def predicted(rows: slice) -> Tensor:
            return function(self.preprocessing(kind.batch(samples[rows]).to(device)))

        return self._in_batches(predicted, len(samples), batch_size, width)

    def _in_batches(self, function: Callable[[slice], Tensor], count: int, batch_size: int, width: int) -> np.ndarray:
        """The results (count, width) of `function` for rows in their order, in eval mode."""
        was_training = self.network.training
        outputs = np.empty((count, width), dtype=np.float32)
        self.network.eval()
        step = min(batch_size, self.preprocessing.samples_at_once(self.network.head.weight.device))
        with torch.inference_mode():
            for start in range(0, count, step):
                rows = slice(start, start + step)
                outputs[rows] = function(rows).float().cpu().numpy()
        self.network.train(was_training)
        return outputs

    def _outputs(self, logits: np.ndarray) -> np.ndarray:
        return self._probabilities(logits) if self.task == SINGLE_LABEL else self.kind.outputs(logits, self.calibration)

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        return _finite(torch.softmax(torch.from_numpy(logits) / self.temperature, dim=1).numpy())


def versions() -> dict[str, str]:
    """Return the versions that a bundle's provenance records: python, torch, headstart."""
    return {"python": platform.python_version(), "torch": torch.__version__, "headstart": __version__}


def bundle_digest(path: Path) -> str:
    """Return the digest of a bundle, "sha256:<hex>" of its SHA256SUMS; equal content has equal digests.

    Raises:
        InputError: there is no bundle.
    """
    return f"sha256:{hashlib.sha256(_read_sums(Path(path)).encode()).hexdigest()}"


def read_provenance(path: Path) -> dict[str, Any]:
    """Return the provenance of the bundle in `path`, whose weights are not read; empty where there is no bundle.

    Raises:
        InputError: its description is damaged or of another format version.
    """
    description = Path(path) / _DESCRIPTION
    return dict(_read_description(description)["provenance"]) if description.exists() else {}


def _finite(results: np.ndarray) -> np.ndarray:
    if not np.isfinite(results).all():
        raise NotFinite
    return results


def _read_sums(path: Path) -> str:
    try:
        return read_sums(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not a model bundle: its {SUMS} cannot be read; a bundle is a directory with "
            f"{_WEIGHTS}, {_DESCRIPTION} and {SUMS}"
        ) from error


def unusable(description: Mapping[str, Any], **more: type) -> list[str]:
    """The keys of a model's description that are missing, or of another type or range than a model has; `more` are
    further keys with their types."""
    types = {
        "architecture": str,
        "modality": str,
        "preprocessing": dict,
        "classes": list,
        "temperature": float,
        **more,
    }
    wrong = [name for name, kind in types.items() if not isinstance(description.get(name), kind)]
    if not wrong and not all(isinstance(name, str) for name in description["classes"]):
        wrong = ["classes"]
    if not wrong and not 0 < description["temperature"] < math.inf:
        wrong = ["temperature"]
    return wrong


def _read_description(path: Path) -> dict[str, Any]:
    """Read model.json and check its types.

    Raises:
        InputError: it is damaged or of another format version.
    """
    try:
        description = read_json(path)
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({one_line(error)}); write the bundle again") from error
    if not isinstance(description, dict) or description.get("format_version") != FORMAT_VERSION:
        raise InputError(f"{path} is not of bundle format {FORMAT_VERSION}; read it with the version that wrote it")
    wrong = unusable(description, provenance=dict)
    if description.get("task", SINGLE_LABEL) not in TASKS:
        raise InputError(f"{path} asks for the task {description['task']!r}, which a newer headstart knows; install it")
    margin = description.get("margin")
    if margin is not None and not (isinstance(margin, float) and 0 <= margin < math.inf):
        wrong.append("margin")
    if "thresholds" in description and not _are_shares(description["thresholds"], len(description["classes"])):
        wrong.append("thresholds")
    if wrong:
        raise InputError(f"{path} has no usable {', '.join(wrong)}; write the bundle again")
    return description


def _are_shares(found: Any, count: int) -> bool:
    return (
        isinstance(found, list)
        and len(found) == count
        and all(isinstance(each, float) and 0 <= each <= 1 for each in found)
    )


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        if is_pickle(path):
            raise InputError(
                f"{path} is a pickle, which can run code when it is read; only safetensors are loaded"
            ) from error
        raise InputError(f"{path} is not a whole safetensors file ({error}); copy the bundle again") from error


def _load_weights(network: Network, state: dict[str, Tensor], path: Path, architecture: str) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        # PyTorch's first line names its class, the following ones the tensors, up to hundreds.
        tensors = " ".join(" ".join(str(error).splitlines()[1:]).split())
        raise InputError(f"{path} does not fit the architecture {architecture!r}: {tensors[:300]}") from error


def is_pickle(path: Path) -> bool:
    """Return whether a file that is not safetensors begins like a pickle or like torch.save's zip archive.

    Meaningful only after parsing as safetensors failed: a safetensors file begins with its header's length, any bytes.
    """
    with path.open("rb") as file:
        start = file.read(2)
    return start == b"PK" or start[:1] == b"\x80"
