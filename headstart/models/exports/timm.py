"""`timm`: a folder that `timm.create_model("local-dir:…", pretrained=True)` reads, in the layout of timm's hub."""

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.bundle import ModelBundle
from headstart.models.exports import Format
from headstart.models.exports._readme import described, pillow_mode, write_readme
from headstart.models.foreign.folder import CONFIG, WEIGHTS
from headstart.models.library import TIMM, expected_outputs, timm_model_of
from headstart.models.settings import split_settings
from headstart.storage.local import write_json

_MODES = {"crop": "center", "stretch": "squash", "pad": "border"}
_SAMPLES = 4


class Timm(Format):
    title = "a folder that timm.create_model loads"

    def refusal(self, bundle: ModelBundle) -> str | None:
        if not bundle.architecture.startswith(TIMM) or not isinstance(bundle.preprocessing, Preprocessing):
            return f"a timm folder holds timm's models of pictures, and this one is {described(bundle)}"
        return None

    def write(self, bundle: ModelBundle, path: Path, *, digest: str) -> float:
        made = timm_model_of(bundle)
        save_file(made.state, path / WEIGHTS, metadata={"format": "pt"})
        write_json(path / CONFIG, _config(bundle, made.model))
        code = (
            "import timm, torch\n"
            "from PIL import Image\n\n"
            'model = timm.create_model("local-dir:.", pretrained=True).eval()\n'
            "config = timm.data.resolve_data_config({}, model=model)\n"
            "transform = timm.data.create_transform(**config, is_training=False)\n"
            f'picture = Image.open("photo.jpg").convert("{pillow_mode(bundle)}")\n'
            "with torch.inference_mode():\n"
            f"    {_outputs(bundle)} = model(transform(picture)[None]){'.softmax(1)' if bundle.classes else ''}\n"
        )
        write_readme(path, bundle, digest=digest, library="timm", code=code)
        return difference(bundle, path)


def difference(bundle: ModelBundle, path: Path) -> float:
    """Return the largest difference of an output between what timm loads from the folder and the bundle."""
    import timm

    model = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
    inputs, expected = expected_outputs(bundle, _SAMPLES)
    with torch.inference_mode():
        return float((model(inputs) - expected).abs().max())


def _outputs(bundle: ModelBundle) -> str:
    return "probabilities" if bundle.classes else "features"


def _config(bundle: ModelBundle, model: Any) -> dict[str, Any]:
    reads = bundle.preprocessing
    assert isinstance(reads, Preprocessing)  # noqa: S101 (others are refused)
    name, settings = split_settings(bundle.architecture.removeprefix(TIMM))
    usual, classes = dict(model.pretrained_cfg), len(bundle.classes)
    card = {
        "tag": name.partition(".")[2],
        "custom_load": False,
        "input_size": [reads.channels, reads.size, reads.size],
        "fixed_input_size": bool(usual.get("fixed_input_size")),
        "interpolation": reads.interpolation or "bilinear",
        "crop_pct": _share(reads.size, reads.resize or reads.size),
        "crop_mode": _MODES[reads.fitted_by],
        "mean": list(reads.mean),
        "std": list(reads.std),
        "num_classes": classes,
        "first_conv": usual.get("first_conv"),
        "classifier": usual.get("classifier"),
        "license": bundle.provenance.get("license"),
    }
    return {
        "architecture": name.partition(".")[0],
        "num_classes": classes,
        "num_features": int(model.num_features),
        "label_names": list(bundle.classes),
        # Of the channels, timm learns by input_size, and transformers here.
        "model_args": {**settings, **({} if reads.channels == 3 else {"in_chans": reads.channels})},
        "pretrained_cfg": {key: value for key, value in card.items() if value is not None},
    }


def _share(size: int, resize: int) -> float:
    """The crop_pct of which timm makes `resize` again, which it rounds down."""
    share = size / resize
    return share if math.floor(size / share) == resize else math.nextafter(share, 0)


FORMAT = Timm()
