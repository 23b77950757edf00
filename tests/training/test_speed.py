import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.metrics.gains import paired_bootstrap_gain
from headstart.models.architectures import build_network
from headstart.models.architectures.convnet import convnet
from headstart.recipe.recipe import load_recipe
from headstart.storage.state import State
from headstart.training import speed as speed_module
from headstart.training import timings
from headstart.training.context import RunContext
from headstart.training.distributed import Group
from headstart.training.flops import step_flops
from headstart.training.plan import make_plan
from headstart.training.speed import MARGIN, Speed, choose_speed
from headstart.training.supervised import fit
from headstart.training.timings import Timings
from headstart_pipelines.demo import digits, write_folder

CPU = torch.device("cpu")
DEFAULT = Speed("fp32", channels_last=True)
FASTER = Speed("bf16", channels_last=True)


@pytest.fixture(autouse=True)
def _new_host(tmp_path, monkeypatch):
    """Nothing was measured here yet, and whatever trains is worth measuring."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(speed_module, "MEASURED_OPERATIONS", 1)
    monkeypatch.setattr(speed_module, "MEASURED_STEPS", 1)
    monkeypatch.setattr(speed_module, "precisions", lambda device: ["fp32", "bf16"])
    new_process()


def new_process():
    timings._remembered.clear()


@pytest.fixture
def timed(monkeypatch):
    """`timed(seconds)`: a step of each candidate takes `seconds(candidate)`; returns the list of what was measured."""

    def use(seconds):
        calls = []

        def measured(step, candidates, rounds=0):
            calls.append(list(candidates))
            return Timings({speed: seconds(speed) for speed in candidates}, cost=1.0)

        monkeypatch.setattr(speed_module, "time_steps", measured)
        return calls

    return use


@pytest.fixture
def choose(threes_and_eights, plan):
    """`choose(**settings)`: the speed of a training of a convnet, 16 pixels a side, with a recipe's settings."""

    def make(*, state=None, steps=1000, batch=8, **settings):
        torch.manual_seed(0)
        network, example = convnet(classes=2, channels=1), torch.randn(batch, 1, 16, 16)
        settings = {"compile": "off", **settings}
        return choose_speed(
            network, example, start=0, plan=plan(threes_and_eights, **settings), steps=steps, state=state
        )

    return make


@pytest.fixture(scope="session")
def all_digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("all-digits")
    write_folder(*digits(), root / "pictures")
    return prepare(
        Data.of({"uri": str(root / "pictures"), "size": 16, "split": {"train": 0.5, "val": 0.1, "test": 0.4}}),
        root / "packed",
    )


def bf16_pays(speed):
    return 1.0 if speed == FASTER else 2.0


def test_what_the_recipe_pins_is_not_measured(choose, timed):
    calls = timed(bf16_pays)
    assert choose(precision="bf16", layout="contiguous") == Speed("bf16", channels_last=False)
    assert choose(precision="fp32", layout="channels_last") == Speed("fp32", channels_last=True)
    assert calls == []


def test_what_the_recipe_leaves_open_is_measured(choose, timed):
    calls = timed(bf16_pays)
    assert choose(layout="channels_last") == FASTER
    assert choose(precision="fp32") == DEFAULT
    assert calls == [[DEFAULT, FASTER], [Speed("fp32", channels_last=False), DEFAULT]]


@pytest.mark.parametrize(("factor", "expected"), [(1 - 0.8 * MARGIN, DEFAULT), (1 - 1.2 * MARGIN, FASTER)])
def test_the_default_stays_unless_another_is_clearly_faster(choose, timed, factor, expected):
    timed(lambda speed: factor if speed == FASTER else 1.0)
    assert choose() == expected


def test_a_training_too_small_to_win_anything_takes_the_default_unmeasured(choose, timed, monkeypatch):
    calls = timed(bf16_pays)
    work = step_flops(convnet(classes=2, channels=1), torch.randn(8, 1, 16, 16), 0)
    monkeypatch.setattr(speed_module, "MEASURED_OPERATIONS", 1000 * work)
    assert choose(steps=999) == DEFAULT
    assert calls == []
    assert choose(steps=1000) == FASTER


