"""What a profile file may say, and how it is refused where it says something else."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from headstart.errors import InputError
from headstart_pipelines.profile import Retries, load_profile, seconds

STEPS: dict[str, Any] = {
    "cpu": {"request": "1", "limit": "2"},
    "memory": {"request": "1Gi", "limit": "2Gi"},
    "temporary": "1Gi",
    "timeout": "1h",
}
SMALL: dict[str, Any] = {"training": STEPS, "light": copy.deepcopy(STEPS)}


def written(folder: Path, **changes: Any) -> Path:
    """The small profile with values at dotted keys replaced; None removes one."""
    values = copy.deepcopy(SMALL)
    for key, value in changes.items():
        *parents, last = key.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            del place[last]
        else:
            place[last] = value
    file = folder / "own.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def refusal(folder: Path, **changes: Any) -> str:
    with pytest.raises(InputError) as refused:
        load_profile(written(folder, **changes))
    return str(refused.value).removeprefix(f"{folder}/own.yaml: ")


def test_a_profile_that_says_what_steps_need_is_enough(tmp_path):
    profile = load_profile(written(tmp_path))

    assert profile.run_as.user == 10001
    assert profile.selection is None
    assert profile.training.accelerator is None
    assert profile.training.retries.count == 0


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"There is no profile at .*absent\.yaml"):
        load_profile(tmp_path / "absent.yaml")


def test_a_file_that_holds_something_else_is_named(tmp_path):
    (tmp_path / "list.yaml").write_text("- a\n")

    with pytest.raises(InputError, match=r"list\.yaml: a profile is a mapping"):
        load_profile(tmp_path / "list.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trainig": {}}, "trainig: unknown key; did you mean training?"),
        ({"light": None}, "light: missing; add it."),
        ({"training.timout": "1h"}, "training.timout: unknown key; did you mean timeout?"),
        ({"training.accelerator": {"count": 1}}, "training.accelerator.type: missing; add it."),
        ({"training.accelerator": {"type": "gpu"}},
         "training.accelerator.type: 'gpu' is not the name of a resource, for example nvidia.com/gpu."),
        ({"training.accelerator": {"type": "nvidia.com/gpu", "count": 0}},
         "training.accelerator.count: 0 must be greater than or equal to 1."),
        ({"training.cpu.request": "3"},
         "training.cpu: request must be above 0 and at most limit, but is 3 of 2."),
        ({"training.cpu.limit": "two"},
         "training.cpu.limit: 'two' is not a number of cores; write 4, 0.5 or 500m."),
        ({"light.memory.limit": "2 GB"},
         "light.memory.limit: '2 GB' is not an amount of memory; write a whole number and Mi, Gi or Ti, for example "
         "16Gi."),
        ({"light.memory.request": "1Ti"}, "light.memory: request must be at most limit, but is 1Ti of 2Gi."),
        ({"training.shared_memory": "2Gi"},
         "training: shared_memory is a part of memory and must be below memory.limit, but is 2Gi of 2Gi."),
        ({"training.timeout": "1 day"},
         "training.timeout: '1 day' is not a time; write a whole number and s, m, h or d, for example 24h."),
        ({"training.timeout": "0h"},
         "training.timeout: '0h' is not a time; write a whole number and s, m, h or d, for example 24h."),
        ({"training.retries": {"count": 11}}, "training.retries.count: 11 must be less than or equal to 10."),
        ({"training.retries": {"factor": 1.5}}, "training.retries.factor: 1.5 must be a valid integer."),
        ({"training.queue": "Head Start"},
         "training.queue: 'Head Start' is not a name; use lower-case letters, digits, - and ., 253 at most."),
        ({"training.node_selector": {"gpu": True}},
         "training.node_selector.gpu: True must be text; write it in quotes."),
        ({"training.tolerations": [{"operator": "Equal"}]},
         "training.tolerations[0]: key: missing; add it, or use operator Exists to tolerate every taint."),
        ({"training.tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]},
         "training.tolerations[0]: value has no meaning with operator Exists; remove it, or use Equal."),
        ({"training.tolerations": [{"key": "a", "seconds": 3}]},
         "training.tolerations[0]: seconds has a meaning with effect NoExecute only; remove it."),
        ({"training.tolerations": [{"key": "a", "effect": "Never"}]},
         "training.tolerations[0].effect: 'Never' is not one of 'NoSchedule', 'PreferNoSchedule' or 'NoExecute'."),
        ({"light.volumes": [{"claim": "data", "path": "data"}]},
         "light.volumes[0].path: 'data' is not an absolute path below /, for example /data."),
        ({"light.volumes": [{"claim": "data", "path": "/tmp"}]},  # noqa: S108
         "light: volumes: the path /tmp is used twice; give each volume one of its own."),
        ({"light.volumes": [{"claim": "a", "path": "/a"}, {"claim": "a", "path": "/b"}]},
         "light: volumes: the claim a is used twice; give each volume one of its own."),
        ({"light.volumes": [{"claim": "a", "path": "/a", "read_only": True}]},
         "light.volumes[0].read_only: unknown key; known here: claim, path, subpath."),
        ({"training.distribution": {"nodes": 1}},
         "training.distribution.nodes: 1 must be greater than or equal to 2."),
        ({"training.distribution": {"nodes": 2, "device": "tpu"}},
         "training.distribution.device: 'tpu' is not one of 'gpu' or 'cpu'."),
        ({"training.distribution": {"nodes": 2, "memory": "much"}},
         "training.distribution.memory: 'much' is not an amount of memory; write a whole number and Mi, Gi or Ti, for "
         "example 16Gi."),
        ({"environment.values": {"1A": "b"}},
         "environment.values: '1A' is not a variable; use letters, digits and _, the first no digit."),
        ({"environment.secrets": [{"name": "s", "keys": ["A", "b-c"]}]},
         "environment.secrets[0]: 'b-c' is not a variable; use letters, digits and _, the first no digit."),
        ({"training.labels": {"team": "vision & speech"}},
         "training.labels: team: 'vision & speech' is not the value of a label; use letters, digits, -, _ and ., 63 at "
         "most, of which the first and the last are letters or digits."),
        ({"training.node_selector": {"a/b/c": "d"}},
         "training.node_selector: 'a/b/c' is not a key of Kubernetes; write prefix.example/name, or a name alone."),
        ({"light.annotations": {"Example.com/a": "any text"}},
         "light.annotations: 'Example.com/a' is not a key of Kubernetes; write prefix.example/name, or a name alone."),
        ({"environment.values": {"A": "b"}, "environment.secrets": [{"name": "s", "keys": ["A"]}]},
         "environment: A is set twice; keep one of them."),
        ({"environment.config_maps": [{"name": "c", "keys": ["A"]}, {"name": "d", "keys": {"b": "A"}}]},
         "environment: A is set twice; keep one of them."),
        ({"environment.values": {"KFP_RUN_ID": "1"}},
         "environment: KFP_RUN_ID is set to the id of the run in every step; remove it."),
        ({"environment.secrets": ["headstart-s3"]},
         "environment.secrets[0]: 'headstart-s3' must be a mapping of keys to values."),
        ({"parallelism": 0}, "parallelism: 0 must be greater than or equal to 1."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_path_of_its_key(tmp_path, changes, message):
    assert refusal(tmp_path, **changes) == message


def test_every_wrong_key_is_said_at_once(tmp_path):
    assert len(refusal(tmp_path, **{"light": None, "training.timeout": "soon"}).splitlines()) == 2


@pytest.mark.parametrize("kind", ["light", "training"])
def test_no_key_makes_a_step_root_or_privileged(tmp_path, kind):
    assert "run_as.user: 0 must be greater than or equal to 1." in refusal(tmp_path, run_as={"user": 0})
    for key in ("privileged", "security_context", "run_as"):
        assert f"{kind}.{key}: unknown key" in refusal(tmp_path, **{f"{kind}.{key}": {}})


def test_no_key_gives_a_light_step_an_accelerator(tmp_path):
    assert "light.accelerator: unknown key" in refusal(tmp_path, **{"light.accelerator": {"type": "nvidia.com/gpu"}})


def test_numbers_may_be_written_as_numbers(tmp_path):
    file = written(
        tmp_path, **{"training.cpu": {"request": 0.5, "limit": 4}, "environment.values": {"OMP_NUM_THREADS": 4}}
    )
    profile = load_profile(file)

    assert (profile.training.cpu.request, profile.training.cpu.limit) == ("0.5", "4")
    assert profile.environment.values == {"OMP_NUM_THREADS": "4"}


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("3m", 180), ("24h", 86_400), ("7d", 604_800)])
def test_a_time_is_read_in_its_unit(text, expected):
    assert seconds(text) == expected


def test_retries_last_for_every_attempt_and_every_wait():
    week = 7 * 86_400

    assert Retries(count=2, wait="30s", factor=2).lasting("1h") == 3 * (3600 + week) + 30 + 60
    assert Retries(count=0).lasting("1h") == 3600 + week
