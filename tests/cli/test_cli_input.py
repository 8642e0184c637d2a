"""Bad input at the command line: one sentence on stderr, status 2, and nothing lost."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltp_core.cli import COMMANDS
from tests import tiny
from tests.checkpoints import PAIRS, REVIEWS, REVIEWS_DENSE
from tests.commands import Ran, run


def assert_refused(ran: Ran, *parts: str) -> None:
    """Status 2, one line on stderr with these parts, nothing on stdout."""
    assert (2, "") == (ran.status, ran.stdout), ran.stderr
    assert 1 == len(ran.stderr.splitlines()), ran.stderr
    for part in parts:
        assert part in ran.stderr


def traced(text: str, *rest: str) -> Any:
    """The document of `trace` for a text that is accepted."""
    ran = run("trace", REVIEWS, "--json", "--", text, *rest)
    assert 0 == ran.status, ran.stderr
    return json.loads(ran.stdout)


# --- texts ----------------------------------------------------------------------------------------


def test_empty_text_is_two_special_tokens(tiny_store: Path) -> None:
    """An empty text, or one of blanks, is a legal input of length 2."""
    assert ["[CLS]", "[SEP]"] == traced("")["tokens"]
    assert ["[CLS]", "[SEP]"] == traced(" \n\t ")["tokens"]


def test_ten_thousand_words_are_cut_and_it_is_said(tiny_store: Path) -> None:
    """A text beyond the encoder's longest input is cut, and the number of tokens cut off is told."""
    longest = tiny.SIZES["max_position_embeddings"]
    text = "great movie " * 5000
    found = traced(text)
    assert longest == len(found["tokens"])
    assert 10_002 - longest == found["num_cut"]
    assert f"cut off            {10_002 - longest} tokens" in run("trace", REVIEWS, text).stdout


@pytest.mark.parametrize(
    "text",
    [
        "🎬🍿 great movie 👍🏽",
        "فيلم رائع جدا",
        "סרט מצוין",
        "<script>alert('movie')</script> <b>great</b>",
        "a\0movie",
        "\x1b[31mred\x1b[0m",
        "e\u0301\u0302\u0303 \u202egnitteb\u202c \ufeff",
        "-5 stars",
        "--json",
    ],
)
def test_any_writing_is_traced(tiny_store: Path, text: str) -> None:
    """Emoji, right-to-left text, markup, control characters and leading dashes are just text."""
    found = traced(text)
    assert "[CLS]" == found["tokens"][0]
    assert "[SEP]" == found["tokens"][-1]
    shown = run("trace", REVIEWS, "--", text)
    assert 0 == shown.status
    assert {"\x1b", "\0", "\u202e"}.isdisjoint(shown.stdout), "nothing steers the terminal"


def test_bytes_that_are_no_text_are_refused(tiny_store: Path) -> None:
    """What the shell passes on as broken UTF-8 is named as such."""
    assert_refused(run("trace", REVIEWS, "movie \udcff"), "UTF-8")


def test_a_pair_task_wants_two_texts(tiny_store: Path) -> None:
    """One text for a pair task, or two for a single-text task, is refused with the reason."""
    assert_refused(run("trace", PAIRS, "a good movie"), PAIRS, "two texts")
    assert_refused(run("trace", REVIEWS, "a good movie", "a bad movie"), REVIEWS, "one text")
    both = run("trace", PAIRS, "a good movie", "the movie was good", "--json")
    assert 2 == json.loads(both.stdout)["tokens"].count("[SEP]")


# --- checkpoints ----------------------------------------------------------------------------------


def test_an_unknown_checkpoint_names_its_neighbour(tiny_store: Path) -> None:
    """A misspelt name is answered with the nearest one."""
    ran = run("evaluate", REVIEWS.replace("tomatoes", "potatoes"))
    assert_refused(ran, "potatoes", f"did you mean '{REVIEWS}'?")


def test_a_beginning_of_several_runs_is_refused(tiny_store: Path) -> None:
    """A prefix must be of one run; the answer lists them."""
    assert_refused(run("trace", "rotten_tomatoes-", "text"), REVIEWS, REVIEWS_DENSE)
    assert REVIEWS == json.loads(run("trace", REVIEWS[:-3], "text", "--json").stdout)["checkpoint"]


