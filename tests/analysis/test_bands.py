"""Bands by length: equal to a slow loop, complete, and matched operating points are the tightest."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltp_core.analysis.bands import (
    PAPER_TABLE_3,
    QUARTILES,
    TABLE_3,
    band_index,
    by_band,
    differences,
    length_bands,
    match_operating_points,
    metric_name,
)
from ltp_core.flops import ACCOUNTINGS, layer_macs
from ltp_core.tasks.catalogue import TASKS
from tests import length_runs

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40)
QUANTILES = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4, unique=True).map(sorted)


@given(LENGTHS, QUANTILES)
def test_every_example_is_in_one_band(length: list[int], quantiles: list[float]) -> None:
    """And in the one whose bounds it lies between, the upper one included."""
    found = length_bands(np.array(length), quantiles)
    assert len(quantiles) + 1 == len(found)
    index = band_index(np.array(length), found)
    for tokens, number in zip(length, index, strict=True):
        inside = [band.low < tokens <= band.high for band in found]
        assert [number] == [i for i, is_inside in enumerate(inside) if is_inside][:1]
        assert 1 == sum(inside)


@given(LENGTHS, st.sampled_from([TABLE_3, QUARTILES, (0.9,)]), st.data())
def test_bands_equal_a_slow_loop(
    length: list[int], quantiles: tuple[float, ...], data: st.DataObject
) -> None:
    """Count, accuracy and relative FLOPs, one example at a time; and counts and FLOPs are complete."""
    counts = st.lists(st.integers(1, 60), min_size=3, max_size=3)
    kept = np.array([[min(n, k) for k in data.draw(counts)] for n in length])
    prediction = np.array(
        data.draw(st.lists(st.integers(0, 1), min_size=len(length), max_size=len(length)))
    )
    records = length_runs.records(np.array(length), kept, prediction=prediction)
    found = by_band(records, length_bands(records.length, quantiles))
    assert len(length) == sum(result.count for result in found)
    for result in found:
        chosen = [i for i, n in enumerate(length) if result.band.low < n <= result.band.high]
        assert len(chosen) == result.count
        if not chosen:
            assert result.metric is None
            continue
        assert result.metric
        assert (
            pytest.approx(sum(prediction[i] == 0 for i in chosen) / len(chosen))
            == result.metric.value
        )
        for accounting in ACCOUNTINGS:
            cost = whole = 0.0
            for i in chosen:
                size = {"hidden": 16, "intermediate": 24, "accounting": accounting}
                entering = [length[i], *kept[i][:-1]]
                cost += sum(
                    layer_macs(int(a), int(f), **size)
                    for a, f in zip(entering, kept[i], strict=True)
                )
                whole += 3 * layer_macs(length[i], length[i], **size)
            assert pytest.approx(cost / whole) == result.relative_flops[accounting].value


def test_one_band_of_everything_is_the_summary() -> None:
    """Weighted by their unpruned FLOPs, the bands add up to the whole."""
    length = length_runs.lengths()
    records = length_runs.records(length, length_runs.layer_lengths("ltp", length))
    cut = length_bands(length, QUARTILES)
    whole = records.unpruned_flops()
    flops = records.flops("executed")
    assert whole is not None
    assert flops is not None
    index = band_index(length, cut)
    total = sum(
        r.relative_flops["executed"].value * whole[index == i].sum()
        for i, r in enumerate(by_band(records, cut))
    )
    assert pytest.approx(flops.sum()) == total


def test_names_are_those_of_the_paper() -> None:
    """Table 3's bands, quartiles, and percentiles for other edges."""
    length = np.arange(1, 101)
    names = {
        q: [b.name for b in length_bands(length, q)] for q in (TABLE_3, QUARTILES, (0.9, 0.99))
    }
    assert ["~Q2", "Q2~Q3", "Q3~"] == names[TABLE_3]
    assert ["~Q1", "Q1~Q2", "Q2~Q3", "Q3~"] == names[QUARTILES]
    assert ["~P90", "P90~P99", "P99~"] == names[(0.9, 0.99)]
    for methods in PAPER_TABLE_3.values():
        assert all(names[TABLE_3] == list(row) for row in methods.values())


@pytest.mark.parametrize(
    "quantiles", [(), (0.5, 0.5), (0.75, 0.5), (0.0, 0.5), (0.5, 1.0), (-1.0,)]
)
def test_impossible_quantiles_are_refused(quantiles: tuple[float, ...]) -> None:
    """None, twice the same, falling, or at the ends."""
    with pytest.raises(ValueError, match="ascend between 0 and 1"):
        length_bands(np.array([1, 2]), quantiles)
    with pytest.raises(ValueError, match="at least one length"):
        length_bands(np.array([], dtype=int))


