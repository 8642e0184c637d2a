"""Hand-made traces for the app's pure functions, and a store for its pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltp_core.records import LayerTrace, Prediction, Trace

if TYPE_CHECKING:
    from ltp_core.pruning import PruningMethod

TOKENS = ("[CLS]", "slow", "beaut", "##iful", ",", "[SEP]")
WORDS = (None, 0, 1, 1, 2, None)
THRESHOLDS = (0.2, 0.38, 0.5)
SCORES: tuple[tuple[float | None, ...], ...] = (
    (3.0, 0.5, 0.8, 0.6, 0.1, 1.0),
    (2.5, 0.31, 0.39, 0.7, None, 1.1),
    (0.4, None, 0.45, 1.2, None, 0.95),
)


def trace(
    tokens: Sequence[str] = TOKENS,
    scores: Sequence[Sequence[float | None]] = SCORES,
    thresholds: Sequence[float | None] = THRESHOLDS,
    *,
    num_cut: int = 0,
) -> Trace:
    """A trace in which a token stays while its score exceeds the threshold; the first is protected."""
    layers = tuple(
        LayerTrace(
            threshold=threshold,
            score=tuple(row),
            retained=tuple(
                s is not None and (i == 0 or threshold is None or s > threshold)
                for i, s in enumerate(row)
            ),
        )
        for row, threshold in zip(scores, thresholds, strict=True)
    )
    return Trace(
        tokens=tuple(tokens),
        token_ids=tuple(range(len(tokens))),
        layers=layers,
        logits=(-1.0, 1.0),
        probabilities=(0.119, 0.881),
        label="positive",
        unpruned=Prediction(logits=(-1.2, 1.2), probabilities=(0.083, 0.917), label="positive"),
        relative_flops={"paper": 0.62, "executed": 0.58},
        checkpoint="sst2-ltp-0123456789",
        num_cut=num_cut,
    )


def long_trace(length: int, num_layers: int = 6) -> Trace:
    """A trace of many tokens, of which one in `layer + 2` leaves after each layer."""
    tokens = ("[CLS]", *(f"word{i}" for i in range(length - 2)), "[SEP]")
    live, scores = set(range(length)), []
    for layer in range(num_layers):
        leaving = {i for i in live if i and i % (num_layers + 2) == layer + 1}
        scores.append(
            [None if i not in live else 0.1 if i in leaving else 2.0 for i in range(length)]
        )
        live -= leaving
    return trace(tokens, scores, [0.5] * num_layers)


CHARACTERS = (
    "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()[]{}<>/\\=+-*&%$#@_|~^`"
    "שלוםעברית" + "مرحبابالعالم" + "日本語映画中文" + "éüñ" + "🙂🎬"
)
"""What the tokenizer of `save_store` knows by character; everything else is unknown to it."""


def character_tokenizer(folder: Path) -> None:
    """Replaces a model's tokenizer: common words whole, all others character by character."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    from tests import tiny

    pieces = dict.fromkeys(CHARACTERS)
    entries = [*tiny.SPECIAL_TOKENS["bert"], *tiny.WORDS]
    entries += [c for c in pieces if c not in entries] + [f"##{c}" for c in pieces]
    vocab = {entry: index for index, entry in enumerate(entries)}
    made = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=400))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(list(tiny.SPECIAL_TOKENS["bert"]))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    made.save(str(folder / "tokenizer.json"))


def make_elastic(folder: Path, split: str = "heldout") -> None:
    """Lets a run pass for one that was trained for any budget, with a curve of three strengths."""
    import dataclasses

    import pandas as pd

    from ltp_core import store

    points = {"factor": [0.0, 0.5, 1.0], "metric": [0.9, 0.89, 0.8]}
    costs = [1.0, 0.8, 0.496]
    shares = {f"relative_flops_{accounting}": costs for accounting in ("paper", "executed")}
    frame = pd.DataFrame({"split": split, "rows": 10, **points, **shares})
    store.write_table(folder, "curve", frame)
    manifest = store.read_manifest(folder)
    config = {**manifest.config, "hard": {"elastic": True}}
    store.finish_run(folder, dataclasses.replace(manifest, config=config))


MOVIES = "sst2-ltp-00000000aa"
SPATTEN = "sst2-spatten-00000000aa"
LAT = "sst2-lat-00000000aa"
SHALLOW = "sst2-shallow-00000000aa"
MOVIES_DENSE = "sst2-unpruned-00000000aa"
LONG = "imdb-ltp-00000000aa"
PAIRS = "mrpc-ltp-00000000aa"
ORPHAN = "rte-ltp-00000000aa"
_LABELS = {
    "sst2": ("negative", "positive"),
    "imdb": ("negative", "positive"),
    "mrpc": ("not_equivalent", "equivalent"),
    "rte": ("entailment", "not_entailment"),
}


def pruning_method(name: str) -> PruningMethod:
    """A method of three layers that drops something, or leaves out the last layer."""
    from ltp_core.pruning import METHODS, LengthAdaptive
    from ltp_core.pruning.ltp import LTPConfig
    from ltp_core.pruning.shallow import ShallowConfig
    from ltp_core.pruning.spatten import SpAttenConfig

    if name == "lat":
        return LengthAdaptive.neutral(3).with_lengths((9, 6, 3))
    configs: dict[str, Any] = {
        "ltp": LTPConfig(final_threshold=0.9),
        "spatten": SpAttenConfig(final_ratio=0.3, keep_layers=1),
        "shallow": ShallowConfig(layers=2),
    }
    if name in configs:
        return METHODS[name](configs[name], 3)
    return METHODS[name].neutral(3)


def save_run(
    store_folder: Path, name: str, *, max_length: int = 64, dense: str | None = None
) -> Path:
    """A complete run with a random model that knows `CHARACTERS`."""
    from ltp_core import store
    from ltp_core.checkpoint import save_pruning
    from tests import runs, tiny

    task, method, _ = name.split("-")
    folder = store.run_folder(store_folder, name)
    size = 5 + len(tiny.WORDS) + 2 * len(CHARACTERS)
    tiny.save_hugging_face(
        "bert",
        folder / "model",
        seed=3,
        num_labels=2,
        vocab_size=size,
        max_position_embeddings=512,
    )
    character_tokenizer(folder / "model")
    save_pruning(
        folder,
        pruning_method(method),
        task=task,
        label_names=_LABELS[task],
        max_length=max_length,
        base={"name": "tiny", "sha256": None},
        dense=dense,
    )
    store.finish_run(folder, runs.manifest(name, dense=dense))
    return folder


def save_store(store_folder: Path) -> Path:
    """A store: reviews by several methods, long reviews, pairs, and a lost dense counterpart."""
    save_run(store_folder, MOVIES, dense=MOVIES_DENSE)
    save_run(store_folder, MOVIES_DENSE)
    save_run(store_folder, SPATTEN)
    save_run(store_folder, SHALLOW)
    save_run(store_folder, LONG, max_length=512)
    save_run(store_folder, PAIRS, max_length=128)
    save_run(store_folder, ORPHAN, dense="rte-unpruned-gone000000")
    return store_folder
