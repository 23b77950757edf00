"""Every metric of the chosen strategy, with its interval."""

from typing import Any

from headstart.judging.report.judgement import Judgement
from headstart.metrics.metric import metric_title


def section(judgement: Judgement) -> dict[str, Any]:
    return {
        "intervals": [
            ("calibration error" if name == "ece" else metric_title(name), interval)
            for name, interval in judgement.diagnostics.intervals.items()
        ]
    }
