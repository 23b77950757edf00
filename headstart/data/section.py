"""The recipe's section of a data set: where its samples are and how they are packed."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from headstart.sections import Section, Share


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

    `labels: none` takes every sample below the folder without a label; unset, samples have none only where the folder
    holds them and no folders. `size` is the side of the stored samples in pixels and `channels` their number (1 grey,
    3 RGB); unset, they follow from the architecture and from the samples. `duplicates` says what becomes of samples of
    one split that are copies or look the same: `report` keeps them, `drop` keeps one of each, `fail` ends the step;
    samples of different splits never are. `max_refused` and `max_refused_per_class` are the shares of unreadable files
    above which the step ends (never for up to 10 files in all and 5 of a class). `store` says how samples are kept:
    `raw`, as pixels, which read fastest; `jpeg`, of photographs a fifth of the bytes, decoded whenever they are read
    and a little different; `auto`, raw up to 16 GiB of pixels and jpeg above. `fingerprint` is written by `headstart
    run`, not by people: it makes a changed folder a changed parameter, so that a step is never reused for other data.
    """

    uri: Annotated[str, Field(min_length=1)]
    split: Split = Split()
    labels: Literal["none"] | None = None
    labels_per_class: Annotated[int, Field(ge=1)] | None = None
    size: Annotated[int, Field(ge=8, le=1024)] | None = None
    channels: Literal[1, 3] | None = None
    duplicates: Literal["report", "drop", "fail"] = "report"
    max_refused: Share = 0.01
    max_refused_per_class: Share = 0.05
    store: Literal["auto", "raw", "jpeg"] = "auto"
    fingerprint: str | None = None

    @model_validator(mode="after")
    def _limits_labels_that_there_are(self) -> Self:
        if self.labels == "none" and self.labels_per_class is not None:
            raise ValueError("labels_per_class has no meaning where labels is none; remove one of them")
        return self
