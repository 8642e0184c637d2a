"""Builders of small complete checkpoints in a store, for tests of everything that loads one."""

from __future__ import annotations

from pathlib import Path

from tests import runs, tiny

REVIEWS = "rotten_tomatoes-ltp-0123456789"
REVIEWS_DENSE = "rotten_tomatoes-unpruned-0123456789"
PAIRS = "mrpc-ltp-0123456789"
QUESTIONS = "squad_v2-ltp-0123456789"

LABELS = {
    "rotten_tomatoes": ("negative", "positive"),
    "mrpc": ("not_equivalent", "equivalent"),
}


def save_run(store_folder: Path, name: str, *, dense: str | None = None) -> Path:
    """A complete run with a tiny random model and its tokenizer, and without tables.

    Args:
        store_folder: Store that receives it.
        name: `<task>-<method>-<fingerprint>`; method ltp or unpruned.
        dense: Name of its dense counterpart.
    """
    from ltp_core import store
    from ltp_core.checkpoint import save_pruning
    from ltp_core.pruning import LearnedTokenPruning, LTPConfig, Unpruned

    task, method_name, _ = name.split("-")
    folder = store.run_folder(store_folder, name)
    tiny.save_hugging_face("bert", folder / "model", seed=len(name), num_labels=2)
    is_pruned = method_name == "ltp"
    method = LearnedTokenPruning(LTPConfig(final_threshold=0.9), 3)
    save_pruning(
        folder,
        method if is_pruned else Unpruned.neutral(3),
        task=task,
        label_names=LABELS[task],
        max_length=32,
        base={"name": "tiny", "sha256": None},
        dense=dense,
    )
    summary = {"validation": {"metrics": {"accuracy": 0.9}, "relative_flops": {"paper": 0.5}}}
    store.finish_run(folder, runs.manifest(name, dense=dense, summary=summary))
    return folder


def save_store(store_folder: Path) -> Path:
    """A store with a pruned and a dense model for reviews, and a pruned one for pairs."""
    save_run(store_folder, REVIEWS, dense=REVIEWS_DENSE)
    save_run(store_folder, REVIEWS_DENSE)
    save_run(store_folder, PAIRS)
    return store_folder


def save_questions(store_folder: Path) -> Path:
    """A complete run with a tiny random model that finds answers in windows of 24 tokens."""
    from ltp_core import store
    from ltp_core.checkpoint import save_pruning
    from ltp_core.pruning import LearnedTokenPruning, LTPConfig
    from ltp_core.records import QuestionSettings

    folder = store.run_folder(store_folder, QUESTIONS)
    tiny.save_hugging_face("bert", folder / "model", kind="ForQuestionAnswering", seed=2)
    save_pruning(
        folder,
        LearnedTokenPruning(LTPConfig(final_threshold=0.9), 3),
        task="squad_v2",
        label_names=("start", "end"),
        max_length=24,
        base={"name": "tiny", "sha256": None},
        dense=None,
        questions=QuestionSettings(stride=6, null_threshold=1e6),
    )
    summary = {"validation": {"metrics": {"f1": 0.6}, "relative_flops": {"paper": 0.5}}}
    store.finish_run(folder, runs.manifest(QUESTIONS, summary=summary))
    return folder
