"""How it is trained: base, method, budget, epochs or a time limit; as arguments of `train`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from app.ltp_ui.train.source import Data
from ltp_core.encoder.bases import DEFAULT_BASE, MPNET_BASE, is_mpnet_at_hand

LTP_S, LTP, DENSE = "LTP-S: every budget", "LTP: one budget", "Dense: nothing pruned"
PRESETS = {LTP_S: "own_ltp_s", LTP: "own_ltp", DENSE: "own_ltp_s"}
UNPRUNED = ("method=none", "hard=none")
"""What makes the finetuned model of the preset."""
FINETUNE_EPOCHS, PRUNING_EPOCHS = 3.0, 3.0
"""Of the presets."""
DEFAULT_LENGTH, LONGEST_SUGGESTED = 128, 256
MANY_ROWS = 5_000
"""Training rows that are taken at first, where there are more or nobody knows yet."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the form says.

    Attributes:
        base: Name or folder of the base model.
        max_length: Tokens that a text is cut to.
        arguments: Of `train`, the data among them.
    """

    base: str
    max_length: int
    arguments: tuple[str, ...]


def bases() -> list[str]:
    """Base models that can be used without a network."""
    return [DEFAULT_BASE, *[MPNET_BASE] * is_mpnet_at_hand()]


def choose(data: Data, most: int) -> Settings:
    """The form.

    Args:
        data: What is trained on.
        most: Tokens that 95 % of its texts do not exceed, as far as that is known.
    """
    columns = st.columns(3, gap="large")
    with columns[0]:
        method = st.radio(
            "Method",
            list(PRESETS),
            key="train.method",
            captions=[
                "one training, then any budget by a slider",
                "thresholds learned for a single budget",
                "to compare with, or to prune later",
            ],
        )
        budget = 0.3 if method == LTP_S else 0.5
        if method != DENSE:
            budget = st.slider(
                "Least FLOPs that it is trained for" if method == LTP_S else "Budget",
                0.2,
                0.9,
                budget,
                0.05,
                format="percent",
                key=f"train.budget.{PRESETS[method]}",
                help="Share of the unpruned FLOPs, in the paper’s accounting.",
            )
    with columns[1]:
        base = st.selectbox(
            "Base model",
            bases(),
            key="train.base",
            accept_new_options=True,
            help="A base at hand, or the folder of an encoder in Hugging Face’s format: type it in.",
        )
        max_length = st.number_input(
            "Tokens of a text at most",
            8,
            512,
            suggested_length(most),
            8,
            key=f"train.max_length.{data.name}",
            help="Longer texts are cut. Time grows with it, memory too.",
        )
        many = data.rows is None or data.rows > MANY_ROWS
        rows = st.number_input(
            "Training rows at most",
            0,
            10_000_000,
            MANY_ROWS if many else 0,
            1_000,
            key=f"train.rows.{data.name}",
            help="Drawn at random; 0 takes all.",
        )
    with columns[2]:
        finetune = st.number_input(
            "Epochs of finetuning", 0.1, 100.0, FINETUNE_EPOCHS, 0.5, key="train.finetune"
        )
        pruning = PRUNING_EPOCHS
        if method != DENSE:
            pruning = st.number_input(
                "Epochs with pruning", 0.1, 100.0, PRUNING_EPOCHS, 0.5, key="train.pruning"
            )
        minutes = st.number_input(
            "Minutes at most",
            0.0,
            10_000.0,
            0.0,
            1.0,
            key="train.minutes",
            format="%g",
            help="A few steps are measured first, and as many epochs are taken as fit; 0 sets no limit.",
        )
        seed = st.number_input("Seed", 0, 2**32 - 1, 0, key="train.seed")
    changes = [
        *UNPRUNED * (method == DENSE),
        *_if(base != DEFAULT_BASE, f"base={Path(base).expanduser() if '~' in base else base}"),
        *_if(max_length != DEFAULT_LENGTH, f"data.max_length={max_length}"),
        *_if(rows > 0, f"data.train_rows={rows}"),
        *_if(finetune != FINETUNE_EPOCHS, f"finetune.epochs={finetune:g}"),
        *_pruning(method, pruning, budget),
        *_if(seed != 0, f"seed={seed}"),
        *(["--minutes", f"{minutes:g}"] if minutes else []),
    ]
    arguments = ("train", PRESETS[method], *changes, *data.arguments)
    return Settings(base=base, max_length=int(max_length), arguments=arguments)


def _pruning(method: str, epochs: float, budget: float) -> list[str]:
    """The settings of the stages that prune, where they differ from those of the preset."""
    if method == LTP_S:
        return [
            *_if(epochs != PRUNING_EPOCHS, f"hard.epochs={epochs:g}"),
            *_if(budget != 0.3, f"hard.target_relative_flops={budget:g}"),
        ]
    if method == LTP:
        # A quarter learns thresholds, the rest lets the weights follow, as in the preset.
        changed = epochs != PRUNING_EPOCHS
        return [
            *_if(changed, f"soft.epochs={epochs / 4:g}", f"hard.epochs={epochs * 3 / 4:g}"),
            *_if(
                budget != 0.5,
                f"soft.target_relative_flops={budget:g}",
                f"hard.target_relative_flops={budget:g}",
            ),
        ]
    return []


def _if(wanted: bool, *arguments: str) -> list[str]:
    return list(arguments) if wanted else []


def suggested_length(most: int) -> int:
    """Tokens that take nearly all texts whole: a multiple of 8, none beyond what stays quick."""
    return min(LONGEST_SUGGESTED, max(DEFAULT_LENGTH, -(-most // 8) * 8))


def resumed(arguments: Sequence[str], epochs: Sequence[str]) -> list[str]:
    """The arguments that go on with a training whose time limit became these epochs; none: not yet."""
    if "--minutes" not in arguments or not epochs:
        return list(arguments)
    at = arguments.index("--minutes")
    rest = [*arguments[:at], *arguments[at + 2 :]]
    kept = [a for a in rest if not a.partition("=")[0].endswith(".epochs")]
    return [*kept[:2], *epochs, *kept[2:]]
