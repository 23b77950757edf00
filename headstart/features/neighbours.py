"""Leave-one-out nearest neighbours on frozen features."""

import numpy as np

from headstart.data.folds import in_repeated_classes

# Similarities that are held at once.
_CHUNK = 2**24


def neighbour_hits(
    features: np.ndarray, labels: np.ndarray, neighbours: int = 5, *, groups: np.ndarray | None = None
) -> np.ndarray:
    """Whether the nearest neighbours of each sample among the others name its class: bool (M,).

    Near is a large cosine; the majority wins, and on a tie the nearer ones (Cover and Hart, "Nearest neighbor pattern
    classification", 1967). Classes with one sample are left out: M ≤ N, and 0 if fewer than two classes remain. No
    sample is a neighbour of another one of its group, and classes of one group are left out.

    Args:
        features, labels: (N, D) and int (N,).
        groups: int (N,).
    """
    kept = in_repeated_classes(labels, groups)
    features, labels = repeated_classes(features, labels, groups)
    groups = None if groups is None else groups[kept]
    samples, classes = len(labels), int(labels.max(initial=-1)) + 1
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    directions = (features / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    count = min(neighbours, samples - 1)
    hits = np.zeros(samples, dtype=bool)
    rows = max(1, _CHUNK // max(samples, 1))
    for start in range(0, samples, rows):
        part = np.arange(start, min(start + rows, samples))
        cosines = directions[part] @ directions.T
        if groups is None:
            cosines[np.arange(len(part)), part] = -np.inf
        else:
            cosines[groups[part, None] == groups] = -np.inf
        nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        votes = np.zeros((len(part), classes))
        # All cosines together weigh less than one vote.
        found = np.take_along_axis(cosines, nearest, axis=1)
        weights = np.where(np.isfinite(found), 1 + found / (4 * count), 0.0)
        np.add.at(votes, (np.arange(len(part))[:, None], labels[nearest]), weights)
        hits[part] = votes.argmax(axis=1) == labels[part]
    return hits


def repeated_classes(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The samples of the classes with two or more, labelled from 0 on; no samples if that is fewer than two classes.

    Args:
        features, labels: (N, D) and int (N,).
        groups: int (N,); classes then need two groups.
    """
    labels = np.asarray(labels)
    kept = in_repeated_classes(labels, groups)
    numbers = np.unique(labels[kept], return_inverse=True)[1]
    if len(numbers) == 0 or numbers.max() < 1:
        return features[:0], np.empty(0, dtype=np.int64)
    return features[kept], numbers
