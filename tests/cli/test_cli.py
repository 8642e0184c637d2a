"""The command line: what it prints where, its exit status, and that `--json` is one document."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ltp_core.cli import COMMANDS, trace
from ltp_core.cli import main as cli
from ltp_core.cli.base import Command, Output
from ltp_core.config import load_config
from ltp_core.records import LayerTrace, Trace, UserError
from tests.checkpoints import PAIRS, REVIEWS, REVIEWS_DENSE
from tests.commands import Ran, run
from tests.source_trees import ROOT


def document(ran: Ran) -> Any:
    """The one JSON document on stdout of a command that succeeded."""
    assert 0 == ran.status, ran.stderr
    return json.loads(ran.stdout)


def command_that(run: Any) -> Command:
    """A command that takes no argument and does what `run` does."""
    return Command(
        name="probe",
        summary="probe",
        examples=("", "--json"),
        add_arguments=lambda parser: None,
        run=run,
    )


# --- help -----------------------------------------------------------------------------------------


def test_help_imports_no_torch() -> None:
    """`COMMAND --help` answers at once."""
    code = (
        "import sys\n"
        "from ltp_core.cli.main import main\n"
        "for name in sys.argv[1:]:\n"
        "    try: main([name, '--help'])\n"
        "    except SystemExit as left: assert left.code == 0\n"
        "assert not {'torch', 'transformers', 'numpy', 'pandas'} & set(sys.modules)\n"
    )
    names = [command.name for command in COMMANDS]
    done = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True
    )
    assert (0, "") == (done.returncode, done.stderr)


def test_help_shows_two_examples_that_can_be_copied() -> None:
    """The parser accepts them."""
    parser = cli.build_parser()
    for command in COMMANDS:
        shown = run(command.name, "--help")
        assert (0, "") == (shown.status, shown.stderr)
        _, _, examples = shown.stdout.partition("examples:\n")
        assert 2 == len(examples.splitlines()) == len(command.examples)
        assert all(f" {command.name}" in line for line in examples.splitlines())
        for line in command.examples:
            words = shlex.split(line.partition(">")[0])
            assert command == parser.parse_args([command.name, *words]).command


def test_help_lists_every_command() -> None:
    """`--help` names them all; no command is a usage error."""
    listed = run("--help")
    assert 0 == listed.status
    assert all(command.name in listed.stdout for command in COMMANDS)
    assert 2 == run().status


def test_options_are_not_abbreviated() -> None:
    """A script that works today works when an option is added."""
    refused = run("runs", "--jso")
    assert 2 == refused.status
    assert "unrecognized arguments: --jso" in refused.stderr


def test_options_may_stand_between_arguments() -> None:
    """`train PRESET --force seed=1` is what people type."""
    parsed = cli.build_parser().parse_args(["train", "mine", "--force", "seed=1", "hard=none"])
    assert (True, ["seed=1", "hard=none"]) == (parsed.force, parsed.overrides)


# --- streams and exit status ----------------------------------------------------------------------


def test_only_the_document_reaches_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a library prints meanwhile goes to stderr."""

    def noisy(arguments: Any) -> Output:
        sys.stdout.write("loading…")
        return Output(document={"flops": float("nan"), "text": "é"}, text="fine")

    monkeypatch.setattr(cli, "COMMANDS", (command_that(noisy),))
    ran = run("probe", "--json")
    assert {"flops": None, "text": "é"} == document(ran)
    assert "loading…" in ran.stderr
    assert "fine\n" == run("probe").stdout


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (UserError("There is no run."), 2, "ltp: There is no run.\n"),
        (UserError("two\nlines \x1b[31m"), 2, "ltp: two lines \\x1b[31m\n"),
        (ValueError("odd"), 1, "ltp: ValueError: odd (LTP_DEBUG=1 shows where).\n"),
        (
            OSError(28, "No space left on device", "/full/file"),
            1,
            "ltp: /full/file: No space left on device.\n",
        ),
        (MemoryError(), 1, "ltp: MemoryError (LTP_DEBUG=1 shows where).\n"),
        (
            KeyboardInterrupt(),
            130,
            "ltp: Interrupted: the same command takes up what was saved.\n",
        ),
    ],
)
def test_an_error_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, message: str
) -> None:
    """Bad input is 2, a failure 1, an interruption 130; never a traceback, nothing on stdout."""

    def fail(arguments: Any) -> Output:
        raise error

    monkeypatch.delenv("LTP_DEBUG", raising=False)
    monkeypatch.setattr(cli, "COMMANDS", (command_that(fail),))
    assert Ran(status=status, stdout="", stderr=message) == run("probe", "--json")


