"""Loading and preparing pictures: headstart beside what an expert writes, torchvision, and the least that it takes.

    OMP_NUM_THREADS=2 python -m benchmarks.data [--parts …] [--images N] [--rounds R] [--large]

The pictures are JPEGs of 500 × 375 pixels (benchmarks/pictures.py), in the system's page cache; everybody has the same
processors. Who is compared takes turns, each in a process of its own that has its imports, in an order that changes
from round to round; a figure is the median over the rounds.

loading      an epoch of batches of 32 at 224 pixels, cropped, mirrored at random and normalised: headstart's feed on a
             packed data set, a bare gather of the same arithmetic, an expert's loader that keeps decoded pictures in
             memory, and torchvision's on the files, with the number of worker processes that is fastest here. Looking
             at all values of a further epoch shows that everybody does the same work; another one shows the memory,
             that of the worker processes included.
preparation  the files to a packed data set, beside decoding and resizing them by torchvision, which keeps nothing, and
             beside decoding them alone.
growth       the preparation of 1000, 10 000 and (--large) 50 000 pictures, each in a process of its own, less what a
             handful takes. Its memory is the peak of the resident set: its own pages and mapped ones.

Exit status 1 where a bound is missed. Needs Linux. --large takes 20 GB below --cache.
"""

import argparse
import functools
import gc
import math
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import loaders, preparing
from benchmarks.memory import peak_of_this_process, peak_while, tree_memory
from benchmarks.pictures import CLASSES, picture_set, read_all
from benchmarks.tables import markdown, spread
from headstart.storage.local import write_json

# The processes that measure import what they need themselves: this one and those that it starts stay small.
THREADS = int(os.environ.setdefault("OMP_NUM_THREADS", "2"))
_LIBRARIES = ("torch", "torchvision", "pillow", "simplejpeg", "numpy")

PARTS = ("loading", "preparation", "growth")
OURS, JPEG_STORE, BARE, IN_MEMORY = "headstart", "headstart, JPEG store", "bare gather", "in memory"
LOADERS = {
    OURS: loaders.headstart,
    JPEG_STORE: loaders.headstart,
    BARE: loaders.bare_gather,
    IN_MEMORY: loaders.in_memory,
    "torchvision, v2": loaders.torchvision_v2,
}
STORES = {OURS: "raw", JPEG_STORE: "jpeg", BARE: "raw"}
"""What reads a packed data set, and how that holds its pixels; the others read the files."""
PEERS = tuple(name for name in LOADERS if name not in STORES)
PREPARATIONS = {
    OURS: preparing.headstart,
    "torchvision, v2": preparing.torchvision_v2,
    "decoding alone, Pillow": preparing.decode_pillow,
    "decoding alone, torchvision": preparing.decode_torchvision,
    "decoding alone, simplejpeg": preparing.decode_simplejpeg,
}
DECODE_AND_RESIZE = tuple(name for name in PREPARATIONS if name.startswith("torchvision"))
DECODE = tuple(name for name in PREPARATIONS if name.startswith("decoding"))

MIN_TIMES_PEERS = 1.0
MIN_OF_GATHER = 0.7
MIN_TIMES_TORCHVISION = 1.3
MIN_OF_DECODING = 0.85
# Of the seconds an image of the smallest count.
MAX_SECONDS_GROWTH = 1.1
# Bytes an image.
MAX_MEMORY_GROWTH = 2048

