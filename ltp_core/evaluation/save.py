"""An evaluation as a run of the store, so that the app's pages show one's own checkpoint and data."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltp_core import environment, store
from ltp_core.records import RunManifest, UserError

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel
    from ltp_core.inference import Evaluation
    from ltp_core.token_categories import KindCounter


def save_evaluation(
    model: PrunedModel,
    result: Evaluation,
    counter: KindCounter,
    *,
    limit: int | None = None,
    destination: Path | None = None,
) -> Path:
    """Writes the records of an evaluation as a run without weights; nothing where it is there.

    The run's name follows from weights, method and data. Its configuration is that of the checkpoint's own
    run where there is one, and under `evaluation` what was evaluated.

    Args:
        model: What was evaluated.
        result: What came out.
        counter: The counts of token kinds of the same pass.
        limit: Rows that were asked for, or None.
        destination: Store that receives it; None takes the one that is written to.

    Returns:
        The run's folder.

    Raises:
        StoreError: The disk does not take it, or another process is writing it.
    """
    about = {
        "checkpoint": model.name,
        "split": result.split,
        "limit": limit,
        "weights_sha256": model.weights_sha256,
        "data_sha256": result.dataset["sha256"],
    }
    identity = about | {"task": result.task, "method": model.method.state_json()}
    text = json.dumps(identity, sort_keys=True)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:10]
    name = store.run_name(result.task, model.method.name, fingerprint)
    folder = store.run_folder(destination or store.default_store(), name)
    if (folder / store.MANIFEST).is_file():
        return folder
    manifest = _manifest(model, result, about, name, fingerprint)
    with store.lock_run(folder):
        store.write_json(folder / "config.json", manifest.config)
        store.write_table(folder, "examples", result.examples)
        store.write_table(folder, "layers", result.layers)
        store.write_table(folder, "token_kinds", counter.frame(result.split))
        store.finish_run(folder, manifest)
    return folder


def _manifest(
    model: PrunedModel, result: Evaluation, about: dict[str, Any], name: str, fingerprint: str
) -> RunManifest:
    origin, size = _origin(model), model.encoder.config
    config = origin.config if origin else {"method": {"name": model.method.name}}
    # The path of a foreign folder is nobody's business but this machine's.
    base = origin.base if origin else {"name": model.name, "sha256": None}
    sizes = {"hidden_size": size.hidden_size, "intermediate_size": size.intermediate_size}
    return RunManifest(
        name=name,
        task=result.task,
        method=model.method.name,
        fingerprint=fingerprint,
        status="complete",
        config=config | {"task": result.task, "evaluation": about},
        seed=origin.seed if origin else 0,
        git=environment.git_state(),
        packages=environment.packages(),
        hardware=environment.hardware(str(model.device)),
        dataset={result.split: result.dataset},
        base=base | sizes,
        parent=model.name if origin else None,
        dense=model.dense,
        summary={result.split: result.summary},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        duration_s=0.0,
    )


def _origin(model: PrunedModel) -> RunManifest | None:
    """The run that the checkpoint was trained in; None for a foreign folder."""
    if model.task is None:
        return None
    try:
        return store.read_manifest(store.find_run(model.name))
    except UserError:
        return None