def test_a_request_to_end_is_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM says what Ctrl-C says, with the status that a shell gives it."""

    def ended(arguments: Any) -> Output:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("unreachable")

    monkeypatch.setattr(cli, "COMMANDS", (command_that(ended),))
    message = "ltp: Interrupted: the same command takes up what was saved.\n"
    assert Ran(status=143, stdout="", stderr=message) == run("probe")


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """With LTP_DEBUG=1 an unexpected error is raised."""

    def fail(arguments: Any) -> Output:
        raise ValueError("odd")

    monkeypatch.setenv("LTP_DEBUG", "1")
    monkeypatch.setattr(cli, "COMMANDS", (command_that(fail),))
    with pytest.raises(ValueError, match="odd"):
        run("probe")


def test_a_reader_that_leaves_is_no_error() -> None:
    """`… | head -1` ends quietly."""
    command = f"{sys.executable} -m ltp_core runs --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert "[" == done.stdout
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_another_encoding_gets_the_same_document(tiny_store: Path) -> None:
    """The module is the program: on stdout there is the document and nothing else.

    Where the terminal is not UTF-8, JSON is escaped and text stays readable.
    """
    for arguments in (["--json"], []):
        done = subprocess.run(
            [sys.executable, "-m", "ltp_core", "runs", "--method", "ltp", *arguments],
            cwd=ROOT,
            capture_output=True,
            env={"PYTHONIOENCODING": "ascii", "LTP_STORE": str(tiny_store), "PATH": ""},
        )
        assert (0, b"") == (done.returncode, done.stderr)
        assert REVIEWS.encode() in done.stdout
        assert not arguments or REVIEWS in [run["name"] for run in json.loads(done.stdout)]


# --- the documents --------------------------------------------------------------------------------


def test_trace_document(tiny_store: Path) -> None:
    """`trace --json` has the promised fields, and reads back as a `Trace`."""
    ran = run("trace", REVIEWS, "a warm and clever movie", "--json")
    found = document(ran)
    assert {
        "tokens",
        "token_ids",
        "layers",
        "logits",
        "probabilities",
        "label",
        "unpruned",
        "relative_flops",
        "checkpoint",
    } <= set(found)
    length = len(found["tokens"])
    assert ["[CLS]", "a", "warm", "and", "clever", "movie", "[SEP]"] == found["tokens"]
    assert 3 == len(found["layers"])
    for layer in found["layers"]:
        assert {"threshold", "score", "retained", "runs"} == set(layer)
        assert length == len(layer["score"]) == len(layer["retained"])
    assert {"logits", "probabilities", "label", "answer"} == set(found["unpruned"])
    assert found["answer"] is None
    assert {"paper", "executed"} == set(found["relative_flops"])
    assert REVIEWS == found["checkpoint"]
    assert REVIEWS == Trace.from_json(ran.stdout).checkpoint


def test_runners_give_the_same_trace(tiny_store: Path) -> None:
    """`--runner` changes how it is computed, not what comes out."""
    text = "the plot was slow but the ending was touching"
    packed, masked = (
        document(run("trace", REVIEWS, text, "--runner", name, "--json"))
        for name in ("packed", "masked")
    )
    assert packed.pop("logits") == pytest.approx(masked.pop("logits"), abs=1e-4)
    assert [layer["retained"] for layer in packed["layers"]] == [
        layer["retained"] for layer in masked["layers"]
    ]


def test_threshold_scale_moves_every_threshold(tiny_store: Path) -> None:
    """Scale 0 prunes nothing and gives the unpruned answer; 2 doubles the thresholds."""
    learned, none, double = (
        document(run("trace", REVIEWS, "a dull plot", "--threshold-scale", x, "--json"))
        for x in ("1", "0", "2")
    )
    assert none["logits"] == pytest.approx(none["unpruned"]["logits"], abs=1e-5)
    assert {"paper": 1.0, "executed": 1.0} == pytest.approx(none["relative_flops"])
    for one, two in zip(learned["layers"], double["layers"], strict=True):
        assert two["threshold"] == pytest.approx(2 * one["threshold"])


def test_trace_card_says_why_a_token_left(tiny_store: Path) -> None:
    """Without `--json` a person reads the answer, the cost and each token's fate."""
    ran = run("trace", REVIEWS, "a dull plot", "--threshold-scale", "9")
    assert 0 == ran.status
    assert "relative FLOPs" in ran.stdout
    assert "left after layer 1: " in ran.stdout
    assert "threshold 2.700" in ran.stdout


def test_a_policy_decides_before_a_layer() -> None:
    """What it compares is a probability."""
    layer = LayerTrace(threshold=0.5, score=(0.31,), retained=(False,))
    assert "left before layer 1: probability 0.310, threshold 0.500" == trace.fate(
        (layer,), 0, "probability"
    )


