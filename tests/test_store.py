"""The store of runs: manifests, finding, and clear sentences for what is broken."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ltp_core import store
from ltp_core.records import SCHEMA_VERSION, RunManifest
from ltp_core.store import StoreError
from tests.runs import finished_run, frames, manifest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A complete run in a store of its own."""
    return finished_run(store.run_folder(tmp_path, "sst2-ltp-0123456789"))


def test_a_manifest_comes_back_with_its_files(run: Path) -> None:
    """All fields, and size and hash of every file but the manifest."""
    found = store.read_manifest(run)
    assert dataclasses.replace(found, files=()) == manifest()
    assert {entry.name for entry in found.files} == {
        "tokenizer/tokenizer.json",
        *(f"{kind}.parquet" for kind in frames()),
    }
    for entry in found.files:
        content = (run / entry.name).read_bytes()
        assert (entry.bytes, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_hidden_files_are_not_part_of_a_run(tmp_path: Path) -> None:
    """Neither the lock nor what a killed writer left."""
    (tmp_path / ".lock").write_text("1")
    (tmp_path / ".config.json.ab.tmp").write_text("x")
    (tmp_path / ".state").mkdir()
    (tmp_path / ".state" / "optimizer").write_text("x")
    (tmp_path / "config.json").write_text("{}")
    assert [f.name for f in store.finish_run(tmp_path, manifest()).files] == ["config.json"]


def edit(run: Path, **changes: Any) -> None:
    """Changes fields of the manifest on disk; None removes one."""
    raw = json.loads((run / "manifest.json").read_bytes())
    raw = {key: value for key, value in {**raw, **changes}.items() if value is not ...}
    (run / "manifest.json").write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": SCHEMA_VERSION + 1, "task": ...}, "newer version .* update"),
        ({"schema_version": ...}, "damaged .no field 'schema_version'"),
        ({"schema_version": "1"}, "damaged .schema_version is str"),
        ({"task": ...}, "damaged .no field 'task'"),
        ({"summary": []}, "damaged .summary is list"),
        ({"seed": True}, "damaged .seed is bool"),
        ({"files": [{"name": "../x", "bytes": 1, "sha256": ""}]}, "leads out of the folder"),
        ({"files": [{"name": "/etc/x", "bytes": 1, "sha256": ""}]}, "leads out of the folder"),
        ({"files": [{"bytes": 1}]}, "damaged .no field 'name'"),
        ({"files": 3}, "damaged"),
    ],
)
def test_a_manifest_that_cannot_be_used_says_why(
    run: Path, changes: dict[str, Any], message: str
) -> None:
    """The same sentence when it is read and when runs are listed."""
    edit(run, **changes)
    with pytest.raises(StoreError, match=message) as error:
        store.read_manifest(run)
    (entry,) = store.list_runs([run.parent.parent])
    assert entry.manifest is None
    assert entry.problem == str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_no_json_object_says_so(run: Path, content: bytes) -> None:
    """Truncated, of another shape, in another encoding, or made to break the reader."""
    (run / "manifest.json").write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        store.read_manifest(run)
    assert store.list_runs([run.parent.parent])[0].problem is not None


def test_fields_of_a_later_program_are_ignored(run: Path) -> None:
    """As long as the version is ours."""
    edit(run, mood="good")
    assert store.read_manifest(run).name == "sst2-ltp-0123456789"


def test_a_whole_number_of_seconds_is_a_number(run: Path) -> None:
    """Other writers of JSON drop the `.0`."""
    edit(run, duration_s=12)
    assert store.read_manifest(run).duration_s == 12.0


def test_a_file_that_is_missing_or_cut_is_a_problem_of_its_run(run: Path) -> None:
    """The manifest is still there to be shown."""
    (run / "examples.parquet").write_bytes(b"PAR1")
    (entry,) = store.list_runs([run.parent.parent])
    assert entry.manifest is not None
    assert "examples.parquet" in str(entry.problem)
    assert "has 4 bytes" in str(entry.problem)
    (run / "examples.parquet").unlink()
    assert "is missing" in str(store.list_runs([run.parent.parent])[0].problem)