@pytest.fixture
def broken(tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a pruned run, in a copy of the store that the test may damage."""
    shutil.copytree(tiny_store, tmp_path / "store")
    monkeypatch.setenv("LTP_STORE", str(tmp_path / "store"))
    return tmp_path / "store" / "runs" / REVIEWS


def test_truncated_weights_are_refused(broken: Path) -> None:
    """A file that was cut short is named; the run is listed with the reason."""
    weights = broken / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    assert_refused(run("trace", REVIEWS, "text"), "model.safetensors", "cut short")
    listed = json.loads(run("runs", "--json").stdout)
    problem = next(entry["problem"] for entry in listed if entry["name"] == REVIEWS)
    assert "model.safetensors" in problem


def test_weights_of_another_shape_are_refused(broken: Path) -> None:
    """Weights that do not fit their configuration are named."""
    path = broken / "model" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "hidden_size": 32}), encoding="utf-8")
    assert_refused(run("trace", REVIEWS, "text"), "do not fit")


def test_a_newer_manifest_is_listed_with_the_reason(broken: Path) -> None:
    """A run that a newer version wrote is not lost from the list."""
    path = broken / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**manifest, "schema_version": 99}), encoding="utf-8")
    ran = run("runs")
    assert 0 == ran.status
    assert "A newer version" in ran.stdout


# --- base model and network -----------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to reach the network fails the test."""

    def refuse(*arguments: Any, **settings: Any) -> NoReturn:
        pytest.fail(f"the network was asked for {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def preset(tmp_path: Path) -> str:
    """A file that trains on the packaged data, from the default base."""
    path = tmp_path / "mine.toml"
    path.write_text('task = "rotten_tomatoes"\n[data]\ntrain_rows = 10\n', encoding="utf-8")
    return str(path)


def test_no_base_model_and_no_network_is_answered_at_once(
    broken: Path, preset: str, no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a second, with what to do; nothing is downloaded unasked."""
    import ltp_core.training.train  # noqa: F401  # importing torch is not what is timed
    from ltp_core.encoder import bases

    known = dataclasses.replace(bases.KNOWN_BASES[bases.DEFAULT_BASE], packaged=lambda: None)
    monkeypatch.delenv("LTP_ALLOW_DOWNLOADS", raising=False)
    monkeypatch.setitem(bases.KNOWN_BASES, bases.DEFAULT_BASE, known)
    monkeypatch.setattr(bases, "_cached", lambda name: None)
    began = time.perf_counter()
    assert_run_refused = run("train", preset)
    assert time.perf_counter() - began < 1
    assert "neither a folder nor in the Hugging Face cache" in assert_run_refused.stderr
    assert "pip install -r requirements.txt" in assert_run_refused.stderr
    assert 2 == assert_run_refused.status


def test_a_base_that_nobody_has_is_answered_at_once(
    broken: Path, preset: str, no_network: None
) -> None:
    """A name that is no folder and not in the cache is not looked for on the network."""
    import ltp_core.training.train  # noqa: F401  # importing torch is not what is timed

    began = time.perf_counter()
    ran = run("train", preset, "base=nobody/nothing")
    assert time.perf_counter() - began < 1
    assert 2 == ran.status
    assert "'nobody/nothing'" in ran.stderr


def test_a_base_with_another_hash_is_refused(
    broken: Path, preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default base is used only if it is the very file that results were made with."""
    from ltp_core.encoder import bases

    other = tiny.save_hugging_face("bert", tmp_path / "other")
    monkeypatch.setattr(bases, "_cached", lambda name: other)
    ran = run("train", preset)
    assert 2 == ran.status
    assert "SHA-256" in ran.stderr
    assert "53aa51172d14" in ran.stderr
    checked = run("doctor", "--json")
    assert 1 == checked.status
    assert "SHA-256" in json.loads(checked.stdout)["base"]["detail"]


# --- the store ------------------------------------------------------------------------------------


def test_a_store_of_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A home folder of a user that does not exist is named."""
    monkeypatch.setenv("LTP_STORE", "~nobody-by-this-name/store")
    ran = run("runs")
    assert 2 == ran.status
    assert "LTP_STORE" in ran.stderr
    assert "no such user" in ran.stderr


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder in which nobody can write")
def test_doctor_says_that_a_store_is_not_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also to the administrator, whom permissions do not stop."""
    monkeypatch.setenv("LTP_STORE", "/proc/store")
    found = json.loads(run("doctor", "--json").stdout)["stores"][0]
    assert ("/proc/store", False) == (found["folder"], found["writable"])
    assert "/proc/store: 0 runs, 0 GB free, not writable" in run("doctor").stdout


def test_a_store_that_cannot_be_written_is_named(
    preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is trained."""
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    monkeypatch.setenv("LTP_STORE", str(tmp_path / "file" / "store"))
    ran = run("train", preset)
    assert ran.status in (1, 2)
    assert str(tmp_path / "file") in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr


# --- settings and data ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("tusk=sst2", "did you mean 'task'?"),
        ("finetune.epocs=1", "did you mean 'epochs'?"),
        ("method.name=ltq", "ltp"),
        ("method.name=spaten", "must be one of"),
        ("task=rotten_potatoes", "did you mean 'rotten_tomatoes'?"),
        ("seed=one", "must be a whole number"),
    ],
)
def test_a_bad_setting_is_refused_before_anything_is_trained(
    broken: Path, preset: str, override: str, part: str
) -> None:
    """A typo costs a second, not a training."""
    ran = run("train", preset, override)
    assert 2 == ran.status
    assert part in ran.stderr.splitlines()[-1]
    assert not list(broken.parent.glob("*/*.parquet"))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--task", "rotten_potatoes"], "did you mean 'rotten_tomatoes'?"),
        (["--split", "tset"], "it has train, heldout, validation, test"),
        (["--task", "sst2", "--data-dir", "/nowhere/at/all"], "does not exist"),
        (["--device", "quantum"], "take --device cpu"),
        (["--device", "meta"], "take --device cpu"),
    ],
)
def test_what_is_not_there_to_evaluate_is_refused(
    tiny_store: Path, arguments: list[str], part: str
) -> None:
    """Unknown tasks, splits, folders and devices are named."""
    assert_refused(run("evaluate", REVIEWS, *arguments), part)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["evaluate", "x", "--limit", "0"], "no whole number from 1 on"),
        (["evaluate", "x", "--limit", "²"], "no whole number from 1 on"),
        (["bench", "x", "--batch-sizes", "1,,2"], "no whole number from 1 on"),
        (["trace", "x", "text", "--threshold-scale", "nan"], "no number from 0 on"),
        (["trace", "x", "text", "--threshold-scale=-1"], "no number from 0 on"),
        (["trace", "x", "text", "--runner", "fast"], "invalid choice: 'fast'"),
        (["trace", "x"], "required: TEXT"),
        (["trac"], "invalid choice: 'trac'"),
    ],
)
def test_a_usage_error_names_the_argument(arguments: list[str], part: str) -> None:
    """Argparse's own errors have status 2 too, and end with what was wrong."""
    ran = run(*arguments)
    assert (2, "") == (ran.status, ran.stdout)
    assert part in ran.stderr.splitlines()[-1]


def test_a_method_without_thresholds_cannot_scale_them(tiny_store: Path) -> None:
    """`--threshold-scale` on an unpruned checkpoint is refused, not ignored."""
    ran = run("trace", REVIEWS_DENSE, "text", "--threshold-scale", "2")
    assert_refused(ran, "no thresholds to scale")


# --- fuzz -----------------------------------------------------------------------------------------

words = st.one_of(
    st.text(max_size=30),
    st.text(st.characters(categories=["Cs", "Cc", "Cf", "Co", "Lo"]), max_size=6),
    st.sampled_from(
        ["--json", "--task", "--limit", "--split", "--", "-", "0", "1", "a=b", "seed=x"]
    ),
)
quick = [command.name for command in COMMANDS if command.name != "doctor"]


@given(command=st.sampled_from(quick) | words, rest=st.lists(words, max_size=5))
def test_no_arguments_give_a_traceback(command: str, rest: list[str]) -> None:
    """Whatever is typed, the status is 0 or 2, and errors are for people."""
    ran = run(command, *rest)
    assert ran.status in (0, 2), ran.stderr
    assert "Traceback" not in ran.stderr


@given(text=st.text(max_size=200), scale=st.floats(0, 100))
def test_no_text_gives_a_traceback(tiny_store_folder: Path, text: str, scale: float) -> None:
    """Whatever is traced, `--json` is one document with a decision about every token."""
    checkpoint = str(tiny_store_folder / "runs" / REVIEWS)
    ran = run("trace", checkpoint, "--threshold-scale", str(scale), "--json", "--", text)
    assert 0 == ran.status, ran.stderr
    found = json.loads(ran.stdout)
    assert all(len(found["tokens"]) == len(layer["retained"]) for layer in found["layers"])