def test_evaluate_document(tiny_store: Path) -> None:
    """`evaluate --json` has the promised fields, with both meanings of unpruned."""
    found = document(run("evaluate", REVIEWS, "--limit", "30", "--json"))
    assert ("rotten_tomatoes", "validation", 30) == (found["task"], found["split"], found["rows"])
    assert {"accuracy"} == set(found["metrics"]) == set(found["unpruned_metrics"])
    assert {"accuracy"} == set(found["same_weights_unpruned_metrics"])
    assert {"paper", "executed"} == set(found["relative_flops"])
    assert 3 == len(found["mean_retained"])
    difference = found["metrics"]["accuracy"] - found["unpruned_metrics"]["accuracy"]
    assert found["difference"]["value"] == pytest.approx(difference)
    assert found["difference"]["low"] <= difference <= found["difference"]["high"]


def test_evaluate_in_bfloat16(tiny_store: Path) -> None:
    """The same rows in coarser numbers, which the store does not keep."""
    found = document(run("evaluate", REVIEWS, "--limit", "30", "--dtype", "bfloat16", "--json"))
    assert ("bfloat16", 30) == (found["dtype"], found["rows"])
    whole = document(run("evaluate", REVIEWS, "--limit", "30", "--json"))
    assert "float32" == whole["dtype"]
    assert abs(whole["relative_flops"]["paper"] - found["relative_flops"]["paper"]) < 0.1
    refused = run("evaluate", REVIEWS, "--dtype", "bfloat16", "--records")
    assert 2 == refused.status
    assert "float32 only" in refused.stderr


def test_evaluate_card(tiny_store: Path) -> None:
    """Without `--json` the three models stand side by side."""
    ran = run("evaluate", REVIEWS, "--task", "rotten_tomatoes", "--limit", "20")
    assert 0 == ran.status
    assert "dense counterpart" in ran.stdout
    assert "same weights, unpruned" in ran.stdout


def test_evaluate_without_its_dense_counterpart(tiny_store: Path) -> None:
    """An unpruned checkpoint has none, and its own weights unpruned are itself."""
    found = document(run("evaluate", REVIEWS_DENSE, "--limit", "20", "--json"))
    assert found["unpruned_metrics"] is None
    assert found["metrics"] == found["same_weights_unpruned_metrics"]


def test_bench_document_and_card(tiny_store: Path) -> None:
    """`bench` measures every variant at every batch size, and names the machine."""
    size = ("--batch-sizes", "1,4", "--repeats", "1", "--limit", "4", "--no-store")
    found = document(run("bench", REVIEWS, *size, "--json"))
    pairs = {(line["batch_size"], line["contender"]) for line in found["results"]}
    assert pairs == {(size, name) for size in (1, 4) for name in found["contenders"]}
    assert all(line["sequences_per_s"] > 0 for line in found["results"])
    assert "processor" in found["environment"]
    assert not (tiny_store / "benches").exists()
    card = run("bench", REVIEWS, *size)
    assert 0 == card.status
    assert "packed, unpruned" in card.stdout


