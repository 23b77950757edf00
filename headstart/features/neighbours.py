"""Leave-one-out nearest neighbours on frozen features."""

import numpy as np

# Similarities that are held at once.
_CHUNK = 2**24


def neighbour_hits(features: np.ndarray, labels: np.ndarray, neighbours: int = 5) -> np.ndarray:
    """Whether the nearest neighbours of each sample among the others name its class: bool (M,).

    Near is a large cosine; the majority wins, and on a tie the nearer ones (Cover and Hart, "Nearest neighbor pattern
    classification", 1967). Classes with one sample are left out: M ≤ N, and 0 if fewer than two classes remain.

    Args:
        features, labels: (N, D) and int (N,).
    """
    features, labels = repeated_classes(features, labels)
    samples, classes = len(labels), int(labels.max(initial=-1)) + 1
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    directions = (features / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    count = min(neighbours, samples - 1)
    hits = np.zeros(samples, dtype=bool)
    rows = max(1, _CHUNK // max(samples, 1))
    for start in range(0, samples, rows):
        part = np.arange(start, min(start + rows, samples))
        cosines = directions[part] @ directions.T
        cosines[np.arange(len(part)), part] = -np.inf
        nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        votes = np.zeros((len(part), classes))
        # All cosines together weigh less than one vote.
        weights = 1 + np.take_along_axis(cosines, nearest, axis=1) / (4 * count)
        np.add.at(votes, (np.arange(len(part))[:, None], labels[nearest]), weights)
        hits[part] = votes.argmax(axis=1) == labels[part]
    return hits


def repeated_classes(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The samples of the classes with two or more, labelled from 0 on; no samples if that is fewer than two classes."""
    labels = np.asarray(labels)
    kept = np.isin(labels, np.flatnonzero(np.bincount(labels) >= 2))
    numbers = np.unique(labels[kept], return_inverse=True)[1]
    if len(numbers) == 0 or numbers.max() < 1:
        return features[:0], np.empty(0, dtype=np.int64)
    return features[kept], numbers