# What preparing so few takes is the time of its start.
FEW = 4 * CLASSES
# How often each is prepared.
COUNTS = {FEW: 5, 1000: 5, 10_000: 2}
LARGE = {50_000: 1}
# Mean and deviation of normalised pixels may differ so much between two ways to crop.
_TOLERANCE = 0.1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--images", type=int, default=2000, help="of loading and preparation, up to a whole batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="prepare 50 000 pictures too")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/data.json"))
    parser.add_argument("--cache", type=Path, default=Path("build/bench-data"), help="where pictures lie")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    # Some libraries drop the last batch where it is not whole.
    images = -(-options.images // loaders.BATCH_SIZE) * loaders.BATCH_SIZE
    cache = options.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    with alone() as process:
        content: dict[str, Any] = {"machine": process.submit(_machine).result()}
    content |= {"images": images, "rounds": options.rounds, "batch_size": loaders.BATCH_SIZE, "size": loaders.SIZE}
    with tempfile.TemporaryDirectory(dir=cache, prefix="scratch-") as scratch:
        if "loading" in options.parts:
            content["loading"] = measure_loading(images, options.rounds, cache, Path(scratch))
        if "preparation" in options.parts:
            content["preparation"] = measure_preparation(images, options.rounds, cache, Path(scratch))
        if "growth" in options.parts:
            content["growth"] = measure_growth(COUNTS | (LARGE if options.large else {}), cache, Path(scratch))
    verdicts = content["verdicts"] = judge(content)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.output, content)
    print(*tables(content), *verdicts, sep="\n")
    return int(any(verdict.startswith("MISSED") for verdict in verdicts))


# What is measured.


def measure_loading(images: int, rounds: int, cache: Path, scratch: Path) -> dict[str, Any]:
    """For each loader: `seconds` of an epoch, an entry a round, those of its `first` epoch, `memory` in bytes, and a
    `look` at its batches; of the libraries the number of `workers`, and the seconds with each number that was `tried`;
    of headstart the seconds of `packing`, in each form of its store."""
    ends = [range(start, start + CLASSES) for start in (images, images + CLASSES)]
    folder = picture_set(cache, "split", {"train": range(images), "val": ends[0], "test": ends[1]})
    few = picture_set(cache, "whole", {"": range(FEW)})
    size = read_all(folder) / (images + 2 * CLASSES)
    packing = {store: _packing(few, folder, scratch / store) for store in dict.fromkeys(STORES.values())}
    with alone() as process:
        process.submit(loaders.check_gather, scratch / STORES[BARE]).result()
    found: dict[str, dict[str, Any]] = {}
    places = {name: scratch / STORES[name] if name in STORES else folder for name in LOADERS}
    for name, place in places.items():
        tried = {} if name in STORES or name == IN_MEMORY else _tried(name, place)
        workers = min(tried, key=lambda count: tried[count], default=0)
        found[name] = {"tried": tried, "workers": workers} | _examined(name, place, workers)
        print(f"loading: {name}, {found[name]}", file=sys.stderr)
    check_equal_work({name: one["look"] for name, one in found.items()}, images)
    jobs = {name: (load, name, place, found[name]["workers"]) for name, place in places.items()}
    for name, seconds in interleaved("loading", jobs, rounds, images).items():
        found[name]["seconds"] = seconds
    return {"bytes_a_file": size, "packing": packing, "loaders": found}


def measure_preparation(images: int, rounds: int, cache: Path, scratch: Path) -> dict[str, list[float]]:
    """Seconds of each way to prepare or decode, a list with an entry a round."""
    folder = picture_set(cache, "whole", {"": range(images)})
    read_all(folder)
    jobs = {name: (prepare_once, name, folder, scratch / "prepared") for name in PREPARATIONS}
    return interleaved("preparation", jobs, rounds, images)


def measure_growth(counts: Mapping[int, int], cache: Path, scratch: Path) -> dict[str, list[dict[str, float]]]:
    """`seconds` and `peak` memory in bytes of preparing so many pictures, as often as `counts` says."""
    folders = {count: picture_set(cache, "whole", {"": range(count)}) for count in counts}
    found: dict[str, list[dict[str, float]]] = {str(count): [] for count in counts}
    order = [count for count, times in counts.items() for _ in range(times)]
    for count in np.random.default_rng(0).permutation(order).tolist():
        read_all(folders[count])
        with alone() as process:
            seconds, done = process.submit(prepare_once, OURS, folders[count], scratch / "grown", 0).result()
            peak = process.submit(peak_of_this_process).result()
        _check_done("growth", OURS, done, count)
        shutil.rmtree(scratch / "grown")
        found[str(count)].append({"seconds": seconds, "peak": peak})
        print(f"growth: {count} pictures in {seconds:.2f} s, {peak / 2**20:.0f} MiB", file=sys.stderr)
    return found


