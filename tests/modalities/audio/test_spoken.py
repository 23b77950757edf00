"""The recordings of the recipe spoken_languages.yaml are laid out as folders of classes."""

import pytest

from headstart.errors import InputError
from headstart_pipelines.spoken import LANGUAGES, main
from tests.modalities.audio.sounds import tone, write


def test_each_language_becomes_a_folder_and_names_that_come_twice_stay_apart(tmp_path):
    for languages in LANGUAGES.values():
        for language in languages:
            for place in ("animals/cat", "toys/cat"):
                write(tmp_path / f"stamps/{place}_desc_{language}.ogg", tone(300, 0.1))
    write(tmp_path / "stamps/animals/cat_desc_lt.ogg", tone(300, 0.1))
    write(tmp_path / "stamps/animals/cat.ogg", tone(300, 0.1))

    for _ in range(2):
        main(tmp_path / "stamps", tmp_path / "spoken")

    found = sorted(path.relative_to(tmp_path / "spoken").as_posix() for path in tmp_path.glob("spoken/*/*/*"))
    assert len(found) == 20
    assert found[:2] == ["source/bg/animals-cat_desc_bg.ogg", "source/bg/toys-cat_desc_bg.ogg"]
    assert {path.split("/")[1] for path in found if path.startswith("target/")} == {"be", "da", "el", "es", "nn"}


def test_a_folder_without_them_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match="tuxpaint-stamps-default"):
        main(tmp_path, tmp_path / "spoken")

    assert not (tmp_path / "spoken").exists()
