"""`hf`: a folder that `AutoModelForImageClassification.from_pretrained` reads, of a model of transformers or timm."""

from pathlib import Path
from typing import Any

import torch

from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.bundle import ModelBundle
from headstart.models.exports import Format
from headstart.models.exports._readme import described, pillow_mode, write_readme
from headstart.models.foreign.folder import PROCESSOR
from headstart.models.library import TIMM, TRANSFORMERS, expected_outputs, transformers_model_of
from headstart.models.transformers import auto_class
from headstart.storage.local import write_json

_SAMPLES = 4
# Pillow's numbers of its filters.
_FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}


class HuggingFace(Format):
    title = "a folder that transformers' AutoModelForImageClassification loads"

    def refusal(self, bundle: ModelBundle) -> str | None:
        reads = bundle.preprocessing
        if not bundle.architecture.startswith((TIMM, TRANSFORMERS)) or not isinstance(reads, Preprocessing):
            return (
                f"a folder of Hugging Face's holds models of transformers or timm, and this one is {described(bundle)}"
            )
        if bundle.architecture.startswith(TRANSFORMERS) and reads.fitted_by == "pad":
            return "the model reads whole pictures on black, which no processor of transformers says"
        if not bundle.classes:
            return "AutoModelForImageClassification needs classes, and the model has features only"
        return None

    def write(self, bundle: ModelBundle, path: Path, *, digest: str) -> float:
        reads = bundle.preprocessing
        assert isinstance(reads, Preprocessing)  # noqa: S101 (others are refused)
        if bundle.architecture.startswith(TIMM):
            from headstart.models.exports import timm

            timm.FORMAT.write(bundle, path, digest=digest)
        else:
            made = transformers_model_of(bundle)
            made.model.save_pretrained(path)  # type: ignore[operator]
            write_json(path / PROCESSOR, _processor(reads))
        code = (
            "import torch\n"
            "from PIL import Image\n"
            "from transformers import AutoImageProcessor, AutoModelForImageClassification\n\n"
            'model = AutoModelForImageClassification.from_pretrained(".")\n'
            'processor = AutoImageProcessor.from_pretrained(".", backend="pil")\n'
            f'picture = Image.open("photo.jpg").convert("{pillow_mode(bundle)}")\n'
            "with torch.inference_mode():\n"
            '    probabilities = model(**processor(picture, return_tensors="pt")).logits.softmax(1)\n'
        )
        write_readme(path, bundle, digest=digest, library="transformers", code=code)
        return _difference(bundle, path)


def _difference(bundle: ModelBundle, path: Path) -> float:
    model = auto_class().from_pretrained(path).eval()
    inputs, expected = expected_outputs(bundle, _SAMPLES)
    with torch.inference_mode():
        return float((model(pixel_values=inputs).logits - expected).abs().max())


def _processor(reads: Preprocessing) -> dict[str, Any]:
    """The settings of transformers' plain processor: resize, centre crop, rescale, normalise."""
    size, resize = reads.size, reads.resize or reads.size
    stretched = reads.fitted_by == "stretch"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"height": resize, "width": resize} if stretched else {"shortest_edge": resize},
        "resample": _FILTERS[reads.interpolation or "bilinear"],
        "do_center_crop": resize != size or not stretched,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(reads.mean),
        "image_std": list(reads.std),
        "do_convert_rgb": reads.channels == 3,
    }


FORMAT = HuggingFace()
