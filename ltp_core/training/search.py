"""LAT's evolutionary search for length configurations: cost against quality, on held-out rows.

The search knows nothing of models: it is given what measures a configuration. It looks at the whole
range of costs, so one search, kept as a table of the store, serves every budget.

Source: Kim and Cho, Length-Adaptive Transformer, ACL 2021, section 3.4, and the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from ltp_core import store
from ltp_core.config import ConfigError, SelectConfig, TrainConfig, from_dict, parent_config
from ltp_core.flops import layer_macs
from ltp_core.pruning.lat import MIN_LENGTH, Lengths
from ltp_core.records import RunManifest, UserError

NUM_CONSTANT_RATIO = 22
"""Constant-ratio configurations that the search starts from, as in the authors' code."""

NUM_FLAT = 8
"""Configurations of equal lengths that it starts from besides."""

NUM_CHILDREN = 15
"""New mutations, and new crossovers, per iteration; the authors take 30 of each."""

MUTATION_PROBABILITY = 0.5
"""Chance of each layer's length to be drawn anew in a mutation."""

ATTEMPTS = 20
"""Draws per wanted child before a crowded search gives up."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A configuration and what it is worth.

    Attributes:
        lengths: The configuration.
        relative_flops: Its cost on the rows, paper accounting.
        metric: Headline metric there.
        loss: Task loss there; decides between equal metrics.
    """

    lengths: Lengths
    relative_flops: float
    metric: float
    loss: float

    @property
    def quality(self) -> tuple[float, float]:
        """Greater is better."""
        return self.metric, -self.loss


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """What can be searched.

    Attributes:
        initial_length: l_0; no length is greater.
        num_layers: Lengths of a configuration.
        cost: Relative FLOPs of a configuration, without running it.
    """

    initial_length: int
    num_layers: int
    cost: Callable[[Lengths], float]

    @property
    def shortest(self) -> int:
        """Least length of a layer."""
        return min(MIN_LENGTH, self.initial_length)

    def constant_ratio(self, kept: float) -> Lengths:
        """Every layer keeps the same share of the layer before."""
        whole = self.initial_length
        powers = range(1, self.num_layers + 1)
        return tuple(max(self.shortest, round(whole * kept**power)) for power in powers)

    def flat(self, kept: float) -> Lengths:
        """The first layer keeps a share of l_0, the others keep that."""
        return (max(self.shortest, round(self.initial_length * kept)),) * self.num_layers

    def initial(self) -> list[Lengths]:
        """Constant-ratio and flat configurations, each evenly spaced in cost, without duplicates."""
        found = [
            self._of_cost(family, cost)
            for family, count in ((self.constant_ratio, NUM_CONSTANT_RATIO), (self.flat, NUM_FLAT))
            for cost in np.linspace(self.cost(family(0.0)), self.cost(family(1.0)), count).tolist()
        ]
        return list(dict.fromkeys(found))

    def _of_cost(self, family: Callable[[float], Lengths], cost: float) -> Lengths:
        """The member of about this cost, by bisection."""
        low, high = 0.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            is_cheaper = self.cost(family(middle)) < cost
            low, high = (middle, high) if is_cheaper else (low, middle)
        return family(high)

    def mutate(self, parent: Lengths, random: np.random.Generator) -> Lengths:
        """Layers drawn anew between the child's layer before and the parent's layer behind."""
        child: list[int] = []
        for layer, length in enumerate(parent):
            if random.random() < MUTATION_PROBABILITY:
                low = parent[layer + 1] if layer + 1 < self.num_layers else self.shortest
                high = child[-1] if child else self.initial_length
                length = int(random.integers(low, high, endpoint=True))
            child.append(length)
        return tuple(child)


def cross(first: Lengths, second: Lengths) -> Lengths:
    """Element-wise mean, rounded."""
    return tuple(round((a + b) / 2) for a, b in zip(first, second, strict=True))


def search(
    space: SearchSpace,
    measure: Callable[[Lengths], Candidate],
    *,
    seed: int,
    max_configurations: int,
) -> list[Candidate]:
    """Everything that was measured, in order; no configuration twice.

    Mutations and crossovers of the Pareto front, until they change it no more.

    Differs from the authors' code: configurations may be cheaper than the smallest sub-model of the
    training, since the budget decides; flat ones are among the first, which inputs far below l_0
    need for small budgets; and the search ends when the front stands still.

    Args:
        space: What can be searched.
        measure: Evaluates a configuration.
        seed: Of mutations and crossovers.
        max_configurations: Configurations measured at most.
    """
    random = np.random.default_rng(seed)
    found = [measure(lengths) for lengths in space.initial()[:max_configurations]]
    front = pareto_front(found)
    while len(found) < max_configurations:
        known = {candidate.lengths for candidate in found}
        children = _children(space, front, known, random)[: max_configurations - len(found)]
        found += [measure(lengths) for lengths in children]
        before, front = front, pareto_front(found)
        if front == before:
            break
    return found