def interleaved(part: str, jobs: Mapping[str, tuple[Any, ...]], rounds: int, images: int) -> dict[str, list[float]]:
    """Seconds of each job, an entry a round. A job is a function, run in a process of its own, and its arguments but
    the round's number, which comes last. The first round, which warms up, is not counted."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    with ExitStack() as stack:
        processes = {name: stack.enter_context(alone()) for name in jobs}
        for number in range(rounds + 1):
            # In another order each time, so that none always comes after the same.
            for name in np.random.default_rng(number).permutation(list(jobs)).tolist():
                seconds, done = processes[name].submit(*jobs[name], number).result()
                _check_done(part, name, done, images)
                if number:
                    found[name].append(seconds)
            print(f"{part}: round {number} of {rounds}", file=sys.stderr)
    return found


def _tried(name: str, place: Path) -> dict[int, float]:
    """Seconds of an epoch by the number of workers, each with those of the epoch before."""
    seconds = {}
    with alone() as process:
        # No workers come last: what has computed with threads is better not forked.
        for workers in sorted({0, 1, THREADS}, reverse=True):
            process.submit(load, name, place, workers, 0).result()
            seconds[workers], _ = process.submit(load, name, place, workers, 1).result()
            process.submit(forget).result()
    return seconds


def _examined(name: str, place: Path, workers: int) -> dict[str, Any]:
    """In a process that has the machine to itself: the seconds of the first epoch, the memory before it (libraries are
    loaded) and the peak in the second, and a look at the third."""
    with alone() as process:
        number = process.submit(start, name, place, workers).result()
        before = tree_memory(number)
        first, _ = process.submit(load, name, place, workers, 0).result()
        peak = peak_while(process.submit(load, name, place, workers, 1), number)
        found = process.submit(look, name, place, workers, 2).result()
    return {"first": first, "memory": {"before": before, "peak": peak}, "look": found}


def _packing(few: Path, folder: Path, destination: Path) -> float:
    """Packs `folder` into a store of the form that the destination's name says, after a few others; seconds."""
    with alone() as process:
        process.submit(preparing.pack, few, destination, destination.name).result()
        seconds, _ = process.submit(pack, folder, destination).result()
    return float(seconds)


# In the processes that measure.


@contextmanager
def alone() -> Iterator[ProcessPoolExecutor]:
    """A new process, which ends at the end."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        yield process


def start(name: str, place: Path, workers: int) -> int:
    """Loads the libraries; the number of this process."""
    _loader(name, place, workers)
    return os.getpid()


def load(name: str, place: Path, workers: int, number: int) -> tuple[float, int]:
    """Seconds and images of an epoch. The loader stays for the next."""
    epochs = _loader(name, place, workers)
    return _timed(lambda: sum(len(batch) for batch in epochs(number)))


def look(name: str, place: Path, workers: int, number: int) -> dict[str, Any]:
    """Of the batches of an epoch: types, shapes, how many images, and the mean and deviation of all values."""
    import torch

    images, kinds, moments = 0, set(), torch.zeros(2, dtype=torch.float64)
    for batch in _loader(name, place, workers)(number):
        images += len(batch)
        kinds.add(f"{batch.dtype} {list(batch.shape)}")
        values = batch.double()
        moments += torch.stack([values.mean(), values.square().mean()]) * len(batch)
    mean, square = (moments / images).tolist()
    return {"images": images, "batches": sorted(kinds), "mean": mean, "std": math.sqrt(square - mean**2)}


def prepare_once(name: str, folder: Path, scratch: Path, number: int) -> tuple[float, int]:
    """Seconds and images of one way to prepare or decode."""
    shutil.rmtree(scratch, ignore_errors=True)
    return _timed(_preparation(name, folder, scratch))


def pack(folder: Path, destination: Path) -> tuple[float, int]:
    """Seconds and images of packing into the form that the destination's name says."""
    return _timed(lambda: preparing.pack(folder, destination, destination.name))