@pytest.fixture
def convolutions(monkeypatch):
    """`convolutions(seconds)`: a convolution takes so long in bf16 and a second in fp32; returns what was timed."""

    def use(seconds):
        calls = []

        def timed(device, candidates):
            calls.append(candidates)
            return Timings({DEFAULT: 1.0, FASTER: seconds}, cost=0.1)

        monkeypatch.setattr(speed_module, "time_convolution", timed)
        return calls

    return use


@pytest.mark.parametrize(("seconds", "expected"), [(0.95, DEFAULT), (0.5, FASTER)])
def test_a_training_of_medium_size_takes_the_precision_that_is_faster_on_the_machine(
    choose, timed, convolutions, monkeypatch, seconds, expected
):
    calls, timings = timed(bf16_pays), convolutions(seconds)
    work = step_flops(convnet(classes=2, channels=1), torch.randn(8, 1, 16, 16), 0)
    monkeypatch.setattr(speed_module, "CONSIDERED_OPERATIONS", 100 * work)
    monkeypatch.setattr(speed_module, "MEASURED_OPERATIONS", 1000 * work)
    assert choose(steps=99) == DEFAULT
    assert timings == []
    assert choose(steps=100) == expected
    new_process()
    assert choose(steps=999) == expected
    # It is timed once a machine, and what the recipe pins is not asked for.
    assert len(timings) == 1
    assert choose(steps=999, precision="fp32") == DEFAULT
    assert calls == []


def test_timing_a_convolution_leaves_the_random_state_as_it_was():
    random = torch.get_rng_state()
    assert speed_module.host_precision(CPU, None) in ("fp32", "bf16")
    assert torch.equal(torch.get_rng_state(), random)


def test_the_demo_is_too_small_to_be_measured(monkeypatch):
    monkeypatch.undo()
    recipe = load_recipe(Path(speed_module.__file__).parents[2] / "pipelines" / "recipes" / "digits.yaml")
    labels = np.arange(5000) % 10
    plan = make_plan(recipe.source.pretraining, labels, pretrained=False)
    example = torch.empty(plan.batch_size, 1, 32, 32)
    work = step_flops(convnet(classes=10, channels=1), example, 0) * plan.epochs * len(labels) / plan.batch_size
    assert work < speed_module.MEASURED_OPERATIONS / 4


def test_operations_are_counted_from_the_stage_that_reads_the_inputs():
    network = convnet(classes=3, channels=1)
    # 3.6 M multiply-adds for a picture forward, as many again for each of the two products of backward.
    assert step_flops(network, torch.empty(4, 1, 32, 32), 0) == pytest.approx(4 * 3 * 2 * 3.6e6, rel=0.02)
    assert step_flops(network, torch.empty(4, 96), len(network.stages)) == 4 * 3 * 2 * 96 * 3


def test_the_products_of_attention_count():
    network = build_network("timm/test_vit", classes=2, channels=1)
    tokens, patches, width, layers = 101, 100, 64, 6
    # Queries, keys, values, what is made of them and an MLP three times as wide; and each token with each, twice.
    layer = 10 * tokens * width**2 + 2 * tokens**2 * width
    forward = layers * layer + patches * 16**2 * width
    assert step_flops(network, torch.empty(1, 1, 160, 160), 0) == pytest.approx(3 * 2 * forward, rel=1e-3)


