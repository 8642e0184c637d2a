"""Training configurations: strict, with hints, and with an identity that only settings change."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltp_core import config as configuration
from ltp_core.config import (
    ConfigError,
    HardConfig,
    MethodSettings,
    SelectConfig,
    SoftConfig,
    StageConfig,
    TrainConfig,
    dense_config,
    from_dict,
    load_config,
    parent_config,
    preset_names,
    resolve,
    to_dict,
    to_toml,
)
from ltp_core.store import list_runs
from ltp_core.toml_writer import toml_text
from tests.source_trees import ROOT

SAMPLE = ROOT / "data_cache" / "sample"

FULL: dict[str, Any] = {
    "task": "sst2",
    "seed": 3,
    "method": {"name": "ltp", "final_threshold": 0.5},
    "data": {"max_length": 64, "train_rows": 1000},
    "adapter": {"kind": "lora", "rank": 8},
    "finetune": {"epochs": 2},
    "soft": {"epochs": 1, "target_relative_flops": 0.33, "distillation_weight": 0.5},
    "hard": {"epochs": 1.5},
}


@pytest.fixture
def preset(tmp_path: Path) -> str:
    """Path of a TOML file with `FULL`."""
    path = tmp_path / "mine.toml"
    path.write_text(toml_text(FULL), encoding="utf-8")
    return str(path)


def refusal(raw: dict[str, Any]) -> str:
    """The message with which a configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        from_dict(raw)
    return str(caught.value)


# --- strictness -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "task: this setting must be given."),
        ({"tsk": "sst2"}, "tsk: no such setting; did you mean 'task'?"),
        (
            {"task": "sst2", "soft": {"temprature": 1.0}},
            "soft.temprature: no such setting; did you mean 'temperature'?",
        ),
        (
            {"task": "sst2", "data": {"zzz": 1}},
            "data.zzz: no such setting; known are max_length, train_rows, max_train_length, "
            "heldout_rows, validation_rows, stride, train_task, unanswerable_share, heldout_by.",
        ),
        ({"task": 3}, "task = 3: must be a string."),
        ({"task": "sst2", "seed": True}, "seed = True: must be a whole number."),
        ({"task": "sst2", "seed": 1.5}, "seed = 1.5: must be a whole number."),
        ({"task": "sst2", "seed": -1}, "seed = -1: must be between 0 and 4294967295."),
        ({"task": "sst2", "soft": 1}, "soft = 1: must be a table or none."),
        ({"task": "sst2", "method": "ltp"}, "method = 'ltp': must be a table."),
        (
            {"task": "sst2", "data": {"train_rows": "many"}},
            "data.train_rows = 'many': must be a whole number or none.",
        ),
        (
            {"task": "sst2", "mixed_precision": "fp8"},
            "mixed_precision = 'fp8': must be 'no' or 'bf16' or 'fp16'.",
        ),
        (
            {"task": "sst2", "soft": {"temperature": -1}},
            "soft.temperature = -1.0: must be above 0.",
        ),
        (
            {"task": "sst2", "hard": {"target_relative_flops": 33}},
            "hard.target_relative_flops = 33.0: must be between 0 and 1.",
        ),
        (
            {"task": "sst2", "soft": {"temperature": 0.1, "final_temperature": 0.2}},
            "soft.final_temperature = 0.2: must be between 0 and 0.1.",
        ),
        (
            {"task": "sst2", "finetune": {"learning_rate": float("nan")}},
            "finetune.learning_rate = nan: must be a number.",
        ),
        (
            {"task": "sst2", "finetune": {"weight_decay": 10**400}},
            f"finetune.weight_decay = {10**400}: must be a number.",
        ),
        (
            {"task": "../up"},
            "task = '../up': must consist of lower-case letters, digits and _.",
        ),
        (
            {"task": "sst2", "method": {"name": "../up"}},
            "method.name = '../up': must consist of lower-case letters, digits and _.",
        ),
        (
            {"task": "sst2", "method": {"name": "ltp", "final_threshold": float("inf")}},
            "method.final_threshold = inf: must be a number, text or a list.",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_a_hint(raw: dict[str, Any], message: str) -> None:
    """The message names the setting and what it must be; a misspelt one, its neighbour."""
    assert message == refusal(raw)


@pytest.mark.parametrize(
    "setting",
    [
        "data.max_length",
        "data.train_rows",
        "data.max_train_length",
        "adapter.rank",
        "adapter.alpha",
        "finetune.epochs",
        "finetune.batch_size",
        "finetune.learning_rate",
        "soft.final_temperature",
        "soft.target_relative_flops",
        "hard.target_relative_flops",
    ],
)
def test_zero_is_refused_where_it_makes_no_sense(preset: str, setting: str) -> None:
    """Sizes, lengths and rates are above 0."""
    with pytest.raises(ConfigError, match=f"^{setting} = 0(.0)?: must be above 0.$"):
        load_config(preset, [f"{setting}=0"])


def test_a_whole_number_passes_as_a_float() -> None:
    """`epochs = 2` is 2.0, and has the fingerprint of 2.0."""
    whole = from_dict({"task": "sst2", "finetune": {"epochs": 2}})
    assert from_dict({"task": "sst2", "finetune": {"epochs": 2.0}}) == whole
    assert isinstance(whole.finetune.epochs, float)


# --- files and overrides --------------------------------------------------------------------------


def test_a_file_is_read_as_written(preset: str) -> None:
    """A TOML file gives the configuration of its plain values."""
    assert from_dict(FULL) == load_config(preset)


def test_overrides_change_the_file(preset: str) -> None:
    """`key=value` sets one value in any table, new tables too."""
    changed = load_config(
        preset,
        ["seed=7", "soft.epochs=2", "method.final_threshold=1", "adapter.kind=full", "hard=none"],
    )
    assert (7, 2.0, "full", None) == (
        changed.seed,
        changed.soft and changed.soft.epochs,
        changed.adapter.kind,
        changed.hard,
    )
    assert {"final_threshold": 1} == changed.method.settings


def test_none_takes_a_setting_back_to_its_default(preset: str) -> None:
    """`key=none` removes what the file sets."""
    assert load_config(preset, ["data.train_rows=none"]).data.train_rows is None
    assert load_config(preset, ["adapter.rank=none"]).adapter.rank == 16


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "'seed': write overrides as key=value."),
        ("=3", "'=3': write overrides as key=value."),
        ("seed.x=3", "seed.x: seed is not a table."),
        ("soft.epoch=3", "soft.epoch: no such setting; did you mean 'epochs'?"),
        ("seed=three", "seed = 'three': must be a whole number."),
        ("seed=1\ntask='x'", "seed = \"1\\ntask='x'\": must be a whole number."),
    ],
)
def test_a_bad_override_is_refused(preset: str, override: str, message: str) -> None:
    """An override is checked as strictly as a file, and sets one value only."""
    with pytest.raises(ConfigError) as caught:
        load_config(preset, [override])
    assert message == str(caught.value)


