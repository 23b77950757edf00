"""Every metric of the chosen strategy, with its interval."""

from headstart.judging.report.judgement import Context, Judgement
from headstart.metrics.metric import metric_title


def section(judgement: Judgement) -> Context:
    return {
        "intervals": [
            ("calibration error" if name == "ece" else metric_title(name), interval)
            for name, interval in judgement.diagnostics.intervals.items()
        ]
    }
