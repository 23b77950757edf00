from dataclasses import replace

from headstart.judging.contenders import Contender, read_baselines
from headstart.storage.local import write_json


def test_a_contender_survives_as_an_artifacts_metadata(contenders):
    for contender in contenders.values():
        metadata = {**contender.to_metadata(), "display_name": "of the artifact's own"}
        assert "path" not in contender.to_metadata()
        assert Contender.from_metadata(contender.path, metadata) == contender


def test_listed_baselines_are_read_back(contenders, tmp_path):
    baselines = [contenders["scratch"], contenders["classical"]]
    listed = [{"path": each.path.name, **each.to_metadata()} for each in baselines]
    write_json(tmp_path / "baselines.json", listed)
    assert read_baselines(tmp_path) == [replace(each, path=tmp_path / each.path.name) for each in baselines]
