"""A checkpoint as one directory that every command takes on another machine."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltp_core import store
from ltp_core.checkpoint import NO_TASK, base_record, save_pruning
from ltp_core.checkpoint_places import PRUNING_FILE, weights_folder
from ltp_core.encoder.saving import save_encoder
from ltp_core.files import atomic_write, not_written, replace_folder
from ltp_core.pruning import load_method
from ltp_core.records import RunManifest, UserError

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel

CARD = "README.md"
CURVE = "curve.parquet"


def export_folder(
    model: PrunedModel, source: Path | None, folder: Path, *, is_adapter: bool = False
) -> None:
    """Writes weights, thresholds, tokenizer, label names, records and a model card; whole or not at all.

    Args:
        model: Loaded checkpoint.
        source: Its folder; None where it was made in memory, and has no records.
        folder: Where to; a folder that is there is replaced.
        is_adapter: Write the adapter alone, which needs its base model on the other machine.

    Raises:
        UserError: A file is there, or a folder that holds the checkpoint itself or this process's
            working directory; there is no adapter; or the disk does not take a file.
    """
    folder = folder.absolute()
    _check_place(folder, source)
    place = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    # The records are of the strength that was trained; what prunes otherwise has none.
    manifest = _manifest(source) if source and _is_as_stored(model, source) else None
    try:
        place.mkdir(parents=True)
        if is_adapter:
            adapter = weights_folder(source) / "adapter" if source else None
            if adapter is None or not adapter.is_dir():
                raise UserError(
                    f"{model.name} has no adapter but all weights: leave --adapter out."
                )
            shutil.copytree(adapter, place / "adapter")
        else:
            save_encoder(
                model.encoder,
                place / "model",
                label_names=model.label_names,
                is_multi_label=model.is_multi_label,
            )
            model.tokenizer.save(str(place / "model" / "tokenizer.json"))
        save_pruning(
            place,
            model.method,
            task=model.task or NO_TASK,
            label_names=model.label_names,
            max_length=model.max_length,
            base=base_record(model, source),
            dense=model.dense,
            questions=model.questions,
            is_multi_label=model.is_multi_label,
            input_scales=model.input_scales,
        )
        card = model_card(model, manifest, is_adapter=is_adapter)
        atomic_write(place / CARD, card.encode())
        if source and manifest:
            store.write_json(place / "config.json", manifest.config)
            if (source / CURVE).is_file():  # a budget is looked up in it
                shutil.copy(source / CURVE, place / CURVE)
            store.finish_run(place, manifest)
        if folder.exists():
            replace_folder(folder, place)
        else:
            place.rename(folder)
    except OSError as error:
        raise not_written(folder, error) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _check_place(folder: Path, source: Path | None) -> None:
    """Refuses to replace what is no folder, or what holds more than an export."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder.")
    if folder.exists() and any(folder.iterdir()) and not (folder / PRUNING_FILE).is_file():
        raise UserError(
            f"{folder} holds something else than an exported checkpoint: empty it, or name another."
        )
    for kept, what in ((source, "the checkpoint itself"), (Path.cwd(), "the working directory")):
        if kept and kept.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{folder} holds {what}, which would be deleted: name another folder.")


def _is_as_stored(model: PrunedModel, source: Path) -> bool:
    """Whether it prunes as the folder says, and no budget changed that."""
    path = source / PRUNING_FILE
    if not path.is_file():
        return True
    stored = load_method(json.loads(path.read_bytes())["method"])
    return stored.state_json() == model.method.state_json()


def _manifest(source: Path) -> RunManifest | None:
    """The records of the run; None for a folder from elsewhere."""
    try:
        return store.read_manifest(source)
    except store.StoreError:
        return None


def model_card(model: PrunedModel, manifest: RunManifest | None, *, is_adapter: bool) -> str:
    """What it is, how it is used, and what was measured, in Markdown."""
    method, kind = model.method, "question-answering" if model.questions else "text-classification"
    thresholds = [method.threshold(i) for i in range(method.num_layers)]
    known = [f"{x:.3f}" for x in thresholds if x is not None]
    lines = [
        "---",
        f"pipeline_tag: {kind}",
        f"base_model: {Path(model.base).name if Path(model.base).is_absolute() else model.base}",
        "---",
        f"# {model.name}",
        "",
        f"A transformer encoder that removes tokens while it reads ({method.name}), for "
        f"{model.task or 'a task of its own'}.",
        "",
        f"- labels: {', '.join(model.label_names) or 'a value'}"
        f"{' (independent)' if model.is_multi_label else ''}",
        f"- longest input: {model.max_length} tokens; longer ones are cut",
        f"- thresholds by layer, times uniform attention: {', '.join(known) or 'none'}",
        f"- weights: {'an adapter of the base model, which is needed besides' if is_adapter else 'all'}",
        "",
        "## Use",
        "",
        "```bash",
        "python -m ltp_core predict FOLDER reviews.csv --text review --out scored.csv",
        "```",
        "",
        "```python",
        "import ltp_core",
        "",
        'classifier = ltp_core.load("FOLDER")',
        "```",
    ]
    if not is_adapter:
        lines += ["", "In `transformers` the folder `model/` opens, too, and runs unpruned."]
    return "\n".join([*lines, "", "## Measured", "", *_measured(model, manifest), ""])


def _measured(model: PrunedModel, manifest: RunManifest | None) -> list[str]:
    """Lines on what the run's records say; never a figure of anything else."""
    results = {
        split: result
        for split, result in (manifest.summary if manifest else {}).items()
        if isinstance(result, dict) and "relative_flops" in result
    }
    if manifest is None or not results:
        return ["Nothing: `python -m ltp_core evaluate FOLDER --task TASK` measures it."]
    dense = _dense_results(model)
    lines = [
        "| rows | number | metric | here | dense counterpart | FLOPs, paper's accounting | executed |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for split, result in results.items():
        flops = result["relative_flops"]
        name, value = next(iter(result.get("metrics", {}).items()), ("–", None))
        other = dense.get(split, {}).get("metrics", {}).get(name)
        cells = [
            split,
            f"{result['rows']:,}" if "rows" in result else "–",
            name,
            *(f"{x:.4f}" if x is not None else "–" for x in (value, other)),
            *(f"{x:.3f}" if x is not None else "–" for x in map(flops.get, ("paper", "executed"))),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    sources = {split: about.get("source") for split, about in manifest.dataset.items()}
    lines += [
        "",
        "FLOPs are fractions of the same model unpruned and without padding. The dense counterpart is "
        "finetuned in the same way and never pruned.",
        "",
        *(f"- {split}: {source}" for split, source in sources.items() if source),
        f"- made on {manifest.created_at} as run {manifest.name}; its settings are in `config.json`",
    ]
    return lines


def _dense_results(model: PrunedModel) -> dict[str, Any]:
    """The summary of the dense counterpart, where the store has it."""
    if model.dense is None:
        return {}
    try:
        return dict(store.read_manifest(store.find_run(model.dense)).summary)
    except store.StoreError:
        return {}