def test_bench_of_all_leaves_out_who_cannot_run(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exported files take float32 only; named, they are refused with a sentence."""
    monkeypatch.setattr("ltp_core.bench.variants.cpp_compiler", lambda: None)
    size = ("--batch-sizes", "4", "--repeats", "1", "--limit", "4", "--dtype", "bfloat16")
    found = document(run("bench", REVIEWS, *size, "--variants", "all", "--no-store", "--json"))
    assert not [name for name in found["contenders"] if name.startswith(("onnx", "openvino"))]
    assert "hugging_face" in found["contenders"]
    assert 2 == run("bench", REVIEWS, *size, "--variants", "onnx").status
    # The older spelling, as in commands that were written down before.
    assert 2 == run("bench", REVIEWS, *size, "--contenders", "onnx").status


def test_bench_of_selections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bench --what topk` needs no checkpoint, and keeps its result in the store."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    size = ("--lengths", "8", "--retain-ratios", "0.5", "--repeats", "1")
    ran = run("bench", "--what", "topk", *size)
    assert 0 == ran.status, ran.stderr
    assert "top-k as a mask" in ran.stdout
    (folder,) = (tmp_path / "benches").iterdir()
    assert f"Kept in the store as {folder.name}." in ran.stdout


@pytest.mark.parametrize(
    ("what", "option"),
    [
        ("topk", ("--variants", "packed")),
        ("topk", ("--task", "sst2")),
        ("topk", ("--dtype", "bfloat16")),
        ("training", ("--limit", "3")),
        ("training", ("--full",)),
        ("training", ("--data-dir", "data")),
        ("scaling", ("--retain-ratios", "0.5")),
    ],
)
def test_bench_refuses_options_that_say_nothing_of_what_is_measured(
    what: str, option: tuple[str, ...]
) -> None:
    """By name, before anything is loaded."""
    ran = run("bench", *([] if what == "topk" else [REVIEWS]), "--what", what, *option)
    assert 2 == ran.status
    assert option[0] in ran.stderr
    assert f"--what {what}" in ran.stderr


def test_bench_scaling_takes_lengths(tiny_store: Path) -> None:
    """Its variants are method, control and baseline; its lengths may be given."""
    size = ("--lengths", "4,8", "--repeats", "1", "--limit", "2", "--no-store", "--json")
    found = document(run("bench", REVIEWS, "--what", "scaling", *size))
    assert {4, 8} == {line["length"] for line in found["results"]}
    assert ["packed", "packed_unpruned", "hugging_face_sorted"] == list(found["contenders"])


def test_events_are_lines_and_the_document_comes_last() -> None:
    """`--events`: for a program that watches; stdout holds nothing else."""
    size = ["--lengths", "8", "--retain-ratios", "0.5", "--repeats", "1", "--no-store"]
    done = subprocess.run(
        [sys.executable, "-m", "ltp_core", "bench", "--what", "topk", *size, "--events"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert ["plan", "point", "end"] == [event["event"] for event in events]
    assert events[1]["results"] == events[2]["document"]["results"]


def test_checkpoints_document(tiny_store: Path) -> None:
    """`checkpoints --json` lists name, task, method, base and bytes."""
    found = document(run("checkpoints", "--json"))
    ours = {entry["name"]: entry for entry in found}
    assert {REVIEWS, REVIEWS_DENSE, PAIRS} <= set(ours)
    assert {"name", "task", "method", "base", "bytes"} == set(ours[REVIEWS])
    assert ours[REVIEWS]["bytes"] > 1000
    assert REVIEWS in run("checkpoints").stdout
    only = document(run("checkpoints", "--task", "mrpc", "--json"))
    assert {"mrpc"} == {entry["task"] for entry in only}


def test_runs_document(tiny_store: Path) -> None:
    """`runs` lists what the store holds, and filters by task and method."""
    found = document(run("runs", "--task", "rotten_tomatoes", "--method", "ltp", "--json"))
    ours = next(entry for entry in found if entry["name"] == REVIEWS)
    assert (7, None) == (ours["seed"], ours["problem"])
    assert {"ltp"} == {entry["method"] for entry in found}
    table = run("runs", "--task", "rotten_tomatoes").stdout
    assert "90.0 %" in table
    assert "50.0 %" in table
    assert "No run.\n" == run("runs", "--task", "nothing").stdout


def test_a_printed_preset_is_the_same_run(tmp_path: Path) -> None:
    """`presets NAME > mine.toml` gives a file with every default, and the same fingerprint."""
    path = tmp_path / "short.toml"
    path.write_text('task = "sst2"\n[method]\nname = "ltp"\n[soft]\n', encoding="utf-8")
    printed = run("presets", str(path), "seed=2")
    assert 0 == printed.status
    copy = tmp_path / "full.toml"
    copy.write_text(printed.stdout, encoding="utf-8")
    assert load_config(str(path), ["seed=2"]) == load_config(str(copy))
    assert "# hard = none" in printed.stdout


def test_presets_lists_what_train_takes() -> None:
    """Each listed preset loads, and the list says which run it makes."""
    for entry in document(run("presets", "--json")):
        assert entry["run"] == load_config(entry["name"]).name


def test_doctor_document(tiny_store: Path, tmp_path: Path) -> None:
    """`doctor --json` says what is here: versions, devices, base model, data, stores."""
    found = document(run("doctor", "--data-dir", str(tmp_path), "--json"))
    assert found["base"]["found"]
    assert "sentence-transformers/all-mpnet-base-v2" == found["second_base"]["name"]
    assert found["data"]["rotten_tomatoes"]["found"]
    assert not found["data"]["sst2"]["found"]
    assert "--data-dir" in found["data"]["sst2"]["detail"]
    assert {str(tiny_store): True}.items() <= {
        entry["folder"]: entry["writable"] for entry in found["stores"]
    }.items()
    assert "torch" in found["packages"]
    assert "cpu" == found["devices"][0]


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["checkpoints"], {"numpy", "pandas", "pyarrow", "torch"}),
        (
            ["trace", REVIEWS, "a good movie"],
            {"pandas", "torch._dynamo", "transformers", "huggingface_hub"},
        ),
    ],
)
def test_answers_do_not_wait_for_imports(
    arguments: list[str], heavy: set[str], tiny_store: Path
) -> None:
    """What a command does not need takes seconds to import: a trace needs no table and no compiler."""
    code = (
        "import sys\n"
        "from ltp_core.cli.main import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        f"assert not {heavy!r} & set(sys.modules), {heavy!r} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert 0 == done.returncode, done.stderr
