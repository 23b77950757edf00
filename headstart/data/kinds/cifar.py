"""CIFAR-10 and CIFAR-100 as published for Python (https://www.cs.toronto.edu/~kriz/cifar.html), in a folder.

Their files are pickles, which can execute arbitrary code. They are parsed without unpickling: operations that build
plain values are interpreted, the names that numpy's pickled arrays use map to our own records, and anything else is an
error.
"""

import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.data.arrays import Pictures, list_arrays
from headstart.data.kind import Kind, Source, Wanted
from headstart.data.listing import Listing
from headstart.data.tree import Tree
from headstart.errors import InputError
from headstart.modalities import UnreadableSample


@dataclass(frozen=True)
class _Edition:
    meta: str
    names: bytes
    labels: bytes
    train: tuple[str, ...]
    test: str


_EDITIONS = (
    _Edition(
        "batches.meta", b"label_names", b"labels", tuple(f"data_batch_{number}" for number in range(1, 6)), "test_batch"
    ),
    _Edition("meta", b"fine_label_names", b"fine_labels", ("train",), "test"),
)


class Cifar(Kind):
    def claims(self, source: Source) -> bool:
        return source.tree is not None and _edition(source.tree) is not None

    def list(self, source: Source, wanted: Wanted) -> Listing:
        """List the pictures of CIFAR-10 or CIFAR-100, with the fine labels.

        Raises:
            InputError: a file is missing or damaged.
        """
        tree = source.tree
        edition = tree and _edition(tree)
        if not tree or not edition:
            raise InputError(f"{source.name} does not hold all files of CIFAR-10 or CIFAR-100; fetch it again.")
        names = _load(tree, edition.meta).get(edition.names)
        if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
            raise InputError(f"{tree.name}/{edition.meta} has no names of classes; fetch it again.")
        classes = [name.decode("utf-8", "replace") for name in names]
        parts = [
            _part(tree, split, files, edition.labels, classes)
            for split, files in (("train", edition.train), ("test", (edition.test,)))
        ]
        return list_arrays(tree.name, parts, wanted.labels, classes)


def _edition(tree: Tree) -> _Edition | None:
    names = {entry.name for entry in tree.entries("") if not entry.folder and not entry.refusal}
    return next((e for e in _EDITIONS if {e.meta, e.test, e.train[0]} <= names), None)


def _part(tree: Tree, split: str, files: tuple[str, ...], key: bytes, classes: list[str]) -> Pictures:
    pixels, labels = [], []
    for file in files:
        batch = _load(tree, file)
        rows, numbers = batch.get(b"data"), batch.get(key)
        if not isinstance(rows, _Array) or not isinstance(numbers, list):
            raise InputError(f"{tree.name}/{file} has no pictures with labels; fetch it again.")
        values = rows.values
        if values.ndim != 2 or values.shape[1] != 3 * 32 * 32 or len(values) != len(numbers):
            raise InputError(f"{tree.name}/{file} has no picture of 32 × 32 pixels for each label; fetch it again.")
        if not all(isinstance(number, int) and 0 <= number < len(classes) for number in numbers):
            raise InputError(f"{tree.name}/{file} has labels without a class; fetch it again.")
        pixels.append(values)
        labels += [classes[number] for number in numbers]
    return Pictures(split, np.concatenate(pixels).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels)


def _load(tree: Tree, file: str) -> dict[bytes, Any]:
    name = f"{tree.name}/{file}"
    try:
        content = plain_values(tree.read(file))
    except UnreadableSample as error:
        raise InputError(f"{name} cannot be read: {error}.") from error
    except ValueError as error:
        raise InputError(f"{name} is not a file of CIFAR ({error}); fetch it again.") from error
    if not isinstance(content, dict):
        raise InputError(f"{name} is not a file of CIFAR; fetch it again.")
    return content


