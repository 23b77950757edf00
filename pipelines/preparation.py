"""The steps that prepare a data set: one, or several that each read a part of its files and one that joins them."""

from typing import Any

from kfp import dsl
from kfp.dsl import PipelineTask

from headstart_components.prepare_data.component import prepare_data
from headstart_components.prepare_part.component import prepare_part
from headstart_pipelines.placement import Placement

# A part costs a pod's start and bytes of the workflow, so more of them at once hurry nobody.
AT_ONCE = 16


def add_preparation(placement: Placement, role: str, *, data: Any, **about: Any) -> PipelineTask:
    """Adds the preparation of the data of `role`, source or target, to the pipeline that is being built.

    Args:
        data: the pipeline's parameter with the data section.
        about: the components' other parameters: `experiment`, `modality` and `seed`.
    """
    given = {"role": role, "data": data, **about}
    count = placement.parts_of(role)
    if count:
        with dsl.ParallelFor(list(range(count)), name=f"parts of {role}", parallelism=min(count, AT_ONCE)) as part:
            read = prepare_part(part=part, parts=count, **given)
            # A part that is there is found in seconds; a cache would outlive what it says is there.
            placement.place(read, f"read {role}", cached=False)
        given["parts"] = dsl.Collected(read.output)
    prepared = prepare_data(**given)
    return placement.place(prepared, f"prepare {role}", cached=role not in placement.unfingerprinted)
