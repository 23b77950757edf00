"""Any network as stages and a linear head, found by running it: no list of families or layer names.

The forward pass is recorded as a graph of calls of its blocks (torch.fx). A place where a single tensor is all that the
rest of the network reads is a possible cut. Stages are cut there by one rule: where the resolution falls, as the stages
C1 to C5 of feature pyramids (Lin et al. 2017), and at each block where a constant resolution leaves the network
undivided, as in layer-wise decay for vision transformers (Bao et al. 2022).
"""

import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx, nn

from headstart.errors import HeadstartError
from headstart.models.network import Network, evaluated, linear_head

# The share of a network's blocks in one stage above which its resolution counts as constant.
_CONSTANT = 0.9
_TOLERANCE = 1e-5
# The path of the model in the module that is recorded.
_MODEL = "model"

Call = Callable[[nn.Module, Tensor], Tensor]
"""Runs a model on a batch and returns its logits or features (N, D)."""


Examples = Sequence[Callable[[int], Tensor]]
"""Ways to make batches of 1, 2 and 3 samples, equal at each call; the first that a model reads is taken."""


class NoHead(HeadstartError):  # noqa: N818 - a model's state
    """The model's output is not that of a linear layer on a vector."""


def traced_network(
    model: nn.Module,
    examples: Examples,
    *,
    classes: int,
    has_head: bool,
    call: Call = lambda model, x: model(x),
) -> Network:
    """Return `model` as a `Network` of the same function; its modules are shared, not copied.

    With `has_head`, the linear layer that computes the model's output is the head, or one without outputs is where
    `classes` is 0; else the output is the features, and the head is new. A model whose forward pass cannot be recorded
    is one stage.

    Raises:
        NoHead: it was to have a head; the model is as it was.
        HeadstartError: the model reads none of the examples, or gives no vectors (N, D).
    """
    with torch.no_grad(), evaluated(model):
        example, expected, last = _run(model, examples, call)
        if not isinstance(expected, Tensor) or expected.ndim != 2:
            raise HeadstartError(f"{type(model).__name__} gives no vectors (N, D), which a network needs to end with.")
        head, features = None, expected
        if has_head:
            head, features = _cut_head(model, last, lambda: call(model, example(1)), expected)
        stages = _stages(model, example, call, features)
    own = linear_head(features.shape[1], classes)
    if head is not None and classes:
        own.load_state_dict({"weight": head.weight.detach(), "bias": own.bias if head.bias is None else head.bias})
    return Network(stages, own, dropout=_trailing_dropout(stages[-1])).train(model.training)


def is_recorded(network: Network) -> bool:
    """Return whether stages of the network were recorded. Such a stage and its graph refer to each other: when nobody
    uses it any more, it stays in memory until Python looks for circles."""
    return any(isinstance(stage, fx.GraphModule) for stage in network.stages)


def last_linear(model: nn.Module, examples: Examples, call: Call) -> str | None:
    """Return the path of the linear layer that runs last, None if there is none."""
    with torch.no_grad(), evaluated(model):
        return _run(model, examples, call)[2]


def _run(model: nn.Module, examples: Examples, call: Call) -> tuple[Callable[[int], Tensor], Any, str | None]:
    """Return the first example that the model reads, its output for it, and the path of the linear layer that runs
    last."""
    called: list[str] = []
    hooks = [
        module.register_forward_hook(lambda _, __, ___, path=path: called.append(path))
        for path, module in model.named_modules()
        if _is_linear(module)
    ]
    reason: Exception | None = None
    try:
        for example in examples:
            called.clear()
            try:
                return example, call(model, example(1)), called[-1] if called else None
            except Exception as error:  # foreign code may raise anything on a size that it does not read
                reason = error
    finally:
        for hook in hooks:
            hook.remove()
    raise HeadstartError(f"{type(model).__name__} cannot be run on a batch of its own size: {reason}") from reason


