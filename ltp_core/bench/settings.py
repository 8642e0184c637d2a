"""What is to be measured. Torch-free."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from ltp_core.bench.variants import DEFAULT, VARIANTS, missing
from ltp_core.strict import require, require_above_zero

AT = "@"
"""Between the name of a checkpoint and the strength of its pruning where that is not its own."""

What = Literal["throughput", "scaling", "topk", "training", "predict"]
DType = Literal["float32", "bfloat16", "float16"]

SCALING_LENGTHS = (32, 64, 128, 256, 512)
TRAINING_LENGTHS = (32, 128)
TOPK_LENGTHS = (128, 256, 512, 1024)
RETAIN_RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """A benchmark, without a path of this machine.

    Attributes:
        what: `throughput` by batch size and length, `scaling` with the length, `topk` against
            threshold, a step of `training` by stage, or a file scored by `predict`.
        checkpoint: Name of the checkpoint, and behind `@` what strength it was asked for, as
            `budget-0.6`; None for `topk`, which needs none.
        against: Names of other checkpoints that run beside it, each with its own method.
        task: Whose texts; None takes the checkpoint's own.
        split: Split of it.
        limit: Sequences a round at most.
        batch_sizes: Sequences per pass.
        lengths: Tokens of every sequence; None stands for the lengths as they are in the data.
        retain_ratios: Fractions of tokens that top-k keeps.
        variants: Names from `VARIANTS`.
        repeats: Rounds in which every variant runs once, each with a random order of its own.
        seconds: Measuring time; where it is too short for everything, fewer sequences run a round.
        device: Where it runs.
        dtype: Type of the weights and activations.
        threads: Processor threads; None takes PyTorch's choice.
    """

    what: What = "throughput"
    checkpoint: str | None = None
    against: tuple[str, ...] = ()
    task: str | None = None
    split: str = "validation"
    limit: int = 256
    batch_sizes: tuple[int, ...] = (1, 8, 32)
    lengths: tuple[int | None, ...] = (None,)
    retain_ratios: tuple[float, ...] = RETAIN_RATIOS
    variants: tuple[str, ...] = DEFAULT
    repeats: int = 5
    seconds: float | None = None
    device: str = "cpu"
    dtype: DType = "float32"
    threads: int | None = None

    def __post_init__(self) -> None:
        """Rejects what cannot be measured."""
        require_above_zero(self, "limit", "repeats", "seconds", "threads")
        for name in ("batch_sizes", "lengths", "variants"):
            values = getattr(self, name)
            require(len(values) > 0, f"{name}: name at least one")
            require(len(values) == len(set(values)), f"{name}: each may be named once")
        require(all(size > 0 for size in self.batch_sizes), "batch_sizes: must be above 0")
        if self.what == "topk":
            require(
                all(0 < ratio <= 1 for ratio in self.retain_ratios),
                "retain_ratios: must be above 0 and at most 1",
            )
        runs_network = self.what not in ("topk", "training")
        if runs_network:
            least = 3  # room for the special tokens and one other
        else:
            require(None not in self.lengths, "lengths: give numbers of tokens")
            least = 2 if self.what == "topk" else 1
        fit = all(length is None or length >= least for length in self.lengths)
        require(fit, f"lengths: must be at least {least}")
        if runs_network:
            for name in self.variants:
                known = ", ".join(VARIANTS)
                require(name in VARIANTS, f"variants: there is no {name!r}, but {known}")
                lacks = missing(VARIANTS[name])
                require(lacks is None, f"{name} {lacks}")

    @property
    def points(self) -> list[tuple[int, int | None]]:
        """Batch size and length of each measurement, in the order in which they are made."""
        return [(size, length) for length in self.lengths for size in self.batch_sizes]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }
