"""What a user sets on the compare page: two checkpoints, how much each prunes, one text."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from app.ltp_ui.explore import controls, panels
from app.ltp_ui.shared import blocks, live, state, strength
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.checkpoint_select import checkpoint_select
from app.ltp_ui.shared.live import Card, Question
from app.ltp_ui.shared.strength import Strength
from app.ltp_ui.shared.texts import Texts
from ltp_core.checkpoint_places import CheckpointInfo
from ltp_core.records import WhatIf
from ltp_core.tasks.catalogue import known_task

HALF = 0.5
"""Multiplier of B where it is the same checkpoint as A: as it was trained, nothing would differ."""

RIVALS = ("spatten", "lat", "power_bert", "tr_bert", "calibrated", "manual", "ltp")
"""Methods that B has at first, in this order, other than A's; those not listed come behind them."""

CONTROLS = ("unpruned", "shallow")
"""Methods that remove no token, which B never has unasked."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of the two, as chosen.

    Attributes:
        letter: "A" or "B".
        card: The checkpoint.
        strength: How much it prunes.
    """

    letter: str
    card: Card
    strength: Strength

    @property
    def scale(self) -> float:
        """How much it prunes, as a multiple of what it learned."""
        return self.strength.factor

    @property
    def what_if(self) -> WhatIf:
        """How its pass departs from what was learned."""
        return WhatIf(scale=self.scale, budget=self.strength.budget)

    def question(self, texts: Texts) -> Question:
        """What it is asked."""
        return Question(checkpoint=self.card.name_or_path, text=texts.text, text_pair=texts.pair)


def is_same(a: Choice, b: Choice) -> bool:
    """Whether both are the same checkpoint with the same setting."""
    return (_identity(a), a.scale) == (_identity(b), b.scale)


def _identity(choice: Choice) -> str:
    """A run goes by its name, however it was asked for; a foreign folder by its path."""
    return choice.card.name if choice.card.task else choice.card.name_or_path


def choose() -> tuple[Choice, Choice] | None:
    """The two; None where there is no checkpoint and none was typed."""
    found = live.checkpoints()
    names = [info.name for info in found]
    first = live.default_checkpoint(found)
    left, right = st.columns(2, gap="large")
    with left:
        a = checkpoint_select("A", names, key=state.A, default=first)
    with right:
        b = checkpoint_select("B", names, key=state.B, default=_rival(found, a or first))
    if a is None or b is None:
        return None
    is_same = a == b
    choices = []
    for letter, name, column in (("A", a, left), ("B", b, right)):
        with column:
            choices.append(_choice(letter, name, HALF if is_same and letter == "B" else 1.0))
    if len(found) == 1 and is_same:
        st.caption(
            "The store has one checkpoint, so B is the same one pruning differently. Train another, "
            "or type the folder of a model."
        )
    return choices[0], choices[1]


def _rival(found: list[CheckpointInfo], name: str | None) -> str | None:
    """What to hold against a checkpoint at first: another method of its task, else itself."""
    own = next((info for info in found if info.name == name), None)
    if own is None:
        return name
    others = {info.method: info.name for info in found if info.task == own.task}
    order = [m for m in dict.fromkeys((*RIVALS, *sorted(others))) if m not in CONTROLS]
    return next((others[m] for m in order if m in others and m != own.method), own.name)


def _choice(letter: str, name: str, default_scale: float) -> Choice:
    with blocks.loading(name):
        card = live.card(name)
    panels.checkpoint_line(card)
    key = letter.lower()
    if card.can_scale or not card.prunes:
        chosen = controls.multiplier(card, f"{key}_scale", default=default_scale)
        return Choice(letter=letter, card=card, strength=chosen)
    is_off = st.toggle(
        "Prune nothing",
        value=default_scale != 1,
        key=f"{key}_off",
        bind="query-params",
        help="The same weights with pruning switched off.",
    )
    st.caption(plain(controls.about_multiplier(card)))
    return Choice(letter=letter, card=card, strength=Strength(factor=0.0 if is_off else 1.0))


def swap() -> None:
    """Makes A of B and B of A; before the widgets are drawn."""
    for key in ("", "_scale", f"_scale{strength.BUDGET}", "_off"):
        a, b = (st.session_state.get(f"{side}{key}") for side in "ab")
        for side, value in (("a", b), ("b", a)):
            if value is not None:
                st.session_state[f"{side}{key}"] = value


def asks_alike(a: Card, b: Card) -> bool:
    """Whether both take as many texts; says so on the page where they do not."""
    tasks = [known_task(card.task) for card in (a, b)]
    kinds = {task.name: task.is_pair for task in tasks if task is not None}
    if len(set(kinds.values())) < 2:
        return True
    one, two = (
        next(task for task, is_pair in kinds.items() if is_pair == k) for k in (False, True)
    )
    st.info(
        f"A checkpoint of {one} reads one text and one of {two} a pair of texts: choose two that "
        "read the same.",
        icon=":material/compare_arrows:",
    )
    return False


def links(choices: tuple[Choice, Choice]) -> None:
    """Change places, and each of the two on the explore page, which keeps the text."""
    st.button("Swap A and B", icon=":material/swap_horiz:", on_click=swap)
    for choice in choices:
        params = {state.CHECKPOINT: choice.card.name_or_path}
        if choice.card.curve is not None:
            percent = strength.percent_for(choice.card.curve, choice.scale)
            params[f"{state.SCALE}{strength.BUDGET}"] = str(percent)
        elif choice.card.can_scale:
            params[state.SCALE] = f"{choice.scale:g}"
        st.page_link(
            state.EXPLORE,
            label=f"{choice.letter} in Explore",
            icon=":material/filter_alt:",
            query_params=params,
        )
