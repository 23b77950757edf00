"""int8: the model of another strategy with 8-bit whole numbers for weights and results, as ONNX Runtime computes it.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018;
with attention, Dettmers et al., "LLM.int8()", NeurIPS 2022. See headstart/models/int8.py.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import SerializeAsAny

from headstart.strategies.section import Strategy

if TYPE_CHECKING:
    from headstart.strategies.task import Task
    from headstart.training.trained import Trained


class Int8(Strategy):
    """`original` is the strategy whose model becomes smaller: the name of one that the recipe lists."""

    transfer: Literal["full"] = "full"
    original: str | SerializeAsAny[Strategy] = "full"

    short_for: ClassVar = {"strategy": "int8", "transfer": "full"}
    # A trial would be another training of the same model.
    searched: ClassVar = False

    @property
    def carried(self) -> Strategy:
        """The strategy whose model becomes smaller."""
        if isinstance(self.original, str):
            return Strategy.of({"name": self.original, "strategy": self.original})
        return self.original

    @property
    def copy_of(self) -> str:
        return self.original if isinstance(self.original, str) else self.original.name

    def among(self, listed: Mapping[str, Strategy]) -> Strategy:
        found = listed.get(self.original) if isinstance(self.original, str) else self.original
        if found is None:
            raise ValueError(
                f"{self.name}.original: there is no strategy {self.original!r} beside it; add it, or name one"
            )
        if found.copy_of is not None:
            raise ValueError(f"{self.name}.original: {found.name} is of 8-bit whole numbers already; name its original")
        return self.model_copy(update={"original": found})

    def carry(self, task: "Task") -> "Trained":
        from headstart.strategies.quantization import quantized_transfer

        return quantized_transfer(self.name, self.carried, task)

    def check_stages(self, stages: int, model: str) -> None:
        self.carried.check_stages(stages, model)

    def require_packages(self) -> None:
        from headstart.models.onnx_graph import require_onnx

        require_onnx()

    def check_architectures(self, architectures: Sequence[str | None]) -> None:
        self.carried.check_architectures(architectures)

    @classmethod
    def no_meaning(cls, key: str) -> str | None:
        return f"{key} has no meaning in int8, which trains nothing; set it in its original"

    @classmethod
    def with_defaults(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return {"name": "int8", **values}


STRATEGY = Int8
