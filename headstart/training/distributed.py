"""Training one model in several processes: collectives, summed gradients, and batch norm over all processes.

The effective batch is the plan's `batch_size`, whatever the number of processes P: each of a step's `accumulate`
micro-batches is shared among them, a process taking batch_size / (accumulate · P) samples, and the gradients of the
mean loss over the batch are added up. So the learning rate does not depend on P, and the loss curve is the same to
rounding on one core and on eight GPUs. For larger steps on more GPUs raise `batch_size`, and with it the rate: by the
same factor for SGD (Goyal et al. 2017), by its square root for AdamW (Malladi et al. 2022).
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from headstart.errors import HeadstartError
from headstart.models.network import batch_norms


@dataclass(frozen=True)
class Group:
    """The processes that train one model together. A process alone is a group of one, whose calls cost nothing.

    `local_rank` is the process's number on its machine and that of its GPU. Every process must make the same calls in
    the same order.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    def sum_(self, tensor: Tensor) -> None:
        """Replaces a tensor by its sum over all processes."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def gather(self, array: np.ndarray) -> np.ndarray:
        """The arrays of all processes, concatenated in the order of their ranks, on every process.

        They may differ in the length of the first axis and in nothing else.
        """
        if self.size == 1:
            return array
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(array)]))
        longest = max(int(length) for length in lengths)
        padded = np.zeros((longest, *array.shape[1:]), dtype=array.dtype)
        padded[: len(array)] = array
        # As bytes: not every type of numpy is one of torch.
        mine = torch.from_numpy(padded.reshape(-1).view(np.uint8))
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(parts, mine)
        whole = [part.numpy().view(array.dtype).reshape(padded.shape) for part in parts]
        return np.concatenate([part[: int(length)] for part, length in zip(whole, lengths, strict=True)])

    def share(self, value: Any) -> Any:
        """The JSON value of the process of rank 0, on every process; the values of the others are ignored."""
        if self.size == 1:
            return value
        text = json.dumps(value).encode() if self.rank == 0 else b""
        length = torch.tensor([len(text)])
        dist.broadcast(length, src=0)
        content = torch.empty(int(length), dtype=torch.uint8)
        if self.rank == 0:
            content = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        dist.broadcast(content, src=0)
        return json.loads(content.numpy().tobytes())

    def align(self, tensors: Sequence[Tensor]) -> None:
        """Copies the values of each tensor from the process of rank 0.

        Results that each process computes for itself may differ in the last bits between processors.
        """
        if self.size == 1:
            return
        for tensor in tensors:
            # Only what is contiguous can be sent.
            values = tensor.detach().contiguous()
            dist.broadcast(values, src=0)
            tensor.detach().copy_(values)

    def barrier(self) -> None:
        """Waits until every process is here."""
        if self.size > 1:
            # Not dist.barrier, which guesses the device.
            dist.all_reduce(torch.zeros(1))


def current_group() -> Group:
    """The group that this process trains in: that of `process_group`, or itself alone."""
    if not (dist.is_available() and dist.is_initialized()):
        return Group()
    return Group(dist.get_rank(), dist.get_world_size(), _local_rank())


@contextmanager
def process_group() -> Iterator[Group]:
    """Joins the processes that torchrun started, as its environment says, and leaves them at the end.

    Tensors on GPUs travel by NCCL, each process having the GPU of its local rank, and those on the CPU by gloo.

    Raises:
        HeadstartError: the other processes cannot be reached, or there are more processes than GPUs.
    """
    backend = "gloo"
    if torch.cuda.is_available():
        if _local_rank() >= torch.cuda.device_count():
            raise HeadstartError(
                f"Process {_local_rank()} of this machine has no GPU of its own, there are "
                f"{torch.cuda.device_count()}; set HEADSTART_PROCESSES to at most that."
            )
        torch.cuda.set_device(_local_rank())
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend)
    except (RuntimeError, ValueError) as error:
        raise HeadstartError(
            f"Process {os.environ.get('RANK')} does not reach the others at {os.environ.get('MASTER_ADDR')}:"
            f"{os.environ.get('MASTER_PORT')} ({error}); check that the nodes may connect to each other."
        ) from error
    yield current_group()
    # Not after an error: the others may never arrive where this would wait for them.
    dist.destroy_process_group()


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


# Gloo's errors begin with the place in its code.
_GLOO = "/gloo/"

LossFunction = Callable[[np.ndarray, np.ndarray, int], tuple[Tensor, Tensor]]
"""The objective and the loss of a micro-batch, as `Objective.loss` gives them."""


def summing_gradients(module: nn.Module, loss: LossFunction, group: Group) -> LossFunction:
    """`loss` whose backward pass leaves in each parameter of `module` the sum of the gradients of all processes.

    It covers the parameters that require a gradient now; after a change, call this again. `accumulating` defers the
    sum to the last micro-batch of a step.
    """
    if group.size == 1:
        return loss
    return _Parallel(_Forward(module, loss))


def accumulating(loss: LossFunction, *, last: bool) -> AbstractContextManager[None]:
    """The context of one micro-batch's forward and backward pass; only the `last` one of a step exchanges gradients.

    Raises:
        DistNetworkError: another process is gone, in the place of the error that autograd makes of that.
    """
    return _exchanging(loss, last) if isinstance(loss, _Parallel) else nullcontext()


@contextmanager
def _exchanging(loss: "_Parallel", last: bool) -> Iterator[None]:
    with nullcontext() if last else loss.no_sync():
        try:
            yield
        except RuntimeError as error:
            # DDP's own exchanges, such as that of which parameters were used, fail past the hook, in gloo's words.
            if loss.exchange.failed or _GLOO in str(error):
                raise dist.DistNetworkError(str(error)) from error
            raise


class _Forward(nn.Module):
    """A loss as the forward pass of a module that has the trained parameters, but not the buffers: batch norm keeps
    these equal on all processes."""

    def __init__(self, module: nn.Module, loss: LossFunction) -> None:
        super().__init__()
        self.trained = nn.ParameterList(parameter for parameter in module.parameters() if parameter.requires_grad)
        # DDP warns of a search for unused parameters that finds none.
        self.unused = nn.Parameter(self.trained[0].new_zeros(1))
        self._loss = loss

    def forward(self, micro_batch: np.ndarray, batch: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        return self._loss(micro_batch, batch, epoch)


class _Parallel(DistributedDataParallel):
    """A loss whose gradients are summed over all processes."""

    exchange: "_Exchange"

    def __init__(self, module: nn.Module) -> None:
        # Without a search for unused parameters DDP would sort its buckets anew after its first step, so that a resumed
        # training would sum in another order and end with other last bits.
        super().__init__(module, init_sync=False, find_unused_parameters=True)
        self.exchange = _Exchange()
        self.register_comm_hook(self.exchange, _sum_bucket)


class _Exchange:
    """The exchange of gradients between processes: `failed` once one of them was not reached."""

    def __init__(self) -> None:
        self.failed = False

    def summed(self, done: "torch.futures.Future[list[Tensor]]") -> Tensor:
        try:
            return done.value()[0]
        except RuntimeError:
            self.failed = True
            raise


def _sum_bucket(
    exchange: _Exchange,
    bucket: dist.GradBucket,  # type: ignore[name-defined]
) -> torch.futures.Future[Tensor]:
    """DDP divides by the number of processes; an objective's parts are added up."""
    return dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(exchange.summed)