def test_inputs_of_one_length_leave_bands_empty() -> None:
    """Cut inputs pile up at the maximum; the band above is empty, not an error."""
    records = length_runs.records(np.full(9, 32), np.full((9, 3), 16))
    found = by_band(records, length_bands(records.length))
    assert [9, 0, 0] == [r.count for r in found]
    assert found[1].metric is None
    assert {} == found[1].relative_flops


@pytest.mark.parametrize("task", ["qqp", "stsb", "mnli"])
def test_every_task_has_its_metric(task: str) -> None:
    """Accuracy where there are classes, as in Table 3; of values the headline; bounds around it."""
    random = np.random.default_rng(3)
    label = random.integers(0, 2, 90)
    prediction = np.where(random.random(90) < 0.2, 1 - label, label)
    length = length_runs.lengths(90)
    kept = length_runs.layer_lengths("ltp", length)
    made = {"label": label, "prediction": prediction, "task": task}
    records = length_runs.records(length, kept, **made)
    name = metric_name(task)
    assert ("pearson_spearman" if task == "stsb" else "accuracy") == name
    for result in by_band(records, length_bands(length)):
        chosen = (length > result.band.low) & (length <= result.band.high)
        value = TASKS[task].score(prediction[chosen], label[chosen])[name]
        assert result.metric
        assert result.metric.low <= value == result.metric.value <= result.metric.high


# --- differences ------------------------------------------------------------------------------------


def test_differences_are_paired_over_common_rows(records_folder: Path) -> None:
    """Against itself nothing; against another the difference of accuracies on the same examples."""
    ltp, lat = (length_runs.read(records_folder, n) for n in (length_runs.LTP, length_runs.LAT))
    cut = length_bands(ltp.length)
    assert all(d and (0, 0, 0) == (d.value, d.low, d.high) for d in differences(ltp, ltp, cut))
    half = np.arange(0, 120, 2)
    mine, other = (by_band(records.take(half), cut) for records in (ltp, lat))
    for found, a, b in zip(differences(ltp, lat.take(half), cut), mine, other, strict=True):
        assert found
        assert a.metric
        assert b.metric
        assert pytest.approx(a.metric.value - b.metric.value) == found.value
        assert found.low <= found.value <= found.high
    last = differences(ltp, lat, cut)[-1]
    assert last
    assert last.low > 0, "the made-up LAT errs on long inputs"


def test_differences_need_the_same_data() -> None:
    """Another task or other labels are refused; no common row is no difference."""
    length = length_runs.lengths(20)
    a = length_runs.records(length, np.repeat(length[:, None], 2, axis=1))
    cut = length_bands(length)
    elsewhere = length_runs.records(a.length, a.ffn_length, row=a.row + 1000)
    assert [None, None, None] == differences(a, elsewhere, cut)
    for changed, words in (
        (length_runs.records(a.length, a.ffn_length, task="imdb"), "is of sst2"),
        (length_runs.records(a.length, a.ffn_length, label=a.label + 1), "different data"),
    ):
        with pytest.raises(ValueError, match=words):
            differences(a, changed, cut)


# --- operating points -------------------------------------------------------------------------------

POINTS = st.dictionaries(
    st.sampled_from(["ltp", "lat", "spatten"]),
    st.dictionaries(
        st.sampled_from("abcdef"), st.integers(1, 99).map(lambda n: n / 100), max_size=5
    ),
)


@given(POINTS)
def test_matched_points_are_as_close_as_any(points: dict[str, dict[str, float]]) -> None:
    """No other choice of one run a method has a smaller spread."""
    found = match_operating_points(points)
    given_runs = {method: runs for method, runs in points.items() if runs}
    assert set(given_runs) == set(found)
    if not given_runs:
        return

    def spread(chosen: list[float]) -> float:
        return max(chosen) - min(chosen)

    best = min(
        spread(list(c)) for c in itertools.product(*(r.values() for r in given_runs.values()))
    )
    assert pytest.approx(best, abs=1e-9) == spread([points[m][run] for m, run in found.items()])


def test_a_target_takes_what_is_nearest() -> None:
    """Each method on its own; the first by name of equals."""
    points = {"ltp": {"b": 0.5, "a": 0.5, "c": 0.9}, "lat": {"d": 0.2}, "spatten": {}}
    assert {"ltp": "a", "lat": "d"} == match_operating_points(points, 0.55)
    assert {"ltp": "c", "lat": "d"} == match_operating_points(points, 1.0)
