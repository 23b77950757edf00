"""Modalities: one package a kind of data, which alone knows what its samples are.

`Modality` is the contract. Its core says which files hold samples, how they become stored arrays, and how stored arrays
become what a network reads; its options, whose absence switches a part of the reports off, come after that.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from headstart.errors import InputError
from headstart.registry import Registry
from headstart.sections import Section

if TYPE_CHECKING:
    import numpy as np
    import torch

    from headstart.modalities.alike import Alike
    from headstart.modalities.batch import Inputs
    from headstart.modalities.codec import Codec
    from headstart.modalities.corruption import Corruption
    from headstart.modalities.preprocessing import Preprocessing, Samples
    from headstart.modalities.room import Room

Shape = tuple[int | None, ...]
"""The shape of the samples of a data set; its first length is None where they differ in it."""


class UnreadableSample(InputError):  # noqa: N818 - a sample's state, which callers catch and record
    """A raw sample that cannot become a stored array. Its message is the reason, without the sample's path."""


@dataclass(frozen=True)
class Decoded:
    """A sample's stored array, and what is told of the sample itself: JSON values by name, such as its own size."""

    values: "np.ndarray"
    facts: Mapping[str, Any] = field(default_factory=dict)


class Modality(ABC):
    """The rules by which samples of one kind are read, stored, augmented, shown and given to networks."""

    name: ClassVar[str]

    noun: ClassVar[str]
    """what messages call a sample: picture, recording; its plural has an s"""

    extensions: ClassVar[frozenset[str]]
    """Lower-case file name extensions, with the dot, of the files that hold a sample."""

    input: ClassVar[type[Section]]
    """The recipe's section of what is read of a sample (`data.input`). Every key has a default; None: it follows from
    the architecture or from the samples."""

    gives: ClassVar[str] = "maps"
    """What preprocessing makes of a batch, which an architecture reads or not: `maps` are float32 (N, C, H, W)."""

    default_architecture: ClassVar[str]

    draws_per_sample: ClassVar[int]
    """The number of random numbers that `augment` takes for a sample."""

    mirrors: ClassVar[bool] = False
    """Whether `augment` takes `flip`: a mirrored sample may mean the same."""

    dtype: ClassVar[str] = "uint8"
    """of stored arrays"""

    values: ClassVar[str] = "values"
    """what a report calls the values of stored arrays: pixels"""

    @property
    @abstractmethod
    def decoding(self) -> str:
        """The version of the decoding rules and of the libraries that decode: two runs on one machine with an equal
        one decode to equal arrays."""

    @property
    @abstractmethod
    def augmentations(self) -> Collection[str]:
        """The names of the augmentations that a recipe can choose, `none` left out; the default one comes first."""

    def settled(self, given: Mapping[str, Any], architecture: str) -> dict[str, Any]:
        """The values of `input` with those filled in that follow from the architecture; InputError for wrong ones."""
        return self.input.of(given).model_dump()

    def probe(self, given: Mapping[str, Any]) -> Section:
        """The input by which a look at some files tells whether they can be read, as cheap as may be; `given` are a
        recipe's values."""
        return self.input.of(self.settled(given, self.default_architecture))

    extra: ClassVar[str | None] = None
    """The extra of headstart that brings the packages by which samples are read."""

    def require_packages(self) -> None:  # noqa: B027 (most need none)
        """InputError, with what to install, where a package is missing by which samples are read."""

    def contradiction(self, raw: bytes, extension: str) -> str | None:
        """Why a file is refused whose content is of another known format than its extension says; None elsewhere."""
        return None

    @abstractmethod
    def decode(
        self, raw: bytes, given: Section, *, room: "Room | None" = None, patience: float | None = None
    ) -> Decoded:
        """The stored array of a file's content by the section `given`, an `input`, which `settled` has filled.

        The memory for decoding comes out of `room`, by default one of the process; NoRoom if it is not free within
        `patience` seconds. Raises UnreadableSample.
        """

    def cost(self, raw: bytes, given: Section) -> int:
        """How many values `decode` works on, as far as the file's header tells: what limits a request to a server.
        Raises UnreadableSample."""
        return len(raw)

    @abstractmethod
    def usual_shape(self, given: Section) -> tuple[int, ...]:
        """The shape of a stored sample, about: what memory is planned by."""

    def shape_of(self, shapes: Iterable[tuple[int, ...]], given: Section) -> Shape:
        """The shape that samples decoded to `shapes`, at least one, are stored in together."""
        return next(iter(shapes))

    def as_stored(self, given: Section, shape: Shape) -> Section:
        """The section with what it left open to the samples filled in, which are stored in `shape`."""
        return given

    def fitted(self, values: "np.ndarray", shape: Shape) -> "np.ndarray":
        """A decoded array in the shape that its data set has."""
        return values

    def batch(self, samples: "np.ndarray | Sequence[np.ndarray]") -> "Inputs":
        """Stored samples as tensors: those of one array (N, …), or arrays, which may be of unequal length where this is
        overridden. Nothing is copied that torch can read as it is, so whoever gets a batch leaves it as it is."""
        import numpy as np
        import torch

        rows = samples if isinstance(samples, np.ndarray) else np.stack(samples)
        # Those of a memory map are read-only, which torch does not accept.
        return torch.from_numpy(rows if rows.flags.writeable else np.array(rows))

    @abstractmethod
    def fit(self, samples: "Samples", given: Section) -> "Preprocessing":
        """Preprocessing by the statistics of stored samples, which are those of the training split."""

    @abstractmethod
    def preprocessing(self, content: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `Preprocessing.to_dict`. InputError if a value is missing or wrong."""

    @abstractmethod
    def augment(
        self, batch: "Inputs", draws: "torch.Tensor", *, method: str, strength: float = 1.0, flip: bool = False
    ) -> "Inputs":
        """A variant of each sample of a training batch by the augmentation `method`, on the batch's device.

        `draws`, float32 (N, `draws_per_sample`) in [0, 1), decide alone which; `strength` from 0 to 2 scales how far it
        goes. Shape and type stay as they are. `views`, which training without labels uses, is a method everywhere.
        """

    def refuse_flip(self, flip: bool) -> None:
        """InputError where `flip` is asked for, and a mirrored sample means something else."""
        if flip:
            raise InputError(
                f"{self.noun.capitalize()}s have no mirror image; leave flip out of training, or set it to false."
            )

    def require_augmentation(self, name: str, at: str = "") -> None:
        """Refuse the name of an augmentation that is another modality's. InputError, with the known names and the
        recipe's key `at`."""
        known = ["auto", "none", *self.augmentations]
        if name not in known:
            place = f"{at}: " if at else ""
            raise InputError(f"{place}{name!r} does not augment {self.noun}s; choose one of {', '.join(known)}.")

    @abstractmethod
    def examples(self, preprocessing: "Preprocessing") -> list[bytes]:
        """Two files that decode without loss of meaning: the example request of a registered model."""

    # Options.

    def as_files(self, value: object) -> "Iterator[bytes] | None":
        """The content of files that decode to the samples that an object in memory holds, such as a picture of another
        library or an array of several; None for an object of a type that the modality does not know. InputError if the
        type is right and the values are not."""
        return None

    def from_text(self, text: str) -> bytes | None:
        """The content of a file with the sample that is this text: what a table's cell, a request or a Python caller
        gives. None where samples are no text, so that a request's text is a file's content in base64."""
        return None

    @property
    def is_text(self) -> bool:
        """Whether a text is a sample as it is."""
        return type(self).from_text is not Modality.from_text

    def letters_read(self, given: Section | None) -> int | None:
        """How many letters are read of a record of FASTA; None where samples are no sequences."""
        return None

    alike: "ClassVar[Alike | None]" = None
    """How samples are found that are the same to a person and not to a digest."""

    codec: "ClassVar[Codec | None]" = None
    """A smaller form in which samples can be stored."""

    @property
    def corruptions(self) -> "Sequence[Corruption]":
        """The corruptions that robustness is judged under, in the order of the report."""
        return ()

    @property
    def has_descriptors(self) -> bool:
        """Whether classical models can learn from samples."""
        return type(self).descriptors is not Modality.descriptors

    def descriptors(self, inputs: "Inputs") -> "Mapping[str, torch.Tensor]":
        """Features for classical models of a batch as `plain` preprocessing gives it, float32 (N, D) by the name of
        their kind; the raw ones come first. Operations of torch compute them, so that a model on them can be exported.
        """
        return {}

    def plain(self, given: Section) -> "Preprocessing":
        """Preprocessing that leaves the values of samples as they are, up to a factor: what `descriptors` are of."""
        raise NotImplementedError

    @property
    def is_shown(self) -> bool:
        """Whether samples can be shown to people."""
        return type(self).as_html is not Modality.as_html

    def as_html(
        self, values: "np.ndarray", alt: str, given: Section, *, heat: "np.ndarray | None" = None, small: bool = False
    ) -> str:
        """A stored sample, read by `given`, as an element of HTML, trusted as it is, called `alt`: under a map of where
        a prediction looks, (H, W) in [0, 1], where there is one; `small` for a grid of many."""
        return ""

    def notes(self, facts: Sequence[Mapping[str, Any]], given: Section) -> list[str]:
        """What somebody should know of how samples were read, by the `facts` of each."""
        return []

    def lost(self, read: Section, stored: Section) -> str | None:
        """What a model that reads samples by `read` does not see of those stored by `stored`, as the end of a sentence;
        None where it sees all."""
        return None

    def in_words(self, shape: Shape) -> tuple[str, str]:
        """The size of stored samples and its unit, as a report shows them: `32 × 32` and `pixels, grey`."""
        return " × ".join("any" if side is None else str(side) for side in shape) or "1", self.dtype

    def data_report(self, facts: Sequence[Mapping[str, Any]], shape: Shape, given: Section) -> str:
        """What the report on a data set tells of its samples, by the `facts` of each, as trusted HTML."""
        return ""


MODALITIES = Registry(
    "modalities",
    "headstart.modalities",
    "MODALITY",
    Modality,  # type: ignore[type-abstract]
    packages_only=True,
)


def modality(name: str) -> Modality:
    """The modality called `name`; InputError lists the known names."""
    return MODALITIES[name]
