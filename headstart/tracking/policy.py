"""The policy: what a version must show before it becomes the champion, one YAML file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model, model_validator

from headstart.metrics.metric import METRICS
from headstart.sections import Section, Share, read_mapping

if TYPE_CHECKING:
    MinMetrics = Section
else:
    MinMetrics = create_model(
        "MinMetrics",
        __base__=Section,
        __doc__="The least that each metric must reach on the test split.",
        **dict.fromkeys(METRICS, (Share | None, None)),
    )


class Policy(Section):
    """The gates of a promotion; a key that is null, or has no default, closes nothing.

    `against_champion`: `better` wants the interval of the difference, on the same test items, above 0; `not_worse`
    wants it above -`margin`. `min_gain` is the gain over scratch and `min_gain_low` its lower bound; both are for
    targets. `max_class_regression` is the largest drop of any class's recall against the champion, `max_ece` the
    calibration error, `max_size_mb` the bundle's 10⁶ bytes, `max_latency_ms` the median time for one sample on the
    machine that promotes, `max_leaked` the number of test items that the version or one of its sources was trained
    on. `lineage` wants the digests, the evidence and the sources to be there and to agree. Where nothing says what a
    source was trained on, as with published weights, `unknown_training_data: refuse` closes both, and `pass` leaves
    them unanswered. `loads` wants the model's files to be there and whole, and the model to predict the example that
    is stored with it; a rollback asks it too.
    """

    against_champion: Literal["better", "not_worse", "none"] = "better"
    margin: Share = 0.01
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    min_metrics: MinMetrics = MinMetrics()
    min_gain: Annotated[float, Field(ge=-1, le=1)] | None = 0.0
    min_gain_low: Annotated[float, Field(ge=-1, le=1)] | None = None
    max_class_regression: Share | None = 0.1
    max_ece: Share | None = None
    max_size_mb: Annotated[float, Field(gt=0)] | None = None
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    max_leaked: Annotated[int, Field(ge=0)] | None = 0
    lineage: bool = True
    loads: bool = True
    unknown_training_data: Literal["pass", "refuse"] = "pass"

    @model_validator(mode="before")
    @classmethod
    def _none_is_a_word(cls, values: Any) -> Any:
        # `none` is a word in YAML, and null what people write for it.
        if isinstance(values, dict) and values.get("against_champion", "") is None:
            return {**values, "against_champion": "none"}
        return values

    @property
    def compares(self) -> bool:
        """Whether any gate asks about the champion's predictions."""
        return self.against_champion != "none" or self.max_class_regression is not None


def load_policy(path: Path) -> Policy:
    """Reads a policy file.

    Raises:
        InputError: the file is missing, is not YAML, or does not describe a policy.
    """
    return Policy.of(read_mapping(path, "policy"), at=f"{path}")