@pytest.fixture
def two_stores(tmp_path: Path) -> list[Path]:
    """A writable store and a sample, with one name in both and an incomplete run."""
    local, sample = tmp_path / "local", tmp_path / "sample"
    for name in ("sst2-ltp-aaa1", "sst2-ltp-aaa2", "imdb-ltp-bbb1"):
        finished_run(store.run_folder(local, name))
    for name in ("sst2-ltp-aaa1", "sst2-lat-ccc1", "imdb-lat-ddd1"):
        finished_run(store.run_folder(sample, name))
    store.write_json(store.run_folder(local, "imdb-lat-eee1") / "config.json", {})
    store.write_json(store.run_folder(local, "imdb-lat-ddd1") / "config.json", {})
    return [local, sample]


def test_runs_are_listed_by_name_once_and_only_complete(two_stores: list[Path]) -> None:
    """The writable store's run wins, unless only the sample's is complete."""
    entries = store.list_runs(two_stores)
    assert [entry.name for entry in entries] == [
        "imdb-lat-ddd1",
        "imdb-ltp-bbb1",
        "sst2-lat-ccc1",
        "sst2-ltp-aaa1",
        "sst2-ltp-aaa2",
    ]
    assert all(entry.problem is None for entry in entries)
    folders = {entry.name: entry.folder.parent.parent.name for entry in entries}
    assert folders["sst2-ltp-aaa1"] == "local"
    assert folders["imdb-lat-ddd1"] == "sample"


def test_incomplete_runs_are_listed_on_demand(two_stores: list[Path]) -> None:
    """With the reason, so that they can be resumed or deleted."""
    entries = {e.name: e for e in store.list_runs(two_stores, include_incomplete=True)}
    assert "not complete" in str(entries["imdb-lat-eee1"].problem)
    assert entries["imdb-lat-ddd1"].problem is None


@pytest.mark.parametrize("name", ["sst2-\x1b[31mred-1", "sst2-half\udc80-1", "sst2-\u202eback-1"])
def test_a_name_that_cannot_be_shown_is_escaped(name: str, two_stores: list[Path]) -> None:
    """It is listed with its reason, and nothing that shows it has to care."""
    store.run_folder(two_stores[0], "sst2-ltp-aaa2").rename(store.run_folder(two_stores[0], name))
    (entry,) = [entry for entry in store.list_runs(two_stores) if entry.problem]
    assert entry.name == ascii(name)[1:-1]
    assert entry.manifest is None
    assert entry.name in str(entry.problem)
    assert str(entry.problem).isprintable()


def test_a_run_is_found_by_name_prefix_or_path(two_stores: list[Path]) -> None:
    """Exact name first, then a prefix that fits one complete run, or a folder."""
    local, sample = two_stores
    expected = store.run_folder(local, "sst2-ltp-aaa1")
    assert store.find_run("sst2-ltp-aaa1", two_stores) == expected
    assert store.find_run(str(expected), two_stores) == expected
    assert store.find_run("imdb-ltp", two_stores) == store.run_folder(local, "imdb-ltp-bbb1")
    # An incomplete run beside it does not make a prefix ambiguous.
    assert store.find_run("imdb-lat", two_stores) == store.run_folder(sample, "imdb-lat-ddd1")


def test_a_name_that_begins_another_name_is_found(two_stores: list[Path]) -> None:
    """An exact name is never ambiguous."""
    folder = finished_run(store.run_folder(two_stores[0], "sst2-ltp-aaa"))
    assert store.find_run("sst2-ltp-aaa", two_stores) == folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sst2-ltp", "beginning of 2 runs, .*: sst2-ltp-aaa1, sst2-ltp-aaa2"),
        ("imdb-lat-eee1", "is not complete"),
        ("sst2-lpt-aaa1", "no run 'sst2-lpt-aaa1'; did you mean 'sst2-l"),
        ("zzz", "known are imdb-lat-ddd1, "),
        ("", "no run ''"),
        ("../../x", r"no folder '\.\./\.\./x'"),
        ("a\x00b", "no run"),
        ("x" * 5_000, "no run"),
    ],
)
def test_what_is_not_found_is_said_with_what_there_is(
    two_stores: list[Path], name: str, message: str
) -> None:
    """Ambiguous, incomplete, misspelt or absent."""
    with pytest.raises(StoreError, match=message):
        store.find_run(name, two_stores)


