"""The recipe's section of a data set: where its samples are and how they are packed."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from headstart.data.listing import LABELS_OF_TASKS, Labels
from headstart.data.task import Asked
from headstart.errors import InputError
from headstart.modalities import Modality
from headstart.sections import Section, Share

Stream = Literal["auto", "always", "never"]
"""Whether steps read samples from the state as they need them."""

_OF_PICTURES = frozenset({"size", "channels"})


class Split(Section):
    """Shares of a folder without given splits that go to training, validation and test."""

    train: Share = 0.7
    val: Share = 0.15
    test: Share = 0.15

    @model_validator(mode="after")
    def _is_a_partition(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, val and test must add up to 1, but add up to {total:g}")
        for name in ("train", "val", "test"):
            if getattr(self, name) == 0:
                raise ValueError(f"{name} must be above 0: a model is trained, chosen and judged on different samples")
        return self


class Data(Section):
    """A reference to samples and how they are packed.

    `labels_per_class` is the label budget: so many labels of each class, chosen by content hash from training and
    validation together, train, choose, stop and calibrate. A fifth of them is the validation split, and `split` then
    says only how large the test split is.
    `labels: none` takes every sample below the folder without a label; unset, samples have none only where the folder
    holds them and no folders. `task: single_label` takes every label as the name of a class; unset, labels are taken
    for several each, or for measured numbers, where they look so, and the data report says why. `task: regression`
    learns labels that are numbers, such as ages or prices, and `task: multi_label` labels of which a sample may have
    several, as `circle;red`, or `none`, and `?red` where that one is not known; `label_budget` is then what
    `labels_per_class` is for classes: so many labelled samples in all.
    `input` is the modality's own section: what is read of a sample. For pictures it is
    `size` and `channels`, which may stand beside `uri` instead. `duplicates` says what becomes of samples of
    one split that are copies or look the same: `report` keeps them, `drop` keeps one of each, `fail` ends the step;
    samples of different splits never are. `max_refused` and `max_refused_per_class` are the shares of unreadable files
    above which the step ends (never for up to 10 files in all and 5 of a class). `store` says how samples are kept:
    `raw`, as arrays, which read fastest; `jpeg`, of photographs a fifth of the bytes, decoded whenever they are read
    and a little different; `auto`, raw up to 16 GiB of pixels and jpeg above. `stream: always` leaves the samples in
    the state, in blocks, from where each step reads those that it needs, so that its disk need not hold them all;
    `never` has every step copy them; `auto` streams where the state is in S3 and the samples take more than
    HEADSTART_STORE_LIMIT, 100 GiB. Samples that are streamed come in another order in training. `fingerprint` is
    written by `headstart run`, not by people: it makes a changed folder a changed parameter, so that a step is never
    reused for other data.
    """

    uri: Annotated[str, Field(min_length=1)]
    split: Split = Split()
    labels: Literal["none"] | None = None
    task: Asked = "auto"
    labels_per_class: Annotated[int, Field(ge=1)] | None = None
    label_budget: Annotated[int, Field(ge=2)] | None = None
    input: dict[str, Any] = Field(default_factory=dict)
    duplicates: Literal["report", "drop", "fail"] = "report"
    max_refused: Share = 0.01
    max_refused_per_class: Share = 0.05
    store: Literal["auto", "raw", "jpeg"] = "auto"
    stream: Stream = "auto"
    fingerprint: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _own_keys_of_pictures(cls, values: Any) -> Any:
        # Recipes wrote these keys of pictures beside `uri` before there were other kinds of data.
        if not isinstance(values, Mapping) or not _OF_PICTURES & values.keys():
            return values
        moved = {key: values[key] for key in values if key in _OF_PICTURES and values[key] is not None}
        rest = {key: value for key, value in values.items() if key not in _OF_PICTURES}
        return {**rest, "input": {**rest.get("input", {}), **moved}}

    def labels_for(self, role: str) -> Labels:
        """Which samples need a label in a data set of `role`, source or target. Whether a source does depends on how it
        is pretrained, which refuses what it cannot use."""
        return self.wanted("optional" if role == "source" else "required")

    def wanted(self, default: Labels) -> Labels:
        """Which samples need a label, where `default` says so of data that say nothing themselves."""
        return LABELS_OF_TASKS.get(self.task) or self.labels or default

    def learned_as(self, task: str) -> Self:
        """The section with the task that its labels are learned as.

        Raises:
            InputError: it says what has no meaning for the task.
        """
        if self.task == task:
            return self
        return type(self).of({**self.model_dump(exclude_unset=True), "task": task})

    def check_input(self, kind: Modality, role: str) -> None:
        """InputError, with the keys' paths in a recipe below `role`, if `input` is not one of the modality's."""
        place = f"{role}.data.input"
        try:
            kind.input.of(self.input, at=place)
        except InputError as error:
            raise InputError(str(error).replace(f"{place}: ", f"{place}.")) from None

    @model_validator(mode="after")
    def _limits_labels_that_there_are(self) -> Self:
        if self.labels == "none" and self.labels_per_class is not None:
            raise ValueError("labels_per_class has no meaning where labels is none; remove one of them")
        without_classes = {"regression": "are numbers", "multi_label": "are several"}.get(self.task)
        if without_classes and (self.labels == "none" or self.labels_per_class is not None):
            key, hint = ("labels: none", "") if self.labels == "none" else ("labels_per_class", "; say label_budget")
            raise ValueError(f"{key} has no meaning with task: {self.task}, whose labels {without_classes}{hint}")
        if self.task == "single_label" and self.label_budget is not None:
            raise ValueError("label_budget is for task: regression or multi_label; of classes, say labels_per_class")
        return self
