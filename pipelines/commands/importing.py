"""`headstart import`: a model from elsewhere as a bundle."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from headstart_pipelines.commands.arguments import JSON, WORKSPACE, Command, option

if TYPE_CHECKING:
    from headstart.models.importing import Imported


def _import(options: argparse.Namespace) -> None:
    from tempfile import TemporaryDirectory

    from headstart.errors import InputError
    from headstart.models.importing import import_source
    from headstart.models.reference import RECORD, split_architecture, with_architecture
    from headstart.tracking import registry
    from headstart.tracking.store import open_record

    uri = options.source
    if options.architecture:
        if split_architecture(uri)[1]:
            raise InputError(f"{uri} names an architecture already; leave --architecture out.")
        uri = with_architecture(uri, options.architecture)
    with TemporaryDirectory() as folder:
        path = Path(folder, "bundle") if options.register else options.output
        if uri.startswith(RECORD):
            open_record(options.workspace)
            imported = import_source(registry.resolve(uri), path, fetch_registered=registry.fetch)
        else:
            imported = import_source(uri, path)
        place = _registered(path, options.register, options.workspace) if options.register else str(path)
    if options.json:
        print(json.dumps(_described(imported, place), indent=2))
        return
    bundle = imported.bundle
    outputs = f"{len(bundle.classes)} classes" if bundle.classes else f"{bundle.network.feature_dim} features, no head"
    print(f"{place}: {bundle.architecture}, {outputs}, reads {bundle.preprocessing.described}")
    print(f"from     {imported.reference}")
    print(f"licence  {bundle.provenance.get('license') or 'not told by its card'}")
    stages = imported.stages
    print(f"stages   {len(stages)}, with {', '.join(f'{count:,}' for count in stages)} weights")
    if left := bundle.provenance["left_out"]:
        print(f"left out {', '.join(left)}")
    if bundle.provenance.get("names"):
        print(
            "names    are another library's: tensors were taken in order, as every kind and shape fits; try its results"
        )
    print(f"verified on {imported.samples} samples: outputs differ by {imported.difference:.1g} from the original's")


def _registered(path: Path, model: str, workspace: Path) -> str:
    """The URI of the version that holds the bundle."""
    import uuid

    from headstart.tracking.client import connect
    from headstart.tracking.registration import register
    from headstart.tracking.runs import end, experiment_named, new_parent
    from headstart.tracking.store import make_record

    make_record(workspace)
    client = connect()
    run = new_parent(client, experiment_named(client, model), name="import", pipeline_run=f"import-{uuid.uuid4()}")
    status = "FAILED"
    try:
        registered = register(run, path, model=model)
        status = "FINISHED"
        return registered.uri
    finally:
        end(run, status)


def _described(imported: "Imported", place: str) -> dict[str, object]:
    bundle = imported.bundle
    return {
        "place": place,
        "digest": imported.digest,
        "source": imported.reference,
        "architecture": bundle.architecture,
        "classes": len(bundle.classes),
        "features": bundle.network.feature_dim,
        "preprocessing": bundle.preprocessing.to_dict(),
        "license": bundle.provenance.get("license"),
        "stages": imported.stages,
        "left_out": bundle.provenance["left_out"],
        "difference": imported.difference,
    }


def _destination(parser: "argparse._ActionsContainer") -> None:
    places = parser.add_mutually_exclusive_group(required=True)
    places.add_argument("-o", "--output", type=Path, metavar="DIR", help="the bundle to write")
    places.add_argument("--register", metavar="NAME", help="make it a version of this registered model instead")


COMMANDS = (
    Command(
        "import",
        _import,
        "make a bundle of a model from timm, Hugging Face, torchvision or a file",
        "headstart import hf://microsoft/resnet-50 -o resnet-50/",
        (
            option("source", metavar="URI", help="timm://model.tag, hf://org/model@revision, "
                   "torchvision://model/weights, a folder that save_pretrained wrote, or a .safetensors or .pth file "
                   "of weights; paths, s3:// or https:// URIs, or runs:/run/name that mlflow.transformers logged"),
            option("--architecture", metavar="NAME", help="whose weights a file holds, such as resnet18 or "
                   "timm/vit_tiny_patch16_224"),
            _destination,
            JSON,
            WORKSPACE,
        ),
    ),
)  # fmt: skip