def test_an_empty_or_absent_store_is_no_error(tmp_path: Path) -> None:
    """A fresh machine has none."""
    (tmp_path / "file").write_text("")
    absent = [tmp_path / "absent", tmp_path, tmp_path / "file"]
    assert store.list_runs(absent) == []
    with pytest.raises(StoreError, match="there are none"):
        store.find_run("sst2", absent)


def test_the_environment_names_the_writable_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LTP_STORE first, then the committed sample; without it a folder of the checkout."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    finished_run(store.run_folder(store.default_store(), "sst2-ltp-0a0a0a"))
    sample = ROOT / "data_cache" / "sample"
    assert store.stores() == [tmp_path, sample]
    assert store.find_run("sst2-ltp-0a0a0a").parent.parent == tmp_path
    assert "sst2-ltp-0a0a0a" in {entry.name for entry in store.list_runs()}
    monkeypatch.delenv("LTP_STORE")
    assert store.stores() == [ROOT / "data_cache" / "local", sample]


def test_a_name_has_three_parts() -> None:
    """Task, method, fingerprint."""
    assert store.run_name("sst2", "ltp", "ab") == "sst2-ltp-ab"


@pytest.fixture
def crowded(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with 5,000 more runs, of which no manifest may be read."""
    runs = run.parent
    for number in range(5_000):
        (folder := runs / f"sst2-other-{number:010x}").mkdir()
        (folder / "manifest.json").touch()

    def refuse(folder: Path) -> None:
        raise AssertionError(f"{folder} was read")

    monkeypatch.setattr(store, "read_manifest", refuse)
    monkeypatch.setenv(store.STORE_VARIABLE, str(runs.parent))
    return runs


def test_finding_a_run_reads_no_manifest(crowded: Path) -> None:
    """Neither by its name nor by the beginning of it, however many others there are."""
    name = "sst2-ltp-0123456789"
    places = [crowded.parent]
    assert store.find_run(name) == crowded / name
    assert store.find_run("sst2-ltp", places) == crowded / name
    with pytest.raises(StoreError, match="5000 runs"):
        store.find_run("sst2-other", places)
    with pytest.raises(StoreError, match="no run"):
        store.find_run("sst3", places)
    with pytest.raises(StoreError, match="no folder"):
        store.find_run("/nowhere/at/all", places)


def test_a_manifest_is_parsed_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it changes: an edited, a new and a removed one are seen at the next listing."""
    read: list[Path] = []
    original = store.read_manifest

    def counted(folder: Path) -> RunManifest:
        read.append(folder)
        return original(folder)

    monkeypatch.setattr(store, "read_manifest", counted)
    place = run.parent.parent
    assert store.list_runs([place]) == store.list_runs([place])
    assert read == [run]
    edit(run, duration_s=12)
    (entry,) = store.list_runs([place])
    assert entry.manifest is not None
    assert entry.manifest.duration_s == 12.0
    second = finished_run(store.run_folder(place, "sst2-ltp-1123456789"))
    assert [e.folder for e in store.list_runs([place])] == [run, second]
    store.remove_manifest(run)
    assert [e.folder for e in store.list_runs([place])] == [second]
    assert read == [run, run, second]


def test_the_stamp_of_all_runs_changes_with_each_of_them(run: Path) -> None:
    """It is told by the folder of all runs alone, so it costs the same for thousands."""
    place = run.parent.parent
    stamps = [store.runs_stamp([place])]
    finished_run(store.run_folder(place, "sst2-ltp-1123456789"))
    stamps.append(store.runs_stamp([place]))
    store.remove_manifest(run)
    stamps.append(store.runs_stamp([place]))
    store.finish_run(run, manifest())
    stamps.append(store.runs_stamp([place]))
    assert len({*stamps}) == 4
    assert store.runs_stamp([place]) == stamps[-1]