def test_counting_does_not_import_the_compiler():
    """It takes a second, which a probe does not need otherwise."""
    code = (
        "import sys, torch; from headstart.models.architectures.convnet import convnet; "
        "from headstart.training.flops import count_flops; "
        "network = convnet(classes=2, channels=1).eval(); "
        "count, _ = count_flops(lambda: network(torch.ones(1, 1, 16, 16, requires_grad=True))); "
        "print(count > 0, 'torch._dynamo' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert answer.stdout == "True False\n"


def test_measuring_leaves_everything_as_it_was_to_the_bit(threes_and_eights, plan):
    network, example = convnet(classes=2, channels=1).eval(), torch.randn(8, 1, 16, 16)
    network.dropout.p = 0.5
    network.freeze(1)
    network(example).sum().backward()
    before = {name: (value.clone(), value.stride()) for name, value in network.state_dict().items()}
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in network.named_parameters()}
    random, modes = torch.get_rng_state(), [module.training for module in network.modules()]
    settings = plan(threes_and_eights, compile="off")
    choose_speed(network, example, start=0, plan=settings, steps=1000, state=None)
    assert len(timings._remembered) == 1
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in network.modules()] == modes
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name][0])
        assert value.stride() == before[name][1]
    for name, parameter in network.named_parameters():
        known = gradients[name]
        assert parameter.grad is None if known is None else torch.equal(parameter.grad, known)


def test_a_choice_does_not_flip_from_run_to_run_or_from_workspace_to_workspace(choose, timed, tmp_path):
    timed(bf16_pays)
    first = choose(state=State(str(tmp_path / "one")))
    new_process()
    calls = timed(lambda speed: 3.0 - bf16_pays(speed))
    assert choose(state=State(str(tmp_path / "two"))) == choose() == first == FASTER
    assert calls == []


@pytest.mark.parametrize("change", ["batch", "threads", "layout"])
def test_a_choice_holds_for_what_was_measured_alone(choose, timed, monkeypatch, change):
    calls = timed(bf16_pays)
    choose()
    if change == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 17)
    choose(**{"batch": {"batch": 9}, "layout": {"layout": "contiguous"}}.get(change, {}))
    assert len(calls) == 2


