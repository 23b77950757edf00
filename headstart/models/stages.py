"""Cutting a network into stages: a stage begins where the resolution falls."""

from collections.abc import Callable, Iterable

from torch import nn


def reduces_resolution(module: nn.Module) -> bool:
    """True if `module` holds a convolution or pooling with a stride above 1."""
    windows = (m for m in module.modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d))
    return any(max(_pair(window.stride)) > 1 for window in windows)


def cut_into_stages(
    trunk: Iterable[nn.Module], starts_stage: Callable[[nn.Module], bool] = reduces_resolution
) -> list[nn.Sequential]:
    """Groups modules that are applied in order into stages.

    A stage starts at a module that `starts_stage`, by default where the resolution falls: these are the stages C1 to
    C5 of feature pyramids (Lin et al. 2017). Modules without weights do not make a stage of their own; they end the
    one before.
    """
    stages: list[nn.Sequential] = []
    for module in trunk:
        if stages and (not starts_stage(module) or not _has_weights(stages[-1])):
            stages[-1].append(module)
        else:
            stages.append(nn.Sequential(module))
    if len(stages) > 1 and not _has_weights(stages[-1]):
        stages[-2].extend(stages.pop())
    return stages


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _pair(stride: int | tuple[int, ...]) -> tuple[int, ...]:
    return stride if isinstance(stride, tuple) else (stride,)
