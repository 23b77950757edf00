"""prepare_part: one of several steps that read a data set's files before prepare_data joins them."""

from headstart_components import component


@component
def prepare_part(experiment: str, modality: str, role: str, data: dict, seed: int, part: int, parts: int) -> int:
    """Reads a part of the samples that `data` refers to into the state.

    Args:
        experiment: the recipe's name.
        modality: what the samples are.
        role: `source` or `target`.
        data: the recipe's data section.
        seed: decides which split a sample belongs to.
        part: the number of the part, from 0.
        parts: how many there are.

    Returns:
        The number of its files; 0 where an equal data set has been prepared before, which is then taken.
    """
    from headstart.data.finished import FinishedData
    from headstart.data.prepare import prepare_part
    from headstart.data.section import Data
    from headstart.storage.state import State
    from headstart.tracking.runs import step_run

    # A package's constants are all floats.
    part, parts = int(part), int(parts)
    section = Data.of(data, at=f"{role}.data")
    with step_run(experiment, f"prepare-{role}-part-{part}", role=role) as run:
        state = State.required("leave what it reads for the step that joins the parts")
        finished = FinishedData.of(section, role, modality=modality, seed=seed)
        if finished and finished.is_there:
            return 0
        files, read = prepare_part(
            section, state, part=part, parts=parts, modality=modality, labels=section.labels_for(role)
        )
        run.log_params({"part": part, "parts": parts, "files": files, "read": read})
    return files
