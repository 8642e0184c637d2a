"""Colours of the app in both appearances, for what is drawn without the theme."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Palette:
    """Colours of one appearance; the same as in `app/.streamlit/config.toml`."""

    background: str
    panel: str
    text: str
    muted: str
    border: str
    keep: str
    keep_background: str
    keep_text: str
    drop: str
    drop_background: str
    drop_text: str
    neutral: str


LIGHT = Palette(
    background="#ffffff",
    panel="#f4f5f7",
    text="#0c121d",
    muted="#5a6372",
    border="#d3d8e0",
    keep="#0072b2",
    keep_background="#e6f2fa",
    keep_text="#00568a",
    drop="#d55e00",
    drop_background="#fdeee3",
    drop_text="#9c3f00",
    neutral="#7b7f87",
)


DARK = Palette(
    background="#12151b",
    panel="#1b2029",
    text="#e8ebf0",
    muted="#a3acba",
    border="#3a4250",
    keep="#56b4e9",
    keep_background="#0e2a3d",
    keep_text="#8fd0f7",
    drop="#e69f00",
    drop_background="#3a2a08",
    drop_text="#ffc55c",
    neutral="#8e9197",
)
