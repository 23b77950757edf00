"""monitor: whether new samples are as those that a registered model was tested on."""

from headstart_components import component
from headstart_components.types import Metrics, Output


@component
def monitor(model: str, data: str, tolerance: float, metrics: Output[Metrics]) -> str:
    """Compares new samples with the test samples of a registered version, logs the result as a run of the experiment
    `monitoring`, and returns `as before`, `drifted` or `worse`.

    Args:
        model: models:/name@alias, models:/name/version or models:/name.
        data: the reference of the new samples.
        tolerance: how much better than chance a classifier may tell new samples from old ones.
        metrics: the figures, with the sentence about them.
    """
    from pathlib import Path

    from headstart.artifacts import describe
    from headstart.storage.local import write_json
    from headstart.tracking.client import await_server, connect
    from headstart.tracking.monitoring import monitor_version, summary

    client = connect()
    await_server(client.tracking_uri)
    found = monitor_version(client, model, data, tolerance=tolerance)
    print(found.sentence)
    write_json(Path(metrics.path), found.to_dict())
    describe(metrics, state=found.state, sentence=found.sentence, **summary(found))
    return found.state