def synchronize_batch_norm(network: nn.Module, group: Group) -> None:
    """Makes every batch norm that trains take its statistics over the samples of all processes, in place.

    Names and values of the state do not change, and frozen batch norms, which are in eval mode, compute as before.
    Processes may have unequal numbers of samples, none included. (torch's own `SyncBatchNorm` refuses CPUs.)
    """
    if group.size == 1:
        return
    for module in batch_norms(network):
        if not isinstance(module, _Synchronized):
            # The class alone changes, so that the optimiser and the state keep the parameters that they know.
            module.__class__ = type(f"Synchronized{type(module).__name__}", (_Synchronized, type(module)), {})


class _Synchronized(_BatchNorm):
    """A batch norm whose statistics in training are those of all processes' samples."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        outputs, mean, variance, count = _normalize(input, self.weight, self.bias, self.eps)
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None  # noqa: S101
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.to(self.running_mean), share)
                unbiased = variance * count / (count - 1).clamp(min=1)
                self.running_var.lerp_(unbiased.to(self.running_var), share)
        # timm's batch norms have the activation inside.
        for name in ("drop", "act"):
            if isinstance(follower := getattr(self, name, None), nn.Module):
                outputs = follower(outputs)
        return outputs


def _normalize(
    inputs: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The normalised inputs (N, C, …), and over all processes the mean (C,), the variance (C,) and the number of values
    per channel."""
    values = inputs.float()
    axes = [axis for axis in range(values.ndim) if axis != 1]
    count = values.new_tensor(values.numel() / values.shape[1])
    mean = values.sum(axes) / count.clamp(min=1)
    spread = (values - _along(mean, values)).square_().sum(axes)
    local = torch.cat([count.view(1), mean, spread])
    parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, local.detach())
    counts, means, spreads = torch.stack(parts).split([1, len(mean), len(mean)], dim=1)
    total = counts.sum()
    # Chan, Golub and LeVeque 1983: variances of parts make that of the whole without cancellation.
    overall = (counts * means).sum(0) / total
    variance = (spreads + counts * (means - overall).square()).sum(0) / total
    outputs: Tensor = _Normalize.apply(values, overall, torch.rsqrt(variance + eps), total)
    if weight is not None:
        outputs = outputs * _along(weight.float(), outputs)
    if bias is not None:
        outputs = outputs + _along(bias.float(), outputs)
    return outputs.to(inputs.dtype), overall, variance, total


class _Normalize(torch.autograd.Function):
    """(x − mean) / deviation, differentiated through mean and deviation, which depend on every process's x (Ioffe and
    Szegedy 2015, section 3)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, mean: Tensor, scale: Tensor, count: Tensor) -> Tensor:
        normalized = (values - _along(mean, values)).mul_(_along(scale, values))
        ctx.save_for_backward(normalized, scale, count)
        return normalized

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        normalized, scale, count = ctx.saved_tensors
        axes = [axis for axis in range(gradient.ndim) if axis != 1]
        sums = torch.stack([gradient.sum(axes), (gradient * normalized).sum(axes)])
        dist.all_reduce(sums)
        mean, along = (sums / count).unbind()
        inner = gradient - _along(mean, gradient) - normalized * _along(along, gradient)
        return inner.mul_(_along(scale, gradient)), None, None, None


def _along(channels: Tensor, values: Tensor) -> Tensor:
    """(C,) so that it broadcasts over values (N, C, …)."""
    return channels.view(1, -1, *[1] * (values.ndim - 2))