def test_a_misspelt_preset_names_its_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown preset is answered with the nearest name."""
    monkeypatch.setattr(configuration, "PRESETS", tmp_path)
    (tmp_path / "sst2_ltp.toml").write_text('task = "sst2"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"no preset 'sst2_ltq'; did you mean 'sst2_ltp'\?"):
        load_config("sst2_ltq")
    with pytest.raises(ConfigError, match=r"no preset '\.\./sst2_ltp'"):
        load_config("../sst2_ltp")


@pytest.mark.parametrize(
    "content", [b"task = ", b"\xff\xfe", b"x = " + b"[" * 5000, b"x = " + b"9" * 5000]
)
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    """Broken syntax, another encoding, bottomless nesting and endless digits are errors, no crash."""
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read as TOML"):
        load_config(str(path))


@pytest.mark.parametrize("path", ["absent.toml", "nul\0.toml", "x" * 5000 + ".toml"])
def test_a_file_that_is_not_there_is_refused(path: str) -> None:
    """So are names that no file can have."""
    with pytest.raises(ConfigError):
        load_config(path)


def test_every_preset_loads_and_says_what_it_is() -> None:
    """The shipped presets are valid, and each makes another run."""
    names = [load_config(name).name for name in preset_names()]
    assert len(set(names)) == len(names)


# --- identity -------------------------------------------------------------------------------------


def test_fingerprint_is_the_hash_of_what_is_not_default() -> None:
    """It covers every setting that was changed and nothing else, so a new setting moves no run."""
    config = TrainConfig(
        task="sst2",
        finetune=StageConfig(epochs=2),
        soft=SoftConfig(),
        method=MethodSettings(name="ltp", settings={"final_threshold": 0.5}),
    )
    identity = {
        "task": "sst2",
        "finetune": {"epochs": 2.0},
        "soft": {},
        "method": {"name": "ltp", "final_threshold": 0.5},
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    assert f"sst2-ltp-{digest[:10]}" == config.name


def test_settings_that_stand_at_their_default_do_not_count() -> None:
    """Left out, written out, and written as a whole number: one run."""
    written = from_dict(json.loads(json.dumps(to_dict(TrainConfig(task="sst2")))))
    assert TrainConfig(task="sst2").fingerprint == written.fingerprint
    two = [TrainConfig(task="sst2", finetune=StageConfig(epochs=value)) for value in (2, 2.0)]
    assert two[0].fingerprint == two[1].fingerprint


@pytest.mark.parametrize(
    ("method", "ways"),
    [
        ("ltp", [["final_threshold=1"], ["final_threshold=1.0"]]),
        ("ltp", [[], ["final_threshold=0.64"], ["protect_first=true", 'score_mean="live"']]),
        ("ltp", [["final_threshold=0"], ["final_threshold=-0.0"]]),
        ("manual", [["final_threshold=none"], ["final_threshold=0.64"]]),
        ("shallow", [[], ["layers=3"], ["layers=3", "protect_separators=false"]]),
        ("spatten", [["final_ratio=-1"], ["final_ratio=-1.0", "cumulative=false"]]),
        ("power_bert", [[], ["lengths=[]"]]),
    ],
)
def test_one_run_has_one_name(method: str, ways: list[list[str]]) -> None:
    """A whole number for a fraction, and a default that is stated, are no other run."""
    names = {
        load_config(
            "sst2_ltp",
            [
                f"method.name={method}",
                "method.final_threshold=none",
                *(f"method.{setting}" for setting in settings),
            ],
        ).name
        for settings in ways
    }
    assert len(names) == 1


def test_settings_of_shipped_runs_are_written_in_the_one_way() -> None:
    """So a run that is asked for again, however its settings are written, is found in the store."""
    for entry in list_runs([SAMPLE]):
        assert entry.manifest is not None
        assert resolve(from_dict(entry.manifest.config)).name == entry.name


def shuffled(table: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The same table with its keys in any order, at both levels."""
    items = {k: shuffled(v) if isinstance(v, dict) else st.just(v) for k, v in table.items()}
    return st.permutations(list(items)).flatmap(
        lambda keys: st.fixed_dictionaries({key: items[key] for key in keys})
    )


