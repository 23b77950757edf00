"""Columns: values of many rows in arrays, for a Python object of each of millions takes several times their memory."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ROWS = 4096
"""Rows of which there are Python objects at a time."""

Value = TypeVar("Value")


class Coded(Sequence[Value], Generic[Value]):
    """A sequence of N values, of which few are different: `values`, and the number of each row's, int (N,)."""

    def __init__(self, values: Sequence[Value], codes: np.ndarray) -> None:
        self.values, self.codes = values, codes

    @classmethod
    def of(cls, values: Iterable[Value]) -> "Coded[Value]":
        """The same values, which are hashable, in the order in which each occurs first."""
        known: dict[Value, int] = {}
        codes = np.fromiter((known.setdefault(value, len(known)) for value in values), dtype=np.int32)
        return cls(list(known), codes)

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, rows: int) -> Value: ...
    @overload
    def __getitem__(self, rows: slice) -> "Coded[Value]": ...
    def __getitem__(self, rows: int | slice) -> "Value | Coded[Value]":
        return self.take(rows) if isinstance(rows, slice) else self.values[self.codes[rows]]

    def __iter__(self) -> Iterator[Value]:
        for start in range(0, len(self), ROWS):
            yield from map(self.values.__getitem__, self.codes[start : start + ROWS].tolist())

    def take(self, rows: np.ndarray | slice) -> "Coded[Value]":
        """Those of some rows: positions, a mask or a slice."""
        return Coded(self.values, self.codes[rows])

    @property
    def occurring(self) -> list[Value]:
        """The values that some row has."""
        return [self.values[number] for number in np.unique(self.codes).tolist()]

    @property
    def counts(self) -> np.ndarray:
        """The number of rows of each of `values`, int."""
        return np.bincount(self.codes, minlength=len(self.values))


class Codes(Generic[Value]):
    """Values and their numbers while rows come in; values of one key are the same value."""

    def __init__(self) -> None:
        self._known: dict[Hashable, int] = {}
        self._values: list[Value] = []

    def number(self, value: Value, key: Hashable) -> int:
        """The number of a value."""
        number = self._known.setdefault(key, len(self._values))
        if number == len(self._values):
            self._values.append(value)
        return number

    def coded(self, codes: np.ndarray) -> Coded[Value]:
        """The values by the number of each row's."""
        return Coded(self._values, codes)


class Texts(Sequence[str]):
    """A sequence of texts in one block of memory."""

    def __init__(self, column: pa.Array) -> None:
        self.column = column

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        """The same texts."""
        parts, part = [], []
        for text in texts:
            part.append(text)
            if len(part) == ROWS:
                parts.append(pa.array(part, pa.large_string()))
                part = []
        return cls(pa.concat_arrays([*parts, pa.array(part, pa.large_string())]))

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, rows: int) -> str: ...
    @overload
    def __getitem__(self, rows: slice) -> "Texts": ...
    def __getitem__(self, rows: int | slice) -> "str | Texts":
        if isinstance(rows, slice):
            return Texts(self.column[rows])
        text: str = self.column[int(rows)].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), ROWS):
            yield from self.column.slice(start, ROWS).to_pylist()

    def take(self, rows: np.ndarray) -> "Texts":
        """Those at some positions."""
        return Texts(self.column.take(pa.array(rows)))

    @property
    def order(self) -> np.ndarray | None:
        """The positions that sort the texts, int (N,); None if they are sorted."""
        if not len(self) or pc.all(pc.less_equal(self.column[:-1], self.column[1:])).as_py() is not False:
            return None
        # Stable, as Python's own; UTF-8 sorts as code points do.
        return np.asarray(pc.sort_indices(self.column))

    def isin(self, texts: Iterable[str]) -> np.ndarray:
        """Whether each text is one of these, bool (N,)."""
        among = pc.is_in(self.column, value_set=pa.array(list(texts), pa.large_string()))
        return np.asarray(among.to_numpy(zero_copy_only=False), dtype=bool)


def as_array(column: pa.ChunkedArray) -> np.ndarray:
    """A column of texts, or of null for none, as str (N,), without an object of each text at a time."""
    width = pc.max(pc.utf8_length(column)).as_py() or 1
    found = np.empty(len(column), dtype=f"U{width}")
    for start in range(0, len(column), ROWS):
        found[start : start + ROWS] = [text or "" for text in column.slice(start, ROWS).to_pylist()]
    return found
