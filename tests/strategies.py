"""Hypothesis strategies for models, batches and thresholds; the small and awkward come first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tests import tiny

if TYPE_CHECKING:
    from ltp_core.encoder.model import Encoder
    from ltp_core.runners.base import Inputs

NUM_LAYERS = 3
EVERYTHING_BELOW = 1e3
"""Above any score: a score is at most the length."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A random model and a random batch for it; the repr rebuilds it."""

    family: str
    model_seed: int
    num_heads: int
    lengths: tuple[int, ...]
    data_seed: int
    extra_padding: int
    protect_first: bool = True

    @property
    def encoder(self) -> Encoder:
        """The model, float64."""
        return tiny.encoder(
            self.family, self.model_seed, num_layers=NUM_LAYERS, num_heads=self.num_heads
        )

    @property
    def inputs(self) -> Inputs:
        """The batch."""
        return tiny.inputs(
            self.lengths,
            self.data_seed,
            family=self.family,
            extra_padding=self.extra_padding,
            protect_first=self.protect_first,
        )


lengths = st.lists(
    st.one_of(st.sampled_from([1, 2, 3]), st.integers(1, 14)), min_size=1, max_size=4
).map(tuple)
"""Lengths of the sequences of a batch; batch 1 and 2 and n = 1, 2, 3 are frequent."""

thresholds = st.one_of(
    st.just((0.0,) * NUM_LAYERS),
    st.just((EVERYTHING_BELOW,) * NUM_LAYERS),
    st.tuples(*[st.floats(0.0, 1.6)] * NUM_LAYERS),
)
"""Absolute thresholds per layer: nothing pruned, everything below, and in between."""

METHOD_VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "unpruned": ("unpruned", {}),
    "ltp": ("ltp", {}),
    "ltp, ordinary": ("ltp", {"score_mean": "ordinary", "shape": "learned"}),
    "ltp_s": ("ltp_s", {}),
    "ltp_s, live": ("ltp_s", {"score_mean": "live"}),
    "manual": ("manual", {}),
    "calibrated": ("calibrated", {}),
    "spatten": ("spatten", {"keep_layers": 1, "final_ratio": 0.2}),
    "spatten, cumulative": ("spatten", {"keep_layers": 0, "final_ratio": -0.2, "cumulative": True}),
    "lat": ("lat", {"lengths": (6, 4, 2)}),
    "power_bert": ("power_bert", {"lengths": (7, 4, 2)}),
    "tr_bert": ("tr_bert", {}),
    "tr_bert, two policies": ("tr_bert", {"layers": (1, 2)}),
    "shallow": ("shallow", {"layers": 2}),
}
"""Name and settings of methods that prune models of `NUM_LAYERS` layers; every method has one."""

scores = st.lists(st.floats(0.0, 8.0, width=32), min_size=1, max_size=24)
"""Importance scores of one sequence; ties and zeros are frequent."""

cases = st.builds(
    Case,
    family=st.sampled_from(tiny.VARIANTS),
    model_seed=st.integers(0, 15),
    num_heads=st.sampled_from([1, 2, 4]),
    lengths=lengths,
    data_seed=st.integers(0, 1000),
    extra_padding=st.sampled_from([0, 1, 5]),
)
"""A random model with a random batch."""

post_ln_cases = cases.filter(lambda case: not case.family.startswith("modernbert"))
"""The same with the layers that native code takes."""