def test_where_the_home_is_lost_or_read_only_the_state_keeps_the_choice(choose, timed, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    calls = timed(bf16_pays)
    assert choose(state=State(str(tmp_path / "state"))) == FASTER
    new_process()
    assert choose(state=State(str(tmp_path / "state"))) == FASTER
    assert len(calls) == 1


def test_where_nothing_can_be_written_the_process_remembers(choose, timed, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    calls = timed(bf16_pays)
    assert choose() == choose() == FASTER
    assert len(calls) == 1


@pytest.mark.parametrize("content", ["", "[]", '{"seconds": {}, "cost": 1}', '{"seconds": {"fp64": 1}, "cost": 1}'])
def test_a_damaged_file_is_measured_anew_with_a_warning(choose, timed, tmp_path, caplog, content):
    calls = timed(bf16_pays)
    choose()
    new_process()
    (kept,) = (tmp_path / "cache" / "headstart" / "speed").iterdir()
    kept.write_text(content)
    assert choose() == FASTER
    assert str(kept) in caplog.text
    new_process()
    assert choose() == FASTER
    assert len(calls) == 2


def test_the_choice_is_logged_with_what_it_rests_on(choose, timed, caplog):
    caplog.set_level(logging.INFO)
    timed(bf16_pays)
    choose()
    assert "computes in bf16 channels_last" in caplog.text
    assert "fp32 contiguous: 2e+03 ms a step" in caplog.text


def test_all_processes_do_what_the_first_finds(choose, timed, monkeypatch):
    class Second(Group):
        def share(self, value):
            return {"precision": "bf16", "channels_last": False, "compiled": False}

    calls = timed(bf16_pays)
    monkeypatch.setattr(speed_module, "current_group", lambda: Second(rank=1, size=2))
    assert choose() == Speed("bf16", channels_last=False)
    assert calls == []


@pytest.mark.parametrize(
    ("compiled_seconds", "steps", "expected"),
    # 1800 s of eager steps; compiling takes 1 s.
    [(0.5, 1800, True), (0.95, 1800, False), (0.5, 600, False)],
)
def test_compiling_is_for_long_trainings_that_gain_by_it(choose, timed, monkeypatch, compiled_seconds, steps, expected):
    monkeypatch.setattr(speed_module, "_has_compiler", lambda device: True)
    timed(lambda speed: compiled_seconds if speed.compiled else 1.0)
    assert choose(compile="auto", steps=steps).compiled is expected


def test_where_compiling_fails_the_training_runs_uncompiled_with_a_warning(choose, monkeypatch, caplog):
    def no_compiler(function):
        raise RuntimeError("No C++ compiler was found.\nand a long trace")

    monkeypatch.setattr(torch, "compile", no_compiler)
    assert choose(compile="on", precision="fp32", layout="channels_last") == DEFAULT
    assert "RuntimeError: No C++ compiler was found.)" in caplog.text


def test_a_compiled_training_goes_on_where_no_compiler_is(monkeypatch, caplog):
    monkeypatch.setattr(speed_module, "_has_compiler", lambda device: False)
    network = convnet(classes=2, channels=1)
    images = torch.rand(2, 1, 32, 32)
    found = Speed("fp32", channels_last=True, compiled=True).activations(network.eval())(images, 0)
    assert torch.equal(found[-1], network.activations(images, 0)[-1])
    assert "goes on uncompiled" in caplog.text


def test_a_compiled_training_has_the_names_and_the_values_of_the_network(monkeypatch):
    # Without code generation, which takes a minute: what is compiled is the same.
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: compile_(function, backend="eager"))
    network, images = convnet(classes=2, channels=1), torch.randn(4, 1, 16, 16)
    names = list(network.state_dict())
    compiled = Speed("fp32", channels_last=True, compiled=True).activations(network)(images, 0)
    assert list(network.state_dict()) == names
    for one, other in zip(compiled, network.activations(images, 0), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("channels_last", [True, False])
def test_weights_and_inputs_are_laid_out_alike_and_stay_the_optimisers(channels_last):
    network = convnet(classes=2, channels=3).to(memory_format=torch.channels_last)
    parameters = list(network.parameters())
    speed = Speed("fp32", channels_last=channels_last)
    speed.prepare(network)
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    assert all(one is other for one, other in zip(parameters, network.parameters(), strict=True))
    assert all(p.is_contiguous(memory_format=wanted) for p in parameters if p.ndim == 4)
    images = torch.randn(2, 5, 5, 3).permute(0, 3, 1, 2)
    assert speed.laid_out(images).is_contiguous(memory_format=wanted)
    assert speed.laid_out(torch.ones(2, 3)).shape == (2, 3)


def test_bf16_computes_the_stages_and_leaves_weights_and_gradients_in_fp32():
    network, images = convnet(classes=2, channels=1), torch.randn(4, 1, 16, 16)
    with Speed("bf16").autocast(CPU):
        features = network.activations(images)[-1]
    assert features.dtype == torch.bfloat16
    features.float().sum().backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in network.parameters())
    with Speed("fp32").autocast(CPU):
        assert network(images).dtype == torch.float32


@pytest.mark.slow
def test_the_metric_does_not_depend_on_the_choice_beyond_noise(all_digits, untrained, plan):
    def predictions(**pinned):
        bundle = untrained(all_digits)
        settings = plan(all_digits, epochs=6, batch_size=32, **pinned)
        fitted = fit(bundle, all_digits, settings, RunContext())
        assert fitted.params["precision"] == settings.precision
        assert fitted.params["layout"] == settings.layout
        return bundle.predict_logits(all_digits.split("test").samples).argmax(1)

    labels = all_digits.split("test").labels
    plain = predictions(precision="fp32", layout="contiguous")
    assert np.mean(plain == labels) > 0.9
    for precision, layout in (("fp32", "channels_last"), ("bf16", "contiguous"), ("bf16", "channels_last")):
        other = predictions(precision=precision, layout=layout)
        gain = paired_bootstrap_gain("accuracy", labels, other, plain, len(all_digits.classes), confidence=0.999)
        assert gain.low <= 0 <= gain.high
