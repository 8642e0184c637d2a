"""A calibrated checkpoint as a run of its own: the source's weights, other thresholds, what was found."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ltp_core import environment, store
from ltp_core.calibration.calibrate import Calibration
from ltp_core.checkpoint import NO_TASK, PrunedModel, base_record, save_pruning
from ltp_core.checkpoint_places import weights_folder
from ltp_core.config import SelectConfig
from ltp_core.encoder.saving import save_encoder
from ltp_core.flops import DecisionCost
from ltp_core.records import RunManifest, UserError
from ltp_core.tasks.own_texts import OwnTexts

METHOD = "calibrated"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for; its hash names the run.

    Attributes:
        model: The checkpoint.
        source: Its folder.
        texts: What to calibrate on.
        file_name: Where they come from, without its folder.
        select: Budget and size of the search.
    """

    model: PrunedModel
    source: Path
    texts: OwnTexts
    file_name: str
    select: SelectConfig

    @property
    def task(self) -> str:
        """The checkpoint's task."""
        return self.model.task or NO_TASK

    @property
    def data(self) -> dict[str, Any]:
        """The texts, without one of them."""
        return {
            "source": self.file_name,
            "columns": list(self.texts.columns),
            "rows": len(self.texts.texts),
            "total_rows": self.texts.total,
            "left_out_rows": self.texts.left_out,
            "sha256": self.texts.sha256,
        }

    @property
    def fingerprint(self) -> str:
        """First 10 hex digits of a SHA-256 over weights, settings and texts."""
        identity = [self.model.weights_sha256, asdict(self.select), self.texts.sha256]
        text = json.dumps([self.model.name, *identity], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def name(self) -> str:
        """Name of the run."""
        task = re.sub(r"[^a-z0-9_]+", "_", self.task.lower())
        return store.run_name(task, METHOD, self.fingerprint)


def destination(request: Request, output: Path | None) -> Path:
    """Folder of the new checkpoint.

    Raises:
        UserError: The folder that was asked for is there already.
    """
    folder = output or store.run_folder(store.default_store(), request.name)
    if output is not None and folder.exists():
        raise UserError(f"{str(folder)!r} is there already: name a new folder with --output.")
    return folder


def save(request: Request, found: Calibration, folder: Path, *, duration_s: float) -> RunManifest:
    """Writes the checkpoint, its manifest last.

    Raises:
        StoreError: The disk does not take a file, or another process writes the same run.
    """
    model = request.model
    try:
        parent = store.read_manifest(request.source)
    except store.StoreError:
        parent = None
    # The counterpart is the source itself if it is an unpruned run.
    dense = parent.name if parent and parent.method == "unpruned" else model.dense
    base = base_record(model, request.source)
    # What deciding costs is no matter of the weights: these thresholds compute nothing for it.
    deciding = DecisionCost.from_json(base).to_json()
    base = {key: value for key, value in base.items() if key not in deciding}
    inherited = parent.config if parent else {"task": request.task, "base": model.base}
    config = {**inherited, "method": {"name": METHOD}, "select": asdict(request.select)}
    with store.lock_run(folder):
        try:
            _save_weights(request, folder)
        except (OSError, SafetensorError) as error:
            raise store.StoreError(
                f"{folder} cannot be written ({error}): make room or name another folder with --output."
            ) from error
        save_pruning(
            folder,
            found.method,
            task=request.task,
            label_names=model.label_names,
            max_length=model.max_length,
            base=base,
            dense=dense,
            is_multi_label=model.is_multi_label,
            input_scales=model.input_scales,
        )
        store.write_json(folder / "config.json", config)
        store.write_table(folder, "candidates", found.frame())
        manifest = RunManifest(
            name=folder.name,
            task=request.task,
            method=METHOD,
            fingerprint=request.fingerprint,
            status="complete",
            config=config,
            seed=parent.seed if parent else 0,
            git=environment.git_state(),
            packages=environment.packages(),
            hardware=environment.hardware(str(model.device)),
            dataset={"calibration": request.data},
            base=base,
            parent=parent.name if parent else None,
            dense=dense,
            # Measured on the texts that it was chosen on.
            summary={
                "calibration": {
                    "rows": request.data["rows"],
                    "target_relative_flops": request.select.target_relative_flops,
                    "relative_flops": found.chosen.relative_flops,
                    "divergence": found.chosen.divergence,
                    "agreement": found.chosen.agreement,
                    "protects_separators": found.chosen.protects_separators,
                    "thresholds": [
                        found.method.threshold(i) for i in range(found.method.num_layers)
                    ],
                    "tried": found.tried,
                    "cut_rows": found.cut_rows,
                }
            },
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            duration_s=round(duration_s, 1),
        )
        return store.finish_run(folder, manifest)


def _save_weights(request: Request, folder: Path) -> None:
    """The adapter as it is; else all weights and the tokenizer."""
    adapter = weights_folder(request.source) / "adapter"
    if adapter.is_dir():
        shutil.copytree(adapter, folder / "adapter", dirs_exist_ok=True)
        return
    model = request.model
    save_encoder(
        model.encoder,
        folder / "model",
        label_names=model.label_names,
        is_multi_label=model.is_multi_label,
    )
    model.tokenizer.save(str(folder / "model" / "tokenizer.json"))