def forget() -> None:
    """Ends what has been started in this process."""
    _loader.cache_clear()
    gc.collect()


@functools.cache
def _loader(name: str, place: Path, workers: int) -> loaders.Epochs:
    return LOADERS[name](place, workers)


@functools.cache
def _preparation(name: str, folder: Path, scratch: Path) -> Callable[[], int]:
    return PREPARATIONS[name](folder, scratch, THREADS)


def _timed(work: Callable[[], int]) -> tuple[float, int]:
    begin = time.perf_counter()
    done = work()
    return time.perf_counter() - begin, done


def _machine() -> dict[str, Any]:
    from benchmarks.machine import machine

    return machine(THREADS, _LIBRARIES)


# Equal work.


def check_equal_work(looks: Mapping[str, Mapping[str, Any]], images: int) -> None:
    """Every loader gives as many images in the same batches, normalised alike. SystemExit where not."""
    expected = looks[OURS]
    for name, found in looks.items():
        _check_done("loading", name, found["images"], images)
        if found["batches"] != [f"torch.float32 {[loaders.BATCH_SIZE, 3, loaders.SIZE, loaders.SIZE]}"]:
            raise SystemExit(f"loading: the batches of {name} are {found['batches']}")
        for moment in ("mean", "std"):
            if abs(found[moment] - expected[moment]) > _TOLERANCE:
                raise SystemExit(f"loading: the {moment} of {name} is {found[moment]:.3f}, not {expected[moment]:.3f}")


def _check_done(part: str, name: str, done: int, images: int) -> None:
    if done != images:
        raise SystemExit(f"{part}: {name} did {done} images instead of {images}")


# What it comes to.


def judge(content: Mapping[str, Any]) -> list[str]:
    """A line for each bound: kept or MISSED, and the number."""
    return [f"{'kept  ' if kept else 'MISSED'}  {said}" for kept, said in _verdicts(content)]