def _children(
    space: SearchSpace, front: list[Candidate], known: set[Lengths], random: np.random.Generator
) -> list[Lengths]:
    """New mutations, then new crossovers, of random members of the front."""

    def member() -> Lengths:
        return front[random.integers(len(front))].lengths

    mutations = _new(lambda: space.mutate(member(), random), known)
    crossovers = _new(lambda: cross(member(), member()), known | set(mutations))
    return mutations + crossovers


def _new(draw: Callable[[], Lengths], known: set[Lengths]) -> list[Lengths]:
    """Up to `NUM_CHILDREN` configurations that are not known yet."""
    children: dict[Lengths, None] = {}
    for _ in range(ATTEMPTS * NUM_CHILDREN):
        child = draw()
        if child not in known:
            children[child] = None
        if len(children) == NUM_CHILDREN:
            break
    return list(children)


def pareto_front(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Candidates than which none is as cheap and better, the cheapest first."""
    front: list[Candidate] = []
    by_cost = sorted(candidates, key=lambda c: (c.relative_flops, -c.metric, c.loss, c.lengths))
    for candidate in by_cost:
        if not front or candidate.quality > front[-1].quality:
            front.append(candidate)
    return front


def best_within(candidates: Iterable[Candidate], target_relative_flops: float) -> Candidate:
    """The best candidate that the budget allows; of equals the cheapest.

    Raises:
        UserError: The budget allows none.
    """
    front = pareto_front(candidates)
    allowed = [c for c in front if c.relative_flops <= target_relative_flops]
    if not allowed:
        raise UserError(
            f"select.target_relative_flops = {target_relative_flops}: the cheapest configuration "
            f"needs {front[0].relative_flops:.3f}."
        )
    return allowed[-1]


def length_cost(length: Int[np.ndarray, " examples"], **sizes: Any) -> Callable[[Lengths], float]:
    """Relative FLOPs of configurations on sequences of these lengths, paper accounting."""
    n = length.astype(np.float64)

    def macs(entering: np.ndarray, leaving: np.ndarray) -> float:
        per_layer = layer_macs(entering, leaving, accounting="paper", **sizes)
        return float(per_layer.sum())

    whole = macs(n, n)

    def cost(lengths: Lengths) -> float:
        entering = np.minimum(n[:, None], [np.inf, *lengths[:-1]])
        leaving = np.minimum(n[:, None], lengths)
        return macs(entering, leaving) / (whole * len(lengths))

    return cost


def candidates_table(found: Sequence[Candidate], chosen: Lengths) -> pd.DataFrame:
    """A search as the store's `candidates` table."""
    frame = pd.DataFrame(
        {
            "relative_flops": candidate.relative_flops,
            "metric": candidate.metric,
            "loss": candidate.loss,
            "is_chosen": candidate.lengths == chosen,
            **{f"length_{i}": n for i, n in enumerate(candidate.lengths, start=1)},
        }
        for candidate in found
    )
    return frame.assign(candidate=range(len(frame)))


def candidates_from(table: pd.DataFrame) -> list[Candidate]:
    """The search that a `candidates` table holds."""
    names = [f"length_{i}" for i in range(1, 1 + sum("length_" in str(c) for c in table))]
    lengths = table[names].astype(int).itertuples(index=False, name=None)
    figures = (table[name].astype(float) for name in ("relative_flops", "metric", "loss"))
    return [
        Candidate(lengths=tuple(chosen), relative_flops=cost, metric=metric, loss=loss)
        for chosen, cost, metric, loss in zip(lengths, *figures, strict=True)
    ]


def earlier_search(config: TrainConfig, stores: Sequence[Path]) -> list[Candidate] | None:
    """The search of a run that differs in the budget alone; None if there is none.

    Args:
        config: A run with a `select` table.
        stores: Where to look; the parent is in one of them.
    """
    parent = parent_config(config)
    assert parent is not None
    since = store.read_manifest(store.find_run(parent.name, stores)).created_at
    for entry in store.list_runs(stores):
        if entry.problem is None and _is_same_search(entry.manifest, config, since):
            return candidates_from(store.read_table(entry.folder, "candidates"))
    return None


def _is_same_search(manifest: RunManifest | None, config: TrainConfig, since: str) -> bool:
    """Whether the run looked at the parent of this age with the same settings."""
    if manifest is None or manifest.parent is None or manifest.created_at < since:
        return False
    try:
        other = from_dict(manifest.config)
    except ConfigError:  # of another version
        return False
    return other.select is not None and _at_any_budget(other) == _at_any_budget(config)


def _at_any_budget(config: TrainConfig) -> TrainConfig:
    assert config.select is not None
    anywhere = SelectConfig().target_relative_flops
    return replace(config, select=replace(config.select, target_relative_flops=anywhere))