def plain_values(content: bytes) -> Any:
    """Parse a pickle of dictionaries, lists, tuples, numbers, bytes and numpy arrays of bytes, without executing it.

    Python 2 strings become bytes, arrays an object with `values`.

    Raises:
        ValueError: it contains anything else.
    """
    reader = _Reader()
    try:
        for operation, argument, position in pickletools.genops(content):
            if operation.name == "STOP":
                return reader.stack.pop()
            reader.apply(operation.name, argument, position or 0)
    # Hostile operations pop from an empty stack, use a list as a key, …
    except (IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"its operations make no sense: {error}") from error
    raise ValueError("it has no end")


class _Mark:
    """Marker on the stack where the items of a list, tuple or dictionary begin."""


@dataclass(frozen=True)
class _Name:
    """A global name in a pickle. It is only compared, never imported."""

    name: str


@dataclass
class _Kind:
    """A numpy dtype, by its code."""

    code: Any


@dataclass
class _Array:
    values: np.ndarray


_NAMES = {
    "numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct", "numpy ndarray", "numpy dtype",
    "_codecs encode",
}  # fmt: skip
_VALUES = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "BINFLOAT", "STRING", "BINSTRING",
     "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"}
)  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Reader:
    """Pickle's stack machine, restricted to plain values."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def apply(self, name: str, argument: Any, position: int) -> None:
        """Execute one operation.

        Raises:
            ValueError: files of CIFAR do not use it.
        """
        stack = self.stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                stack.append(_Mark)
            case "TUPLE" | "LIST" | "DICT":
                items = self._items()
                stack.append(_pairs(items) if name == "DICT" else tuple(items) if name == "TUPLE" else items)
            case "APPEND" | "APPENDS":
                items = [stack.pop()] if name == "APPEND" else self._items()
                _of(list, stack[-1]).extend(items)
            case "SETITEM" | "SETITEMS":
                items = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else self._items()
                _of(dict, stack[-1]).update(_pairs(items))
            case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                self._memo[len(self._memo) if name == "MEMOIZE" else argument] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "GLOBAL" | "STACK_GLOBAL":
                stack.append(_name(argument if name == "GLOBAL" else " ".join([stack.pop(), stack.pop()][::-1])))
            case "REDUCE":
                arguments = stack.pop()
                stack.append(_made(stack.pop(), arguments))
            case "BUILD":
                state = stack.pop()
                _fill(stack[-1], state)
            case _ if name in _VALUES:
                # Python 2 strings have no encoding; pickletools decodes them as latin-1.
                stack.append(argument.encode("latin1") if name.endswith("STRING") else argument)
            case _ if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case _ if name in _EMPTY:
                stack.append(_EMPTY[name]())
            case _ if name in _TUPLES:
                stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
            case _:
                raise ValueError(f"it has the operation {name} at byte {position}, which files of CIFAR do not")

    def _items(self) -> list[Any]:
        """Pop the values above the last mark, and the mark."""
        items: list[Any] = []
        while (item := self.stack.pop()) is not _Mark:
            items.append(item)
        return items[::-1]


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _name(name: str) -> _Name:
    if name not in _NAMES:
        raise ValueError(f"it names {name.replace(' ', '.')}, which files of CIFAR do not")
    return _Name(name)


def _made(what: Any, arguments: Any) -> Any:
    """Return the value of a call of a global name with arguments."""
    name = _of(_Name, what).name
    if name.endswith("_reconstruct"):
        return _Array(np.zeros(0, np.uint8))
    if name == "numpy dtype":
        return _Kind(arguments[0])
    if name == "_codecs encode":
        # Bytes, as Python 3 pickles them for Python 2.
        return arguments[0].encode("latin1")
    raise TypeError(f"{name} is not called in files of CIFAR")


def _fill(what: Any, state: Any) -> None:
    """Execute BUILD: set an array's content. The state of a dtype, its byte order, is ignored, because
    bytes have none."""
    if isinstance(what, _Kind):
        return
    _, shape, kind, fortran, content = state
    if _of(_Kind, kind).code not in (b"u1", "u1"):
        raise ValueError(f"it has an array of type {kind.code!r}, not of bytes")
    _of(_Array, what).values = np.frombuffer(_of(bytes, content), np.uint8).reshape(
        shape, order="F" if fortran else "C"
    )


KIND = Cifar()
