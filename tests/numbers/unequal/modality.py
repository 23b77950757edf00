"""numbers: text files of numbers become float32 vectors, each as long as its file says."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from headstart.errors import InputError
from headstart.modalities import Decoded, Modality, UnreadableSample
from headstart.modalities.batch import Batch
from headstart.modalities.preprocessing import Preprocessing
from headstart.sections import Section


class NumbersInput(Section):
    """Of each file at most the first `longest` numbers are read."""

    longest: Annotated[int, Field(ge=1, le=1000)] = 64


class Standardised(Preprocessing):
    """(v - mean) / std of each number; padding stays 0."""

    channels = 1

    def __init__(self, longest, mean, std):
        self.longest, self.mean, self.std = longest, mean, std

    @property
    def given(self):
        return NumbersInput(longest=self.longest)

    @property
    def positions(self):
        return self.longest

    def __call__(self, batch):
        values = (batch["values"] - self.mean) / self.std
        return Batch({"values": torch.where(batch["kept"], values, 0.0), "kept": batch["kept"]})

    def example(self, count):
        return self(MODALITY.batch(self.noise(count)))

    def noise(self, count):
        generator = np.random.default_rng(count)
        return [generator.normal(size=3 + row % 5).astype(np.float32) for row in range(count)]

    def checked(self, values):
        if values.ndim != 2 or values.dtype.kind not in "iuf":
            raise InputError(f"The numbers are {values.dtype} {values.shape}, not {self.stored_form}.")
        return list(values.astype(np.float32))

    @property
    def stored_form(self):
        return "numbers of shape (N, length)"

    def to_dict(self):
        return {"longest": self.longest, "mean": self.mean, "std": self.std}

    @property
    def described(self):
        return f"at most {self.longest} numbers"


class Numbers(Modality):
    name = "numbers"
    noun = "vector"
    extensions = frozenset({".txt"})
    input = NumbersInput
    gives = "sequences"
    default_architecture = "numbernet"
    draws_per_sample = 2
    dtype = "float32"
    decoding = "numbers 1"
    augmentations = ("scale",)

    def decode(self, raw, given, *, room=None, patience=None):
        try:
            values = np.array(raw.decode().split()[: given.longest], dtype=np.float32)
        except (UnicodeDecodeError, ValueError) as error:
            raise UnreadableSample(f"it is no list of numbers: {error}") from error
        if not len(values) or not np.isfinite(values).all():
            raise UnreadableSample("it holds no numbers, or one that is not finite")
        return Decoded(values, {"length": len(values)})

    def usual_shape(self, given):
        return (given.longest,)

    def shape_of(self, shapes, given):
        return (None,)

    def batch(self, samples):
        longest = max((len(each) for each in samples), default=0)
        values, kept = torch.zeros(len(samples), longest), torch.zeros(len(samples), longest, dtype=torch.bool)
        for row, each in enumerate(samples):
            values[row, : len(each)], kept[row, : len(each)] = torch.from_numpy(np.array(each)), True
        return Batch({"values": values, "kept": kept})

    def fit(self, samples, given):
        every = np.concatenate([samples[row] for row in range(len(samples))])
        return Standardised(given.longest, float(every.mean()), float(max(every.std(), 1e-6)))

    def preprocessing(self, content):
        try:
            return Standardised(int(content["longest"]), float(content["mean"]), float(content["std"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a preprocessing of numbers: {content}") from error

    def augment(self, batch, draws, *, method, strength=1.0, flip=False):
        if method == "none":
            return batch
        factor = 1 + (0.2 if method == "scale" else 0.5) * strength * (draws[:, :1].to(batch.device) - 0.5)
        return Batch({"values": batch["values"] * factor, "kept": batch["kept"]})

    def examples(self, preprocessing):
        return [b"1 2 3", b"3.5 1 0.25 -2"]

    def descriptors(self, inputs):
        values, kept = inputs["values"], inputs["kept"]
        count = kept.sum(dim=1)
        mean = values.sum(dim=1) / count
        deviation = torch.where(kept, values - mean[:, None], 0.0).square().sum(dim=1).div(count).sqrt()
        low, high = (torch.where(kept, values, sign * torch.inf) for sign in (1, -1))
        last = values.gather(1, count[:, None] - 1)[:, 0]
        steps = torch.where(kept[:, 1:], values[:, 1:] - values[:, :-1], 0.0).abs().sum(dim=1) / count
        moments = [mean, deviation, low.amin(dim=1), high.amax(dim=1), last - values[:, 0], steps]
        return {"moments": torch.stack(moments, dim=1)}

    def plain(self, given):
        return Standardised(given.longest, 0.0, 1.0)

    def in_words(self, shape):
        return "any", "numbers"


MODALITY = Numbers()