def _is_linear(module: nn.Module) -> bool:
    """True for a plain linear layer, and for a convolution that is one where a map has a single position."""
    if type(module) is nn.Conv2d:
        return module.kernel_size == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)


def _as_linear(module: nn.Module) -> nn.Linear:
    """The layer as torch's own: libraries have subclasses, and convolutions in its place."""
    if type(module) is nn.Linear:
        return module
    weight, bias = module.get_parameter("weight").flatten(1), getattr(module, "bias", None)
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.load_state_dict({"weight": weight, **({} if bias is None else {"bias": bias})})
    return linear


def _cut_head(
    model: nn.Module, path: str | None, run: Callable[[], Tensor], expected: Tensor
) -> tuple[nn.Linear, Tensor]:
    """Replace the linear layer at `path`, from which the output follows, by the identity.

    Returns:
        the layer, and the model's output now, the features.

    Raises:
        NoHead: the output depends on more than that layer.
    """
    if path is not None:
        own = model.get_submodule(path)
        head = _as_linear(own)
        model.set_submodule(path, nn.Identity())
        # Something after the layer may need its width.
        with suppress(RuntimeError):
            features = run()
            if features.ndim == 2 and torch.allclose(head(features), expected, atol=_TOLERANCE, rtol=_TOLERANCE):
                return head, features
        model.set_submodule(path, own)
    raise NoHead(f"{type(model).__name__} does not end with a linear layer on a vector.")


def _stages(model: nn.Module, example: Callable[[int], Tensor], call: Call, expected: Tensor) -> list[nn.Module]:
    """Return the modules whose composition is `model`, by the finest record that can be made; `model` itself if none
    can."""
    for is_leaf in (_is_block, _holds_no_blocks, _is_child):
        try:
            record = _Recorder(model, call, (example(2), example(3)), is_leaf)
            stages = record.stages()
            composed = example(1)
            for stage in stages:
                composed = stage(composed)
        except Exception:  # noqa: S112 - foreign code may raise anything on what stands for a tensor
            continue
        if composed.shape == expected.shape and torch.allclose(composed, expected, atol=_TOLERANCE, rtol=_TOLERANCE):
            return stages
    return [_Root(model, call)]


def _is_block(root: nn.Module, module: nn.Module, path: str) -> bool:
    """True for torch's own layers and for what lies in a list or sequence."""
    if isinstance(module, nn.Sequential | nn.ModuleList):
        return False
    return module.__module__.startswith("torch.nn") or _is_listed(root, path)


def _holds_no_blocks(root: nn.Module, module: nn.Module, path: str) -> bool:
    """True also for modules without a list or sequence inside."""
    if _is_block(root, module, path):
        return True
    return not any(isinstance(each, nn.Sequential | nn.ModuleList) for each in module.modules())


def _is_child(root: nn.Module, module: nn.Module, path: str) -> bool:
    """True for the children of the root, except lists and sequences of them."""
    return not isinstance(module, nn.Sequential | nn.ModuleList)


def _is_listed(root: nn.Module, path: str) -> bool:
    parent, _, _ = path.rpartition(".")
    return bool(path) and isinstance(root.get_submodule(parent), nn.Sequential | nn.ModuleList)


class _Untraceable(Exception):  # noqa: N818 - a state of the search
    """The forward pass depends on more than its record can hold."""


class _Value(fx.Proxy):
    """A tensor, or a number that depends on the batch's size, while the forward pass is recorded."""

    def _pair(self) -> tuple[Any, Any]:
        return self.tracer.values[self.node]  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        if callable(getattr(self._pair()[0], name)):
            return lambda *args, **kwargs: self.tracer.create_proxy("call_method", name, (self, *args), kwargs)
        return self.tracer.create_proxy("call_function", getattr, (self, name), {})

    def __bool__(self) -> bool:
        first, second = self._pair()
        if bool(first) != bool(second):
            raise _Untraceable
        return bool(first)

    def __len__(self) -> int:
        first, second = self._pair()
        if len(first) != len(second):
            raise _Untraceable
        return len(first)

    def __iter__(self) -> Iterator[Any]:
        return iter([operator.getitem(self, index) for index in range(len(self))])

    def __index__(self) -> int:
        raise _Untraceable

    __int__ = __index__

    def __float__(self) -> float:
        raise _Untraceable