def _verdicts(content: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    if "loading" in content:
        seconds = {name: found["seconds"] for name, found in content["loading"]["loaders"].items()}
        yield _times("loading", seconds, PEERS, MIN_TIMES_PEERS)
        yield _times("loading", seconds, (BARE,), MIN_OF_GATHER)
    if "preparation" in content:
        yield _times("preparation", content["preparation"], DECODE_AND_RESIZE, MIN_TIMES_TORCHVISION)
        yield _times("preparation", content["preparation"], DECODE, MIN_OF_DECODING)
    if "growth" in content:
        least, most = _growth_ends(content["growth"])
        times = seconds_an_image(content["growth"], most) / seconds_an_image(content["growth"], least)
        said = f"growth: {times:.2f} times the seconds an image at {most:,} as at {least:,} (≤ {MAX_SECONDS_GROWTH})"
        yield times <= MAX_SECONDS_GROWTH, said
        grown = bytes_an_image(content["growth"], most)
        said = f"growth: {grown:.0f} bytes of memory an image from {least:,} to {most:,} (≤ {MAX_MEMORY_GROWTH})"
        yield grown <= MAX_MEMORY_GROWTH, said


def _times(part: str, seconds: Mapping[str, Sequence[float]], others: Sequence[str], bound: float) -> tuple[bool, str]:
    """Whether headstart has `bound` times the images a second of the fastest of the others."""
    fastest = min(others, key=lambda name: statistics.median(seconds[name]))
    ratios = _ratios(seconds[fastest], seconds[OURS])
    said = f"{part}: {spread(ratios, '{:.2f}'.format)} times the images/s of {fastest} (≥ {bound:g})"
    return statistics.median(ratios) >= bound, said


def _ratios(theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    return [their / our for their, our in zip(theirs, ours, strict=True)]


def epochs_to_pay(loading: Mapping[str, Any], peer: str, ours: str = OURS) -> float:
    """After how many epochs packing and loading has taken no longer than the peer; infinite if never."""
    mine, theirs = (loading["loaders"][name] for name in (ours, peer))
    each, their_each = (statistics.median(one["seconds"]) for one in (mine, theirs))
    if each >= their_each:
        return math.inf
    more = loading["packing"][STORES[ours]] + mine["first"] - theirs["first"]
    return max(1, 1 + math.ceil(more / (their_each - each)))


def seconds_an_image(growth: Mapping[str, Any], count: int) -> float:
    """Of a preparation, without what its start takes."""
    seconds = {number: _median(growth, number, "seconds") for number in (FEW, count)}
    return (seconds[count] - seconds[FEW]) / (count - FEW)


def bytes_an_image(growth: Mapping[str, Any], count: int) -> float:
    """By which the peak memory has grown since the smallest count, for each image more."""
    least, _ = _growth_ends(growth)
    return (_median(growth, count, "peak") - _median(growth, least, "peak")) / (count - least)


def _growth_ends(growth: Mapping[str, Any]) -> tuple[int, int]:
    counts = sorted(int(count) for count in growth if int(count) != FEW)
    return counts[0], counts[-1]


def _median(growth: Mapping[str, Any], count: int, what: str) -> float:
    return statistics.median(one[what] for one in growth[str(count)])


def tables(content: Mapping[str, Any]) -> Iterator[str]:
    """In Markdown, one a part."""
    images = content["images"]
    if "loading" in content:
        yield _loading_table(content["loading"], images)
    if "preparation" in content:
        head = ("preparation", "images/s", "headstart's images/s are so many times")
        seconds = content["preparation"]
        yield markdown(head, [[name, _rate(took, images), _versus(seconds, name)] for name, took in seconds.items()])
    if "growth" in content:
        yield _growth_table(content["growth"])


def _loading_table(loading: Mapping[str, Any], images: int) -> str:
    head = (
        "loading", "workers", "images/s", "headstart's images/s are so many times", "first epoch, s",
        "of it packing, s",
        "headstart is ahead after epochs", "peak memory, MiB", "of it before the first epoch",
    )  # fmt: skip
    found = loading["loaders"]
    seconds = {name: one["seconds"] for name, one in found.items()}
    rows = []
    for name, one in found.items():
        packing = loading["packing"][STORES[name]] if name in STORES else 0.0
        rows.append(
            [
                name,
                str(one["workers"]),
                _rate(one["seconds"], images),
                _versus(seconds, name),
                f"{packing + one['first']:.2f}",
                f"{packing:.2f}" if packing else "",
                f"{epochs_to_pay(loading, name):g}" if name in PEERS else "",
                *(f"{one['memory'][when] / 2**20:.0f}" for when in ("peak", "before")),
            ]
        )
    return markdown(head, rows)


def _growth_table(growth: Mapping[str, Any]) -> str:
    head = ("growth: pictures", "s", "ms an image without the start", "peak memory, MiB", "bytes an image more", "n")
    least, _ = _growth_ends(growth)
    rows = []
    for count in sorted(map(int, growth)):
        runs = growth[str(count)]
        rows.append(
            [
                f"{count:,}",
                spread([run["seconds"] for run in runs], "{:.2f}".format),
                f"{seconds_an_image(growth, count) * 1000:.3f}" if count > FEW else "",
                spread([run["peak"] / 2**20 for run in runs], "{:.0f}".format),
                f"{bytes_an_image(growth, count):.0f}" if count > least else "",
                str(len(runs)),
            ]
        )
    return markdown(head, rows)


def _rate(seconds: Sequence[float], images: int) -> str:
    return spread([images / each for each in seconds], "{:.0f}".format)


def _versus(seconds: Mapping[str, Sequence[float]], name: str) -> str:
    return "" if name == OURS else spread(_ratios(seconds[name], seconds[OURS]), "{:.2f}".format)


if __name__ == "__main__":
    sys.exit(main())
