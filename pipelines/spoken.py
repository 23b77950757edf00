"""Spoken words in ten languages, as folders of sound files: five languages to learn on, five to transfer to.

They are the names of Tux Paint's stamps, which Debian packages:

    apt-get download tuxpaint-stamps-default && dpkg-deb -x tuxpaint-stamps-default_*.deb stamps
    python -m headstart_pipelines.spoken stamps spoken

writes spoken/source/<language>/*.ogg and spoken/target/<language>/*.ogg, once. One or a few people speak each language,
so a model that tells the languages tells voices and microphones as well.
"""

import re
import shutil
import sys
from pathlib import Path

from headstart.errors import InputError
from headstart.storage.local import new_directory

LANGUAGES = {"source": ("bg", "ca", "fr", "ro", "ru"), "target": ("be", "da", "el", "es", "nn")}

# castle_desc_fr.ogg says in French what castle.png shows.
_NAME = re.compile(r"(.+)_desc_([a-z]+)\.ogg")


def recordings(unpacked: Path) -> dict[str, list[Path]]:
    """The paths of the recordings below a folder, sorted, by the code of their language.

    Raises:
        InputError: a language is missing.
    """
    found: dict[str, list[Path]] = {language: [] for languages in LANGUAGES.values() for language in languages}
    for path in sorted(unpacked.rglob("*_desc_*.ogg")):
        match = _NAME.fullmatch(path.name)
        if match and match[2] in found:
            found[match[2]].append(path)
    missing = [language for language, paths in found.items() if not paths]
    if missing:
        raise InputError(
            f"{unpacked} has no recordings in {', '.join(missing)}; give the folder that Debian's package "
            "tuxpaint-stamps-default was unpacked to."
        )
    return found


def main(unpacked: Path, root: Path) -> None:
    """Writes what is missing below `root`. A recording's folders are part of its new name, for names come twice."""
    found = recordings(unpacked)
    for domain, languages in LANGUAGES.items():
        if (root / domain).exists():
            continue
        with new_directory(root / domain) as draft:
            for language in languages:
                (draft / language).mkdir()
                for path in found[language]:
                    name = "-".join(path.relative_to(unpacked).parts).removeprefix("usr-share-tuxpaint-stamps-")
                    shutil.copyfile(path, draft / language / name)
        print(f"wrote {root / domain}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m headstart_pipelines.spoken UNPACKED_PACKAGE OUT")
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except InputError as error:
        sys.exit(str(error))
