"""Stored length counts for the length page, and the choices that are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from app.ltp_ui.lengths.wording import side_title
from app.ltp_ui.shared import live
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.checkpoint_select import HELP, checkpoint_select
from ltp_core import store
from ltp_core.checkpoint_tokenizer import DEFAULT_TOKENIZER, tokenizer_facts
from ltp_core.lengths.counts import LengthCounts, LengthSet, TokenizerFacts, list_sets
from ltp_core.lengths.shift import (
    KL,
    REVERSE_KL,
    DivergenceRule,
    LengthShift,
    Side,
    compare,
    default_rule,
    evaluation_split,
    training_split,
)
from ltp_core.records import UserError
from ltp_core.tasks.catalogue import TASKS

TRAIN, EVALUATION, TOKENIZER = "train_set", "eval_set", "tokenizer"
FIRST_TASK = "sst2"
"""Shown first where it is stored: the task whose lengths shift most."""

DEFAULT_LABEL = f"{DEFAULT_TOKENIZER.rsplit('/', 1)[-1]} (default base)"

DIRECTIONS = {"train ‖ evaluation": KL, "evaluation ‖ train": REVERSE_KL}
PAPERS_BINS, TOKEN_BINS = "as in the paper", "one per token"
BINS = (PAPERS_BINS, "10", "20", "50", "100", "200", TOKEN_BINS)
ORIGINS = ("shortest input", "0")
SMOOTHING: dict[str, float | None] = {
    "common bins only": None,
    "add 1e-10": 1e-10,
    "add 1e-6": 1e-6,
    "add 1e-4": 1e-4,
    "add 1e-2": 1e-2,
}


@dataclass(frozen=True, kw_only=True)
class TokenizerChoice:
    """Whose tokens are counted.

    Attributes:
        checkpoint: Run, folder or base model; None for the default base.
        facts: Its tokenizer.
    """

    checkpoint: str | None
    facts: TokenizerFacts


def choose_tokenizer() -> TokenizerChoice:
    """The tokenizer of a checkpoint."""
    name = checkpoint_select(
        "Tokenizer of",
        [DEFAULT_LABEL, *(found.name for found in live.checkpoints())],
        key=TOKENIZER,
        default=DEFAULT_LABEL,
        help_text=f"{HELP} What counts is its tokenizer; special tokens are included, nothing is cut off.",
    )
    checkpoint = None if name == DEFAULT_LABEL else name
    try:
        return TokenizerChoice(checkpoint=checkpoint, facts=tokenizer_facts(checkpoint))
    except UserError as error:
        st.error(f"{plain(str(error))} Shown are the tokens of {plain(DEFAULT_LABEL)}.")
        return TokenizerChoice(checkpoint=None, facts=tokenizer_facts(None))


def stored_sets(tokenizer: TokenizerFacts) -> tuple[list[LengthSet], list[str]]:
    """Counts with this tokenizer, tasks first, and what is wrong with files that cannot be read."""
    entries = list_sets(store.stores())
    problems = [entry.problem for entry in entries if entry.problem]
    found = [e.counts for e in entries if e.counts and e.counts.tokenizer.is_same(tokenizer)]
    order = list(dict.fromkeys((FIRST_TASK, *TASKS)))
    place = {name: number for number, name in enumerate(order)}
    found.sort(key=lambda s: (not s.is_task, place.get(s.name, len(place)), s.name, s.key))
    return found, problems


def label(side: Side) -> str:
    """How a split is called in selectors and links."""
    own = "" if side.counts.is_task else f" (own {side.counts.key.split('-')[1][:6]})"
    return f"{side_title(side)}{own}"


def sides_of(sets: Sequence[LengthSet]) -> dict[str, Side]:
    """Every split of every set by label; of equal labels the first."""
    found: dict[str, Side] = {}
    for counts in sets:
        for split in counts.splits:
            side = Side(counts=counts, split=split)
            found.setdefault(label(side), side)
    return found


def choose_sides(sides: dict[str, Side]) -> tuple[Side, Side]:
    """What stands for training and what for evaluation.

    Args:
        sides: All that there are, at least one.
    """
    _say_what_is_lost(sides)
    left, right = st.columns(2)
    training = [name for name, side in sides.items() if side.split == training_split(side.counts)]

    def follow() -> None:
        chosen = sides.get(st.session_state[TRAIN])
        if chosen is not None:
            st.session_state[EVALUATION] = _partner(chosen)

    with left:
        first = st.selectbox(
            "Training lengths",
            [*training, *(name for name in sides if name not in training)],
            key=TRAIN,
            bind="query-params",
            on_change=follow,
        )
    partner = _partner(sides[first])
    with right:
        second = st.selectbox(
            "Evaluation lengths",
            [partner, *(name for name in sides if name != partner)],
            key=EVALUATION,
            bind="query-params",
            help="Any stored split: the inputs that a model trained on those lengths will meet.",
        )
    return sides[first], sides[second]


def _partner(train: Side) -> str:
    """The evaluation split that belongs to a training split; the split itself where there is none."""
    split = evaluation_split(train.counts)
    is_training = train.split == training_split(train.counts)
    return label(Side(counts=train.counts, split=split)) if split and is_training else label(train)


def _say_what_is_lost(sides: dict[str, Side]) -> None:
    """A link may name counts that are not in this store."""
    named = [st.query_params.get(name) for name in (TRAIN, EVALUATION)]
    lost = [name for name in named if name and name not in sides]
    if lost:
        st.info(
            f"The link names lengths that are not in this store ({plain(', '.join(lost)[:200])}): "
            "count them below.",
            icon=":material/link_off:",
        )


def choose_rule(train: Side) -> tuple[DivergenceRule, str]:
    """Bins and smoothing of the divergences, and the direction of KL that is shown first."""
    usual = default_rule(train.counts)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        direction = st.segmented_control(
            "KL",
            list(DIRECTIONS),
            default=next(iter(DIRECTIONS)),
            required=True,
            key="kl",
            bind="query-params",
        )
        bins = st.selectbox(
            "Bins",
            BINS,
            key="bins",
            bind="query-params",
            width=150,
            help=f"The paper's Table 2 has {usual.bins} for this task: 20 for RTE, MRPC and STS-B, "
            "50 otherwise.",
        )
        origin = st.segmented_control(
            "Bins begin at",
            ORIGINS,
            default=ORIGINS[0],
            required=True,
            key="origin",
            bind="query-params",
        )
        smoothing = st.selectbox(
            "Where one side is empty",
            list(SMOOTHING),
            key="smoothing",
            bind="query-params",
            width=190,
            help="Where a bin holds inputs of one set only, KL is infinite or undefined. Either such "
            "bins are left out and both sets are renormalised, or a little probability is added to "
            "every bin.",
        )
    number = usual.bins if bins == PAPERS_BINS else None if bins == TOKEN_BINS else int(bins)
    rule = DivergenceRule(bins=number, from_zero=origin == ORIGINS[1], epsilon=SMOOTHING[smoothing])
    return rule, DIRECTIONS[direction]


def shift(train: Side, evaluation: Side, rule: DivergenceRule) -> LengthShift:
    """How far evaluation is from training; kept, because the floors take a moment."""
    return _shift(
        _identity(train),
        _identity(evaluation),
        rule,
        train.lengths.counts,
        evaluation.lengths.counts,
    )


def _identity(side: Side) -> tuple[str, str, str, int]:
    lengths = side.lengths
    return side.counts.key, side.split, lengths.sha256, lengths.counts.rows


@st.cache_data(max_entries=256, show_spinner=False)
def _shift(
    train_identity: tuple[str, str, str, int],
    evaluation_identity: tuple[str, str, str, int],
    rule: DivergenceRule,
    _train: LengthCounts,
    _evaluation: LengthCounts,
) -> LengthShift:
    del train_identity, evaluation_identity
    return compare(_train, _evaluation, rule)
