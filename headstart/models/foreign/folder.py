"""Folders with a model from elsewhere: config.json, safetensors weights and what else describes it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from headstart import yaml_text
from headstart.errors import InputError, shortened
from headstart.models.foreign import Original
from headstart.models.foreign.weights import read_weights
from headstart.models.reference import Prompts
from headstart.storage.digests import json_digest, sha256_of

CONFIG, WEIGHTS, PROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
_INDEX = f"{WEIGHTS}.index.json"
# Where mlflow.transformers puts the parts of what it logs, and the file by which that is known.
_LOGGED = ("model", "components/image_processor", "components/feature_extractor", "components/tokenizer")
_MLMODEL = "MLmodel"
_LARGEST_JSON = 16 * 2**20
_MOST_FILES = 1000


@dataclass(frozen=True)
class ModelFolder:
    """The files of a model by name: `find` gives a path, or None if there is none. `at` is the place in messages."""

    find: Callable[[str], Path | None]
    at: str

    @classmethod
    def local(cls, path: Path, at: str) -> "ModelFolder":
        """The model in a folder: what save_pretrained wrote, or what mlflow.transformers logged."""
        places = [path, *(path / inner for inner in _LOGGED if (path / _MLMODEL).is_file())]
        return cls(lambda name: next((each / name for each in places if (each / name).is_file()), None), at)

    @property
    def is_model(self) -> bool:
        return self.find(CONFIG) is not None

    def digest(self, prompts: Prompts | None = None) -> str:
        """Return the digest of all that decides what the model computes, "sha256:<hex>"."""
        names = [CONFIG, PROCESSOR, *([_INDEX] if self._shards() else []), *self._weights()]
        found = {name: self.find(name) for name in [*names, *((TOKENIZER, TOKENIZER_CONFIG) if prompts else ())]}
        if self._reads_texts:
            found |= {name: self.find(name) for name in _texts().TEXT_FILES}
        parts = {name: sha256_of(path) for name, path in found.items() if path}
        return f"sha256:{json_digest({**parts, **({'texts': prompts.texts} if prompts else {})})}"

    def original(self, facts: Mapping[str, Any], prompts: Prompts | None = None) -> Original:
        """Return the model; with `prompts`, one of pictures and texts as a classifier of what they name.

        Raises:
            InputError: it is of an unknown kind, damaged, would run code, or its weights are not safetensors.
        """
        config = self._json(CONFIG)
        if config is None:
            raise InputError(f"{self.at} has no {CONFIG}; give a folder that save_pretrained wrote.")
        facts = {**facts, "license": self._license()} if self._license() else facts
        if prompts:
            from headstart.models.foreign import contrastive

            processor = self._json(PROCESSOR)
            tokenizer = contrastive.TokenizerFiles(self.find(TOKENIZER), self._json(TOKENIZER_CONFIG) or {})
            return contrastive.of_config(config, self._state(), processor, tokenizer, prompts, at=self.at, facts=facts)
        if config.get("library_name") in ("headstart", "torchvision"):
            from headstart.models.foreign import checkpoint

            return checkpoint.of_description(config, self._state(), at=self.at, facts=facts)
        if "architecture" in config and "model_type" not in config:
            from headstart.models.foreign import timm

            return timm.of_config(config, self._state(), at=self.at, facts=facts)
        if "auto_map" not in config and self._reads_texts:
            return _texts().of_config(config, self._state(), self.find, at=self.at, facts=facts)
        from headstart.models.foreign import transformers, waveform

        if config.get("model_type") in waveform.KINDS:
            return waveform.of_config(config, self._state(), self._json(PROCESSOR), at=self.at, facts=facts)
        return transformers.of_config(config, self._state(), self._json(PROCESSOR), at=self.at, facts=facts)

    @property
    def _reads_texts(self) -> bool:
        """Whether config.json is that of an encoder of texts."""
        config = self._json(CONFIG) or {}
        return config.get("model_type") in _texts().FAMILIES

    def _state(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        for name in self._weights():
            path = self.find(name)
            if path is None:
                raise InputError(f"{self.at}: {_INDEX} lists {name}, which is missing; copy the whole folder again.")
            state |= read_weights(path)
        return state

    def _weights(self) -> list[str]:
        """The names of the weights' files, in order."""
        if self.find(WEIGHTS):
            return [WEIGHTS]
        if shards := self._shards():
            return shards
        raise InputError(
            f"{self.at} has no {WEIGHTS}; weights in other formats are not read from folders: save it again with "
            "safetensors, or import its .bin or .pth file with --architecture."
        )

    def _shards(self) -> list[str]:
        if self.find(WEIGHTS):
            return []
        index = self._json(_INDEX)
        if index is None:
            return []
        places = index.get("weight_map")
        if not isinstance(places, Mapping) or not places:
            raise InputError(f"{self.at}: {_INDEX} has no weight_map; copy it again.")
        names = sorted({str(name) for name in places.values()})
        wrong = [name for name in names if Path(name).name != name or not name.endswith(".safetensors")]
        if wrong or len(names) > _MOST_FILES:
            raise InputError(
                f"{self.at}: {_INDEX} lists {shortened((wrong or names)[0])}, which is no safetensors file beside it."
            )
        return names

    def _json(self, name: str) -> dict[str, Any] | None:
        path = self.find(name)
        if path is None:
            return None
        try:
            if path.stat().st_size > _LARGEST_JSON:
                raise InputError(f"{self.at}: {name} is larger than 16 MB, which no description of a model is.")
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.at}: {name} is not JSON ({shortened(str(error), 100)}); copy it again.") from None
        if not isinstance(content, dict):
            raise InputError(f"{self.at}: {name} is no JSON object; copy it again.")
        return content

    def _license(self) -> str | None:
        """The licence that the model card's head names."""
        path = self.find("README.md")
        if path is None or path.stat().st_size > _LARGEST_JSON:
            return None
        _, mark, rest = path.read_text(encoding="utf-8", errors="replace").partition("---\n")
        head, end, _ = rest.partition("\n---")
        if not mark or not end:
            return None
        try:
            content = yaml_text.parse(head)
        except yaml_text.UnreadableText:
            return None
        found = content.get("license") if isinstance(content, Mapping) else None
        return shortened(found, 80) if isinstance(found, str) else None


def _texts() -> ModuleType:
    """The module of the encoders of texts."""
    from headstart.models.foreign import text

    return text
