"""prepare_data: a data reference becomes a verified, split and packed data set."""

from headstart_components import component
from headstart_components.types import HTML, Dataset, Output


@component
def prepare_data(
    experiment: str,
    modality: str,
    role: str,
    data: dict,
    seed: int,
    dataset: Output[Dataset],
    report: Output[HTML],
    parts: list = [],
):
    """Packs the samples that `data` refers to.

    Args:
        experiment: the recipe's name.
        modality: what the samples are.
        role: `source` or `target`.
        data: the recipe's data section.
        seed: decides, with each sample's content, which split it belongs to.
        dataset: the packed data set; its metadata hold the counts.
        report: its page.
        parts: the numbers of files in the parts that other steps have read; empty where this one reads all.
    """
    import shutil
    from pathlib import Path

    from headstart.artifacts import describe
    from headstart.data.dataset import SPLITS
    from headstart.data.dataset import Dataset as PackedDataset
    from headstart.data.finished import FinishedData
    from headstart.data.prepare import prepare
    from headstart.data.section import Data
    from headstart.storage.state import State
    from headstart.tracking.names import DATA_DIGEST
    from headstart.tracking.runs import step_run

    section = Data.of(data, at=f"{role}.data")
    place, finished = Path(dataset.path), FinishedData.of(section, role, modality=modality, seed=seed)
    labels = section.labels_for(role)
    read = State.required("join the parts that others have read") if parts else None
    with step_run(experiment, f"prepare-{role}", role=role) as run:
        origin = finished.fetch(place) if finished else None
        if origin:
            packed = PackedDataset.open(place)
            run.link_origin(origin)
        else:
            packed = prepare(section, place, modality=modality, labels=labels, seed=seed, parts=read)
            if finished:
                finished.keep(packed, run.id)
        run.log_params(
            {"data": section.model_dump(mode="json", exclude_none=True), "samples": packed.counts, "seed": seed}
        )
        run.set_tags({DATA_DIGEST: packed.digest})
        run.log_data(packed, SPLITS)
        run.log_artifact(packed.path / "report.html")
        describe(dataset, digest=packed.digest, run_id=run.id, classes=len(packed.classes), **packed.counts)
        shutil.copyfile(packed.path / "report.html", report.path)
