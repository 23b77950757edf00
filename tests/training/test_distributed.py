"""What processes that train together tell each other, and what they learn: two of them, started by torchrun."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed import DistError

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.errors import HeadstartError, InputError
from headstart.jobs.exchange import Exchange
from headstart.models.bundle import ModelBundle
from headstart.strategies.pretraining import pretrain
from headstart.training import distributed
from headstart.training.batches import shares
from headstart.training.context import RunContext
from headstart.training.distributed import (
    Group,
    accumulating,
    current_group,
    process_group,
    summing_gradients,
    synchronize_batch_norm,
)
from headstart.training.feed import SampleFeed
from headstart.training.plan import make_plan
from headstart.training.section import Pretraining, Training
from headstart.training.speed import Speed
from headstart.training.supervised import _Supervised
from headstart_pipelines.demo import digits, write_folder

SIZE = 2
# Unequal shares, one of them empty: what a batch or a validation split comes to when it does not divide.
SHARES = {"uneven": (3, 2), "empty": (5, 0)}
TEXT = {"strategy": "σ", "values": [1.5, None, True]}


def inputs(kind: str) -> torch.Tensor:
    """(5, 3, 4, 4), far from zero: a variance from sums of squares would be lost in rounding."""
    return 100 * (kind == "uneven") + torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(7))


def norm() -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(3)
    with torch.no_grad():
        made.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        made.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
    return made


def normalised(module: nn.Module, values: torch.Tensor, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """Outputs, and gradients of the weighted sum of their squares."""
    values = values.clone().requires_grad_()
    outputs = module(values)
    (outputs.square() * weights).sum().backward()
    assert values.grad is not None
    gradients = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
    return {"outputs": outputs.detach(), "inputs": values.grad, **gradients}


def weights_of(values: torch.Tensor) -> torch.Tensor:
    return torch.linspace(0.1, 1, values.numel()).view_as(values)


def layers() -> nn.ModuleDict:
    """A layer that is frozen at first, one that trains, and one that the loss does not use."""
    torch.manual_seed(5)
    made = nn.ModuleDict({"first": nn.Linear(3, 4), "last": nn.Linear(4, 1), "spare": nn.Linear(2, 2)})
    made["first"].requires_grad_(False)
    return made


def summed_gradients(group: Group) -> list[dict[str, torch.Tensor]]:
    """The gradients of a batch of 10 in two micro-batches, before and after the first layer thaws."""
    module, rows = layers(), torch.randn(10, 3, generator=torch.Generator().manual_seed(11))

    def loss(micro_batch: np.ndarray, batch: np.ndarray, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = module["last"](module["first"](rows[micro_batch]).relu())
        total = epoch * outputs.square().sum() / len(batch)
        return total, total.detach()

    found = []
    for epoch in (1, 2):
        module["first"].requires_grad_(epoch == 2)
        module.zero_grad()
        shared, batch = summing_gradients(module, loss, group), np.arange(10)
        for number, micro_batch in enumerate(shares(batch, 2, group.rank, group.size)):
            with accumulating(shared, last=number == 1):
                shared(micro_batch, batch, epoch)[0].backward()
        gradients = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
        found.append(gradients)
    return found


# Batches of 9 in two micro-batches, of which a process has two or three samples.
TRAINING = {"epochs": 2, "batch_size": 9, "precision": "fp32", "layout": "contiguous", "compile": "off"}
UNLABELLED = {**TRAINING, "batch_size": 15}
SECTIONS: dict[str, dict[str, object]] = {
    # In small steps: with batch norm over four samples, large ones make more of rounding than 1e-4 in a few steps.
    "supervised": {
        **TRAINING, "accumulate": 2, "class_weights": "balanced", "ema": 0.5,
        "optimizer": "sgd", "learning_rate": 0.005,
    },
    "vicreg": {**UNLABELLED, "objective": "vicreg"},
}  # fmt: skip


def trained(packed: Path, section: dict[str, object]) -> tuple[list[dict[str, float]], ModelBundle]:
    """The loss curve and the model of a pretraining."""
    trained = pretrain(Pretraining.of(section), Dataset.open(packed), RunContext(seed=3))
    return trained.history, trained.bundle


def exact_logits(packed: Path, bundle: ModelBundle) -> np.ndarray:
    """(N, K), as the training judges itself."""
    dataset = Dataset.open(packed)
    plan = make_plan(Training.of(TRAINING), dataset.split("train").labels, pretrained=False)
    device = torch.device("cpu")
    feed = SampleFeed(dataset, bundle.preprocessing, plan, seed=0, device=device)
    objective = _Supervised(bundle, dataset, plan, RunContext(), None, feed)
    return objective.validation_logits(Speed(), lambda: None)


def take_part(place: Path) -> None:
    """What each of the processes does; it leaves what it saw in `place`."""
    torch.set_num_threads(1)
    with process_group() as group:
        seen: dict[str, object] = {
            "group": [group.rank, group.size, group.local_rank],
            "same": current_group() == group,
        }
        first, second = torch.full((2, 2), 1.0 + group.rank), torch.arange(3, dtype=torch.float64) * group.rank
        for tensor in (first, second):
            group.sum_(tensor)
        seen["sums"] = [first, second]
        for kind, counts in SHARES.items():
            start = sum(counts[: group.rank])
            share = slice(start, start + counts[group.rank])
            for dtype in ("float32", "uint8", "U3"):
                seen[f"gathered {kind} {dtype}"] = group.gather(
                    np.arange(10).reshape(5, 2).astype(dtype)[share]
                ).tolist()
            module = norm()
            synchronize_batch_norm(module, group)
            values = inputs(kind)
            found = normalised(module, values[share], weights_of(values)[share])
            for name in ("weight", "bias"):
                group.sum_(found[name])
            seen[f"norm {kind}"] = {**found, **module.state_dict()}
            module.eval()
            seen[f"eval {kind}"] = module(values).detach()
        seen["gradients"] = summed_gradients(group)
        seen["shared"] = group.share(TEXT if group.rank == 0 else {"of": "another"})
        odd = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(group.rank))
        aligned = [odd.to(memory_format=torch.channels_last), torch.tensor(group.rank)]
        group.align(aligned)
        seen["aligned"] = aligned
        for kind, section in SECTIONS.items():
            seen[f"curve {kind}"], bundle = trained(place / "packed", section)
            if kind == "supervised":
                seen["judged"] = torch.from_numpy(exact_logits(place / "packed", bundle))
                samples = Dataset.open(place / "packed").split("val").samples
                seen["predicted"] = torch.from_numpy(bundle.predict_logits(samples))
        group.barrier()
    torch.save(seen, place / f"{group.rank}.pt")


@pytest.fixture(scope="module")
def seen(once: Callable[..., Path]) -> list[dict]:
    """What each of two processes saw."""

    def make(place: Path) -> None:
        images, labels = digits()
        chosen = np.flatnonzero(np.isin(labels, (3, 5, 8)))[:91]
        write_folder(images[chosen], labels[chosen], place / "pictures")
        prepare(
            Data.of({"uri": str(place / "pictures"), "size": 16, "split": {"train": 0.5, "val": 0.25, "test": 0.25}}),
            place / "packed",
        )
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1",
             "--nproc-per-node", str(SIZE), __file__, str(place)],
            capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    place = once("two-processes", make)
    parts = [torch.load(place / f"{rank}.pt", weights_only=True) for rank in range(SIZE)]
    return [{**part, "packed": place / "packed"} for part in parts]


def test_each_process_knows_its_place(seen):
    assert [part["group"] for part in seen] == [[0, 2, 0], [1, 2, 1]]
    assert all(part["same"] for part in seen)


def test_sums_are_those_of_all_and_keep_their_types(seen):
    for part in seen:
        first, second = part["sums"]
        assert torch.equal(first, torch.full((2, 2), 3.0))
        assert torch.equal(second, torch.arange(3, dtype=torch.float64))


def test_gradients_are_those_of_the_whole_batch_whatever_trains_and_none_where_nothing_is_used(seen):
    alone = summed_gradients(Group())
    assert [sorted(gradients) for gradients in alone] == [
        ["last.bias", "last.weight"], ["first.bias", "first.weight", "last.bias", "last.weight"]
    ]  # fmt: skip
    for part in seen:
        torch.testing.assert_close(part["gradients"], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "U3"])
@pytest.mark.parametrize("kind", SHARES)
def test_what_is_gathered_is_each_row_once_and_in_order(seen, kind, dtype):
    whole = np.arange(10).reshape(5, 2).astype(dtype).tolist()
    assert [part[f"gathered {kind} {dtype}"] for part in seen] == [whole, whole]


def test_all_get_what_the_first_one_says(seen):
    assert [part["shared"] for part in seen] == [TEXT, TEXT]


def test_aligned_tensors_have_the_values_of_the_first_process_whatever_their_layout(seen):
    odd = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    for part in seen:
        values, number = part["aligned"]
        assert torch.equal(values, odd)
        assert number == 0


@pytest.mark.parametrize("kind", SHARES)
def test_batch_norm_over_processes_is_that_over_the_whole_batch(seen, kind):
    module, values = norm().double(), inputs(kind).double()
    exact = {**normalised(module, values, weights_of(values)), **module.state_dict()}
    whole = {name: value.float() if value.is_floating_point() else value for name, value in exact.items()}
    parts = [part[f"norm {kind}"] for part in seen]
    for name in ("outputs", "inputs"):
        joined = torch.cat([part[name] for part in parts])
        torch.testing.assert_close(joined, whole[name], rtol=1e-4, atol=1e-4)
    for part in parts:
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(part[name], whole[name], rtol=1e-4, atol=1e-4)
        assert part.keys() == whole.keys()


@pytest.mark.parametrize("kind", SHARES)
def test_batch_norm_predicts_as_if_it_had_been_trained_alone(seen, kind):
    module, values = norm(), inputs(kind)
    module(values)
    module.eval()
    for part in seen:
        torch.testing.assert_close(part[f"eval {kind}"], module(values).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", SECTIONS)
def test_two_processes_reach_the_loss_curve_of_one(seen, kind):
    history, _ = trained(seen[0]["packed"], SECTIONS[kind])
    losses = [entry["val/loss"] for entry in history]
    assert max(losses) - min(losses) > 1e-3
    # Absolute for cross-entropy, whose losses are below 1; VICReg's are about 40, and differ by up to 6e-4 with the
    # order in which a processor sums.
    for part in seen:
        assert part[f"curve {kind}"] == [pytest.approx(entry, abs=1e-4, rel=1e-4) for entry in history]


def test_each_validation_sample_is_judged_once_although_their_number_is_odd(seen):
    """Whole batches for every process would need a sample twice."""
    for part in seen:
        assert len(part["predicted"]) % SIZE == 1
        torch.testing.assert_close(part["judged"], part["predicted"], rtol=1e-5, atol=1e-5)
    assert torch.equal(seen[0]["judged"], seen[1]["judged"])


def test_a_process_alone_is_a_group_of_one_whose_batch_norm_stays_torchs_own():
    group = current_group()
    module, value = norm(), np.arange(3)
    synchronize_batch_norm(module, group)
    assert group == Group(rank=0, size=1, local_rank=0)
    assert type(module) is nn.BatchNorm2d
    assert group.gather(value) is value
    assert group.share(TEXT) is TEXT


@pytest.fixture
def exchange(tmp_path: Path) -> Exchange:
    return Exchange(str(tmp_path), "jobs")


def missed() -> Exception:
    """What a process is told whose partner is gone: here, that there never was one."""
    try:
        torch.distributed.all_reduce(torch.zeros(1))
    except ValueError as error:
        return error
    pytest.fail("torch spoke to nobody")


def test_the_first_process_that_failed_says_why(exchange):
    exchange.write_error(1, OSError("no space left on device"))
    exchange.write_error(0, RuntimeError("something else"))
    assert str(exchange.failure("silence")) == "Process 1 of the training failed: OSError: no space left on device"


def test_what_headstart_explains_comes_before_what_it_does_not(exchange):
    exchange.write_error(0, RuntimeError("something else"))
    exchange.write_error(1, InputError("freeze is 99"))
    exchange.write_error(2, HeadstartError("the loss became nan"))
    failure = exchange.failure("silence")
    assert (type(failure), str(failure)) == (InputError, "freeze is 99")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer", DistError),
        ("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)", RuntimeError),
    ],
)
def test_a_connection_that_is_lost_outside_of_the_hook_is_an_error_of_the_network(message, kind):
    loss = SimpleNamespace(exchange=SimpleNamespace(failed=False))
    with pytest.raises(RuntimeError) as failed, distributed._exchanging(loss, last=True):
        raise RuntimeError(message)
    assert isinstance(failed.value, DistError) == (kind is DistError)


def test_a_process_that_only_missed_another_is_no_cause(exchange):
    exchange.write_error(0, missed())
    assert str(exchange.failure("one was killed")) == "one was killed"
    exchange.write_error(1, KeyError("weight"))
    assert str(exchange.failure("one was killed")) == "Process 1 of the training failed: KeyError: 'weight'"


if __name__ == "__main__":
    take_part(Path(sys.argv[1]))
