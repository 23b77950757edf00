"""`torch`: a folder with a program that PyTorch alone runs (torch.export, no TorchScript), and the weights.

The program reads stored samples; preprocessing, temperature and softmax are inside. The weights have torchvision's or
timm's own names where the network is theirs, else those of the bundle.
"""

import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file

from headstart.errors import HeadstartError, first_line
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import INT8
from headstart.models.bundle import ModelBundle
from headstart.models.exports import Format, timm
from headstart.models.exports._readme import described, pillow_mode, write_readme
from headstart.models.foreign.folder import CONFIG, WEIGHTS
from headstart.models.library import LibraryModel, NotTheLibrarys, expected_outputs, torchvision_model_of
from headstart.models.served import Served, free_sizes, stored_tensors
from headstart.storage.local import write_json

PROGRAM = "model.pt2"
# The exporter treats a batch of one as a constant; it is tried too.
_BATCHES = (1, 5)
_SAMPLES = 4


class Torch(Format):
    title = "a folder with a program for PyTorch alone, and the weights"

    def refusal(self, bundle: ModelBundle) -> str | None:
        return "ONNX Runtime runs its network, not PyTorch" if bundle.architecture.startswith(INT8) else None

    def write(self, bundle: ModelBundle, path: Path, *, digest: str) -> float:
        _write_program(bundle, path / PROGRAM)
        difference, more = _write_weights(bundle, path, digest)
        write_readme(path, bundle, digest=digest, library="pytorch", code=_lines(bundle), more=more)
        return max(difference, _difference_of_program(bundle, path / PROGRAM))


def _write_program(bundle: ModelBundle, file: Path) -> None:
    tensors = stored_tensors(bundle, bundle.preprocessing.noise(2))
    try:
        # The exporter's warnings concern its own internals.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(
                Served(bundle).eval(), tuple(tensors.values()), dynamic_shapes={"tensors": free_sizes(bundle, tensors)}
            )
            torch.export.save(program, file)
    # What a network may not do in it is told by many kinds of exceptions.
    except Exception as error:
        raise HeadstartError(f"PyTorch cannot export {described(bundle)}: {first_line(error)}") from error


def _difference_of_program(bundle: ModelBundle, file: Path) -> float:
    program = torch.export.load(file).module()
    found = 0.0
    for count in _BATCHES:
        samples = bundle.preprocessing.noise(count)
        with torch.inference_mode():
            given = program(*stored_tensors(bundle, samples).values())
        expected = bundle.predict_probabilities(samples) if bundle.classes else bundle.predict_features(samples)
        found = max(found, float((given - torch.from_numpy(expected)).abs().max()))
    return found


def _write_weights(bundle: ModelBundle, path: Path, digest: str) -> tuple[float, tuple[tuple[str, str], ...]]:
    """Write the weights with what describes them; return the largest difference of an output from the bundle's, and
    the lines that load them."""
    if timm.FORMAT.refusal(bundle) is None:
        try:
            difference = timm.FORMAT.write(bundle, path, digest=digest)
        except NotTheLibrarys:
            pass
        else:
            code = 'import timm\n\nmodel = timm.create_model("local-dir:.", pretrained=True)\n'
            return difference, (("To train it further, timm loads its weights:", code),)
    description = {
        "library_name": "headstart",
        "architecture": bundle.architecture,
        "modality": bundle.modality,
        "preprocessing": bundle.preprocessing.to_dict(),
        "classes": list(bundle.classes),
        "temperature": float(bundle.temperature),
        "license": bundle.provenance.get("license"),
    }
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in bundle.network.state_dict().items()}
    difference, more = 0.0, tuple[tuple[str, str], ...]()
    try:
        made = torchvision_model_of(bundle)
    except NotTheLibrarys:
        pass
    else:
        state, more = made.state, (("To train it further, torchvision loads its weights:", _of_torchvision(bundle)),)
        description |= {"library_name": "torchvision", "temperature": 1.0}
        difference = _difference(bundle, made)
    save_file(state, path / WEIGHTS, metadata={"format": "pt"})
    write_json(path / CONFIG, description)
    return difference, more


def _difference(bundle: ModelBundle, made: LibraryModel) -> float:
    inputs, expected = expected_outputs(bundle, _SAMPLES)
    with torch.inference_mode():
        return float((made.call(inputs) - expected).abs().max())


def _lines(bundle: ModelBundle) -> str:
    outputs = "probabilities" if bundle.classes else "features"
    names = ", ".join(stored_tensors(bundle, bundle.preprocessing.noise(2)))
    reads = bundle.preprocessing
    opened = _opened(reads, pillow_mode(bundle)) if isinstance(reads, Preprocessing) else "import torch\n\n"
    return (
        f"{opened}"
        f'model = torch.export.load("{PROGRAM}").module()\n'
        "with torch.inference_mode():\n"
        f"    {outputs} = model({names})  # {reads.program_form}\n"
    )


def _opened(reads: Preprocessing, mode: str) -> str:
    """The lines that make `images` of a photograph."""
    kernel, size = f"Image.Resampling.{(reads.interpolation or 'bilinear').upper()}", reads.size
    lines = ["import numpy as np", "import torch", "from PIL import Image, ImageOps", ""]
    lines.append(f'picture = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("{mode}")')
    resize = reads.resize or size
    if reads.fitted_by == "stretch":
        lines.append(f"picture = picture.resize(({resize}, {resize}), {kernel})")
    elif reads.resize is None:
        lines.append(
            f"picture = ImageOps.{'pad' if reads.fitted_by == 'pad' else 'fit'}(picture, {(size, size)}, {kernel})"
        )
    else:
        lines.append(f"sides = [int({resize} * side / min(picture.size)) for side in picture.size]")
        lines.append(f"picture = picture.resize(sides, {kernel})")
    if reads.resize is not None:
        lines.append(f"left, top = (round((side - {size}) / 2) for side in picture.size)")
        lines.append(f"picture = picture.crop((left, top, left + {size}, top + {size}))")
    lines.append(f"images = torch.from_numpy(np.array(picture)).reshape(1, {size}, {size}, {reads.channels})")
    return "\n".join([*lines, "", ""])


def _of_torchvision(bundle: ModelBundle) -> str:
    options = f"num_classes={len(bundle.classes)}"
    if bundle.architecture in ("googlenet", "inception_v3"):
        options += ", aux_logits=False, init_weights=False"
    return (
        "import torchvision\n"
        "from safetensors.torch import load_file\n\n"
        f"model = torchvision.models.{bundle.architecture}({options})\n"
        f'model.load_state_dict(load_file("{WEIGHTS}"))\n'
    )


FORMAT = Torch()