@dataclass
class _Segment:
    """A run of the graph's nodes between two cuts; `output` is all that later segments read of it."""

    nodes: list[fx.Node]
    output: fx.Node

    def joined(self, after: "_Segment") -> "_Segment":
        return _Segment(self.nodes + after.nodes, after.output)


class _Root(nn.Module):
    """A forward pass with one argument, whatever the model's own takes."""

    def __init__(self, model: nn.Module, call: Call) -> None:
        super().__init__()
        self.model, self._call = model, call

    def forward(self, x: Tensor) -> Tensor:
        return self._call(self.model, x)


class _Recorder(fx.Tracer):
    """Records a forward pass while it runs on two batches of different size and content.

    Whatever is equal in both and is no tensor is a constant; a tensor that is equal in both and depends on no parameter
    is one too (position embeddings that follow from the image's size).
    """

    def __init__(
        self,
        model: nn.Module,
        call: Call,
        batches: tuple[Tensor, Tensor],
        is_leaf: Callable[[nn.Module, nn.Module, str], bool],
    ) -> None:
        super().__init__()
        self.proxy_buffer_attributes = True
        self.values: dict[fx.Node, tuple[Any, Any]] = {}
        self._batches, self._is_leaf = batches, is_leaf
        self._running = False
        self._learned: set[fx.Node] = set()
        self.graph = self.trace(_Root(model, call))

    # While it records.

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return path != _MODEL and self._is_leaf(self.root, module, path)

    def proxy(self, node: fx.Node) -> _Value:
        return _Value(node, self)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self._running:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self._running:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **options: Any) -> Any:
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **options)
        node = proxy.node
        if kind == "output":
            return proxy
        self._running = True
        try:
            self.values[node] = (self._run(node, 0), self._run(node, 1))
        finally:
            self._running = False
        if self._has_parameters(node) or any(each in self._learned for each in node.all_input_nodes):
            self._learned.add(node)
        return self._unpacked(proxy)

    def _run(self, node: fx.Node, batch: int) -> Any:
        if node.op == "placeholder":
            return self._batches[batch]

        def value(argument: Any) -> Any:
            return fx.node.map_arg(argument, lambda each: self.values[each][batch])

        match node.op:
            case "get_attr":
                return operator.attrgetter(str(node.target))(self.root)
            case "call_module":
                return self.root.get_submodule(str(node.target))(*value(node.args), **value(node.kwargs))
            case "call_method":
                on, *others = value(node.args)
                return getattr(on, str(node.target))(*others, **value(node.kwargs))
            case _:
                return node.target(*value(node.args), **value(node.kwargs))  # type: ignore[operator]

    def _has_parameters(self, node: fx.Node) -> bool:
        if node.op == "get_attr":
            return isinstance(self.values[node][0], nn.Parameter)
        return node.op == "call_module" and bool(self.root.get_submodule(str(node.target)).state_dict())

    def _item(self, proxy: fx.Proxy, key: Any) -> Any:
        return self.create_proxy("call_function", operator.getitem, (proxy, key), {})

    def _unpacked(self, proxy: fx.Proxy) -> Any:
        """What the model's code gets of a value: constants and containers are real, so that it can ask for types."""
        first, second = self.values[proxy.node]
        if isinstance(first, Tensor):
            return proxy
        if isinstance(first, Mapping):
            return type(first)(**{key: self._item(proxy, key) for key in first if first[key] is not None})
        if isinstance(first, tuple | list):
            if len(first) != len(second):
                raise _Untraceable
            items = [self._item(proxy, index) for index in range(len(first))]
            return items if isinstance(first, list) else tuple(items)
        if type(first) is type(second) and first == second:
            return first
        if isinstance(first, int | float):
            return proxy
        raise _Untraceable

    # When it has recorded.

    def stages(self) -> list[nn.Module]:
        """Return the stages of the recorded network, from input to output."""
        _remove_unused(self.graph)
        segments = self._with_weights(self._segments())
        starts = self._starts(segments)
        groups: list[_Segment] = []
        for segment, begins in zip(segments, starts, strict=True):
            if groups and not begins:
                groups[-1] = groups[-1].joined(segment)
            else:
                groups.append(segment)
        before: fx.Node = next(node for node in self.graph.nodes if node.op == "placeholder")
        made: list[nn.Module] = []
        for group in groups:
            made.append(self._module(group, before))
            before = group.output
        return made

    def _segments(self) -> list[_Segment]:
        """Cut the graph wherever one tensor is all that what follows reads."""
        nodes = [node for node in self.graph.nodes if node.op not in ("placeholder", "output")]
        (output,) = [node for node in self.graph.nodes if node.op == "output"]
        result = output.args[0]
        if not isinstance(result, fx.Node):
            raise _Untraceable
        order = {node: position for position, node in enumerate(nodes)}
        order[output] = len(nodes)
        first, last = dict[fx.Node, int](), dict[fx.Node, int]()
        for node in self.graph.nodes:
            users = [order[user] for user in node.users]
            # A parameter is read where it is used first; until then it does not hold up a cut.
            first[node] = min(users, default=-1) if node.op == "get_attr" else order.get(node, -1)
            last[node] = max(users, default=-1)
        shared = self._shared_ranges(nodes, order)
        segments, start = list[_Segment](), 0
        for position in range(len(nodes)):
            alive = [each for each in first if first[each] <= position < last[each] and not self._is_free(each)]
            crossed = any(low <= position < high for low, high in shared)
            if len(alive) == 1 and not crossed and self._is_batch(alive[0]) and alive[0].op != "placeholder":
                segments.append(_Segment(nodes[start : position + 1], alive[0]))
                start = position + 1
        if start < len(nodes):
            segments.append(_Segment(nodes[start:], result))
        return segments

    def _shared_ranges(self, nodes: Sequence[fx.Node], order: Mapping[fx.Node, int]) -> list[tuple[int, int]]:
        """From the first to the last call of each module that has weights and is called repeatedly."""
        calls: dict[int, list[int]] = {}
        for node in nodes:
            if node.op == "call_module" and self._has_parameters(node):
                calls.setdefault(id(self.root.get_submodule(str(node.target))), []).append(order[node])
        return [(min(each), max(each)) for each in calls.values() if len(each) > 1]

    def _is_free(self, node: fx.Node) -> bool:
        """Return whether any stage can know the value without reading it from the one before."""
        return self._is_constant(node) or self._is_batch_size(node)

    def _is_constant(self, node: fx.Node) -> bool:
        first, second = self.values[node]
        if node.op == "placeholder" or node in self._learned:
            return False
        if isinstance(first, Tensor):
            return first.shape == second.shape and torch.equal(first, second)
        return not isinstance(first, tuple | list | Mapping) and bool(first == second)

    def _is_batch_size(self, node: fx.Node) -> bool:
        first, second = self.values[node]
        return type(first) is int and (first, second) == (2, 3)

    def _is_batch(self, node: fx.Node) -> bool:
        pair = self.values[node]
        return all(isinstance(each, Tensor) and each.is_floating_point() and each.ndim >= 2 for each in pair) and [
            each.shape[0] for each in pair
        ] == [2, 3]

    def _with_weights(self, segments: list[_Segment]) -> list[_Segment]:
        """Join segments without weights to the one before; the first ones to the one after."""
        joined: list[_Segment] = []
        for segment in segments:
            if joined and not (self._weighs(segment) and self._weighs(joined[0])):
                joined[-1] = joined[-1].joined(segment)
            else:
                joined.append(segment)
        return joined

    def _weighs(self, segment: _Segment) -> bool:
        return any(self._has_parameters(node) for node in segment.nodes)

    def _starts(self, segments: Sequence[_Segment]) -> list[bool]:
        """Whether a stage begins at each segment."""
        falls = [True] + [
            _falls(self.values[before.output][0].shape, self.values[after.output][0].shape)
            for before, after in pairwise(segments)
        ]
        kinds = [self._block(segment) for segment in segments]
        counts = Counter(kind for kind in kinds if kind is not None)
        if not counts:
            return falls
        kind, number = counts.most_common(1)[0]
        stage, per_stage = -1, Counter[int]()
        for begins, each in zip(falls, kinds, strict=True):
            stage += begins
            per_stage[stage] += each == kind
        if number < 2 or max(per_stage.values()) < _CONSTANT * number:
            return falls
        return [begins or each == kind for begins, each in zip(falls, kinds, strict=True)]

    def _block(self, segment: _Segment) -> type | None:
        """The class of the segment's listed module with weights."""
        for node in segment.nodes:
            if node.op == "call_module" and self._has_parameters(node) and _is_listed(self.root, str(node.target)):
                return type(self.root.get_submodule(str(node.target)))
        return None

    def _module(self, segment: _Segment, before: fx.Node) -> fx.GraphModule:
        """The segment as a module of its own that reads what `before` gave."""
        graph, copies = fx.Graph(), dict[fx.Node, Any]()
        constants: dict[str, Tensor] = {}
        copies[before] = graph.placeholder("x")

        def copied(node: fx.Node) -> Any:
            if node in copies:
                return copies[node]
            value = self.values[node][0]
            if node in inside or node.op == "get_attr":
                copies[node] = graph.node_copy(node, copied)
            elif self._is_batch_size(node):
                copies[node] = graph.call_method("size", (copies[before], 0))
            elif isinstance(value, Tensor):
                name = f"constant_{len(constants)}"
                constants[name] = value.detach().clone()
                copies[node] = graph.get_attr(name)
            else:
                copies[node] = value
            return copies[node]

        inside = set(segment.nodes)
        for node in segment.nodes:
            if node.op != "get_attr" or node in inside:
                copied(node)
        graph.output(copied(segment.output))
        _remove_unused(graph)
        held: dict[str, Any] = {}
        for node in graph.nodes:
            if node.op in ("call_module", "get_attr"):
                name = str(node.target)
                node.target = name.removeprefix(f"{_MODEL}.")
                held[node.target] = constants[name] if name in constants else operator.attrgetter(name)(self.root)
        module = fx.GraphModule(held, graph, class_name="Stage")
        # They follow from the architecture.
        module._non_persistent_buffers_set.update(constants.keys() & held.keys())
        return module


