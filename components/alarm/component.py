"""alarm: a run that was asked to fails where new samples are not as before, so that what watches runs notices."""

from headstart_components import component


@component
def alarm(state: str, fail: bool):
    """Fails where `fail` is set and the samples are not as before. The comparison is a step of its own: KFP shows no
    outputs of one that failed.

    Args:
        state: what monitor returned.
        fail: whether the run is to fail.
    """
    from headstart.errors import HeadstartError

    if fail and state != "as before":
        raise HeadstartError(
            f"The new samples are not as before: {state}. The log of the step monitor has the figures."
        )