@given(shuffled(FULL))
def test_fingerprint_does_not_see_the_order_of_keys(raw: dict[str, Any]) -> None:
    """Two files with the same settings are the same run."""
    assert from_dict(FULL).fingerprint == from_dict(raw).fingerprint


@pytest.mark.parametrize(
    "change",
    ["seed=4", "task=rte", "soft.epochs=1.5", "method.final_threshold=0.6", "hard=none"],
)
def test_fingerprint_sees_every_setting(preset: str, change: str) -> None:
    """Another setting is another run."""
    assert load_config(preset).fingerprint != load_config(preset, [change]).fingerprint


def test_defaults_written_out_are_the_same_run() -> None:
    """A file with every default has the fingerprint of the file without them."""
    config = from_dict(FULL)
    assert config == from_dict(json.loads(json.dumps(to_dict(config))))
    assert config == from_dict(tomllib.loads(to_toml(config)))


# --- relatives ------------------------------------------------------------------------------------


def test_parent_is_the_finetuned_model() -> None:
    """A run with stages starts from the finetuned model of the same data, seed and adapter."""
    config = from_dict(FULL)
    parent = parent_config(config)
    assert replace(config, method=MethodSettings(), soft=None, hard=None) == parent
    assert parent is not None
    assert parent_config(parent) is None


def test_dense_counterpart_trains_as_long() -> None:
    """It has the same epochs, rates and distillation, and neither method nor budget."""
    config = from_dict(FULL)
    dense = dense_config(config)
    assert dense is not None
    assert "unpruned" == dense.method.name
    assert SoftConfig(epochs=1, distillation_weight=0.5) == dense.soft
    assert HardConfig(epochs=1.5) == dense.hard
    assert parent_config(config) == parent_config(dense)
    assert dense_config(dense) is None


def test_a_choice_after_training_starts_from_the_trained_run() -> None:
    """LAT searches its own trained model; calibration starts from the dense counterpart."""
    trained = replace(from_dict(FULL), method=MethodSettings(name="lat"))
    chosen = replace(trained, select=SelectConfig(target_relative_flops=0.4))
    assert parent_config(chosen) == trained
    assert dense_config(chosen) == dense_config(trained)
    calibrated = replace(chosen, method=MethodSettings(name="calibrated"))
    assert parent_config(calibrated) == dense_config(trained)


# --- fuzz -----------------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(["ltp", "lora", "sst2", "no", "softmax"]),
)
keys = st.one_of(
    st.text(),
    st.sampled_from([*to_dict(TrainConfig(task="x")), "epochs", "temperature", "name", "rank"]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=12
)


@given(st.dictionaries(keys, values))
def test_any_table_is_a_configuration_or_refused(raw: dict[str, Any]) -> None:
    """Whatever stands in a file, the answer is a configuration or a `ConfigError`."""
    with contextlib.suppress(ConfigError):
        config = from_dict({"task": "sst2", **raw})
        assert config == from_dict(tomllib.loads(to_toml(config)))
        assert len(config.fingerprint) == 10


@given(st.lists(st.one_of(st.text(), st.builds("{}={}".format, keys, st.text())), max_size=4))
def test_any_overrides_give_a_configuration_or_are_refused(overrides: list[str]) -> None:
    """Whatever is typed after the preset, the answer is a configuration or a `ConfigError`."""
    raw: dict[str, Any] = {"task": "sst2"}
    with contextlib.suppress(ConfigError):
        for override in overrides:
            configuration.apply_override(raw, override)
        assert from_dict(raw).name


plain = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), plain, max_size=4))
def test_written_toml_reads_back(table: dict[str, Any]) -> None:
    """What the writer writes, the standard library reads as the same values."""
    assert table == tomllib.loads(toml_text(table))