def _remove_unused(graph: fx.Graph) -> None:
    """Remove calls whose results nothing reads: assertions, shapes, constants."""
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)


def _falls(before: Sequence[int], after: Sequence[int]) -> bool:
    """Whether the resolution falls between two batches of maps: both sides of (N, C, H, W) or (N, H, W, C) do, or the
    length of (N, L, C) or (N, C, L)."""
    if len(before) != len(after) or len(before) < 3:
        return False
    fallen = sum(new < old for old, new in zip(before[1:], after[1:], strict=True))
    return fallen >= len(before) - 2


def _trailing_dropout(stage: nn.Module) -> float:
    """Take the dropout at the end of the last stage out of it and return its rate: a network's own comes before its
    head, so that features have none."""
    if not isinstance(stage, fx.GraphModule):
        return 0.0
    rate = 0.0
    (output,) = [node for node in stage.graph.nodes if node.op == "output"]
    while isinstance(last := output.args[0], fx.Node) and last.op == "call_module":
        module = stage.get_submodule(str(last.target))
        if not isinstance(module, nn.Identity | nn.Dropout):
            break
        rate = max(rate, getattr(module, "p", 0.0))
        last.replace_all_uses_with(last.args[0])  # type: ignore[arg-type]
        stage.graph.erase_node(last)
    stage.delete_all_unused_submodules()
    stage.recompile()
    return rate
