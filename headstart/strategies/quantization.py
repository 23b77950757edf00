"""Quantization: the model that a strategy makes becomes one of 8-bit whole numbers, judged by its own answers.

Labelled training samples tell the ranges of its layers' results. For what is held out, the network that is quantized
has not learned from these samples either, and none of them tells a range; what is kept is made of the model that
learned from all labels. Temperature, margin and thresholds stay those of the original.
"""

from dataclasses import replace
from importlib.metadata import version

from headstart.data.dataset import Dataset
from headstart.data.subsets import spread_out
from headstart.models.bundle import ModelBundle
from headstart.models.int8_network import CALIBRATION, as_int8
from headstart.models.onnx_graph import require_onnx
from headstart.strategies.section import Strategy
from headstart.strategies.task import Task
from headstart.training.context import RunContext
from headstart.training.held_out import held_out_further
from headstart.training.refit import all_labels
from headstart.training.trained import Trained


def quantized_transfer(name: str, original: Strategy, task: Task) -> Trained:
    """Carry the source to the target by `original`, and return its model in 8-bit whole numbers, called `name`.

    Raises:
        InputError: a package of the extra `onnx` is missing.
        HeadstartError: PyTorch cannot export the network, or ONNX Runtime cannot quantize it.
    """
    # Before the training, which may take hours.
    require_onnx()
    whole = task.carried_by(original)

    def judged(dataset: Dataset, context: RunContext) -> Trained:
        part = replace(task, dataset=dataset, context=context)
        chosen, val = part.carried_alone(original, whole), dataset.split("val")
        part.bundle = _quantized(name, original, chosen.bundle, dataset)
        validation, held_out = part.judge(val, part.bundle.predict_logits(val.samples), calibrate=False)
        params = {**chosen.params, "original": original.name}
        return Trained(part.bundle, validation, chosen.seconds, params, held_out=held_out)

    found = held_out_further(judged(task.dataset, task.context), task.dataset, task.context, judged)
    labelled = all_labels(task.dataset, task.context)
    if labelled is None:
        return found
    final = _quantized(name, original, whole.bundle, labelled)
    labels = {"labels": labelled.counts["train"]}
    final.provenance |= labels
    return replace(found, model=final, params={**found.params, **labels, "temperature": final.temperature})


def _quantized(name: str, original: Strategy, bundle: ModelBundle, dataset: Dataset) -> ModelBundle:
    train = dataset.split("train")
    made = as_int8(bundle, train.samples[spread_out(train.labels, CALIBRATION)])
    # Its original's curves are not its own.
    known = {key: value for key, value in made.provenance.items() if key != "history"}
    decisions = {**known.get("decisions", {}), "original": original.name}
    versions = {**known["versions"], "onnxruntime": version("onnxruntime")}
    made.provenance = {**known, "strategy": name, "decisions": decisions, "versions": versions}
    return made
