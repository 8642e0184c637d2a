"""Charts of the page: time of a million texts, and the change of accuracy; no Streamlit."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import altair as alt
import pandas as pd

from app.ltp_ui.shared.charts import Figure, without_data

PRUNED, NOT_PRUNED = "pruned", "nothing pruned"
ROW_HEIGHT = 34


def time_chart(frame: pd.DataFrame) -> Figure:
    """Bars: minutes for a million texts by way of running them.

    Args:
        frame: Columns `title`, `kind` (`PRUNED` or not), `minutes` and `label`.
    """
    # Behind the longest bar there is room for its label.
    limit = round(1.3 * float(frame["minutes"].max()), 3)
    return Figure(spec=_time_spec(limit) | {"height": ROW_HEIGHT * len(frame) + 60}, frame=frame)


def change_chart(frame: pd.DataFrame) -> Figure:
    """Points with 95 % intervals: change of the metric against the dense counterpart.

    Args:
        frame: Columns `title`, `split`, `value`, `low`, `high` in points, and `label`.
    """
    return Figure(spec=_change_spec() | {"height": ROW_HEIGHT * len(frame) + 60}, frame=frame)


@lru_cache(maxsize=32)
def _time_spec(limit: float) -> dict[str, Any]:
    base = alt.Chart(alt.NamedData("table")).encode(
        y=alt.Y("title:N", sort=None, title=None, axis=alt.Axis(labelLimit=210)),
        x=alt.X("minutes:Q", title="minutes per million texts", scale=alt.Scale(domain=[0, limit])),
        tooltip=[alt.Tooltip("title:N"), alt.Tooltip("label:N", title="a million texts")],
    )
    kinds = [PRUNED, NOT_PRUNED]
    bars = base.mark_bar(height={"band": 0.66}).encode(
        color=alt.Color(
            "kind:N",
            scale=alt.Scale(domain=kinds),
            legend=alt.Legend(title=None, orient="top"),
        )
    )
    labels = base.mark_text(align="left", dx=4, fontSize=12).encode(
        text="label:N", color=alt.value("gray")
    )
    return without_data(alt.layer(bars, labels))


@cache
def _change_spec() -> dict[str, Any]:
    base = alt.Chart(alt.NamedData("table")).encode(
        y=alt.Y("title:N", sort=None, title=None, axis=alt.Axis(labelLimit=210)),
        tooltip=[
            alt.Tooltip("title:N"),
            alt.Tooltip("split:N"),
            alt.Tooltip("label:N", title="points"),
        ],
    )
    x = alt.X("value:Q", title="points against dense", scale=alt.Scale(zero=True))
    zero = alt.Chart(alt.NamedData("table")).mark_rule(color="gray", strokeDash=[4, 4], aria=False)
    whiskers = base.mark_rule(strokeWidth=2.5, color="gray").encode(
        x=alt.X("low:Q", title="points against dense"), x2="high:Q"
    )
    dots = base.mark_point(filled=True, size=110, opacity=1).encode(x=x)
    return without_data(alt.layer(zero.encode(x=alt.datum(0)), whiskers, dots))
