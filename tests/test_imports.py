"""Who may import whom, read from the syntax trees: one test a rule."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.source_trees import ROOT, imported, module_name, sources

CHARTS = {"altair", "plotly", "vl_convert", "matplotlib", "bokeh", "pydeck"}

BASE = {"records", "strict", "toml_writer", "files", "tables", "environment", "threads"}
BASE |= {"native_build"}
"""Small torch-free modules that know nothing of models, data or runs."""

PARTS = {"encoder", "pruning", "tasks", "tokenize", "token_categories", "lengths", "flops"} | BASE
PARTS |= {"metrics", "store", "config"}
"""What stands on its own, and what is put together from it below."""

ALLOWED: dict[str, set[str]] = {
    "__init__": {"predicting"},
    "records": set(),
    "toml_writer": set(),
    "environment": set(),
    "threads": {"records", "environment"},
    "native_build": {"records", "environment"},
    "strict": {"records"},
    "files": {"records"},
    "tables": {"records", "files"},
    "encoder": {"records", "files", "environment", "store"},
    "pruning": {"records", "strict", "flops"},
    "tasks": {
        "records",
        "environment",
        "lengths",
        "tokenize",
        "metrics",
        "store",
        "files",
        "strict",
    },
    "lengths": {"records", "environment", "tasks"},
    "tokenize": {"records"},
    "token_categories": {"records"},
    "flops": {"records"},
    "metrics": set(),
    "store": {"records", "files", "tables"},
    "sections": {"strict"},
    "config": {"records", "strict", "toml_writer", "tasks", "sections", "pruning"},
    "runners": {"records", "environment", "native_build", "encoder", "pruning"},
    "checkpoint_places": {"records", "store", "encoder"},
    "budget": {"records", "store"},
    "checkpoint": PARTS | {"runners", "checkpoint_places", "budget"},
    "checkpoint_tokenizer": {"checkpoint_places", "config", "lengths", "encoder", "store"} | BASE,
    "inference": PARTS | {"runners", "checkpoint"},
    "ask": PARTS | {"runners", "checkpoint", "inference"},
    "trace": PARTS | {"runners", "checkpoint", "inference", "ask"},
    "predicting": PARTS
    | {"runners", "checkpoint", "checkpoint_places", "inference", "trace", "calibration", "export"},
    "cluster": {"records", "environment", "threads", "checkpoint", "predicting"}
    | {"config", "sweep", "training"},
    "evaluate": PARTS | {"runners", "checkpoint", "inference"},
    "bench": PARTS
    | {"runners", "checkpoint", "inference", "evaluate", "export", "predicting", "training"},
    "export": PARTS | {"runners", "checkpoint", "checkpoint_places"},
    "calibration": PARTS | {"runners", "checkpoint", "checkpoint_places", "inference"},
    "training": PARTS
    | {"runners", "checkpoint", "checkpoint_places", "inference", "evaluate", "calibration"}
    | {"budget"},
    "sweep": {"records", "tasks", "strict", "config", "store", "checkpoint_places"},
    "analysis": {"records", "store", "config", "flops", "metrics", "tasks", "bench"}
    | {"budget", "environment", "lengths"},
    "cli": PARTS
    | {"runners", "checkpoint", "checkpoint_places", "checkpoint_tokenizer", "inference"}
    | {"evaluate", "trace", "bench", "export", "calibration", "training", "sweep", "analysis"}
    | {"predicting", "cluster"},
    "__main__": {"cli"},
}
"""Parts of `ltp_core` that each part may import, itself apart. A new part gets a line."""

TORCH_FREE = [
    "ltp_core.records",
    "ltp_core.config",
    "ltp_core.store",
    "ltp_core.flops",
    "ltp_core.metrics",
    "ltp_core.environment",
    "ltp_core.checkpoint",
    "ltp_core.checkpoint_places",
    "ltp_core.checkpoint_tokenizer",
    "ltp_core.tasks.loading",
    "ltp_core.tasks.catalogue",
    "ltp_core.token_categories",
    "ltp_core.encoder.bases",
    "ltp_core.cli.main",
    *map(module_name, sources("ltp_core/analysis", "ltp_core/sweep", "ltp_core/lengths")),
]

PAGES_MAY_USE = (
    "ltp_core.store",
    "ltp_core.flops",
    "ltp_core.metrics",
    "ltp_core.lengths",
    "ltp_core.tasks.catalogue",
    "ltp_core.records",
)


def part(module: str) -> str:
    """`ltp_core.tasks.loading` as `tasks`."""
    return module.split(".")[1] if "." in module else "__init__"


def parts_imported(path: Path) -> set[str]:
    """Parts of `ltp_core` that a file imports."""
    return {part(name) for name in imported(path) if name.startswith("ltp_core.")}


def test_the_core_imports_downwards_only() -> None:
    """A part of the core imports only the parts that it may stand on."""
    for path in sources("ltp_core"):
        own = part(module_name(path))
        assert own in ALLOWED, f"{own} is new: give it a line in ALLOWED"
        too_high = parts_imported(path) - {own} - ALLOWED[own]
        assert not too_high, f"{module_name(path)} imports {too_high}"


def test_the_core_draws_nothing() -> None:
    """The core knows neither Streamlit nor charts nor the app."""
    for path in sources("ltp_core"):
        roots = {name.partition(".")[0] for name in imported(path)}
        assert not roots & (CHARTS | {"streamlit", "app", "pages"}), module_name(path)


def test_methods_do_not_know_each_other() -> None:
    """A pruning method stands on `base`, `importance` and `ranking` alone."""
    for path in sources("ltp_core/pruning"):
        if path.name in {"__init__.py", "base.py"}:
            continue
        siblings = {n.split(".")[2] for n in imported(path) if n.startswith("ltp_core.pruning.")}
        assert siblings <= {"base", "importance", "ranking"}, module_name(path)


def test_pages_reach_live_work_through_the_app_only() -> None:
    """A page imports the torch-free parts of the core, never torch or transformers."""
    for path in sources("pages"):
        names = imported(path)
        roots = {name.partition(".")[0] for name in names}
        assert not roots & {"torch", "transformers", "tokenizers"}, module_name(path)
        core = [name for name in names if name.startswith("ltp_core")]
        assert all(name.startswith(PAGES_MAY_USE) for name in core), module_name(path)


def modules_after_importing(module: str) -> set[str]:
    """First parts of the names of all modules that a fresh interpreter then holds."""
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_torch_free_parts_are_torch_free() -> None:
    """What only reads stored results imports neither torch nor transformers."""
    loaded = modules_after_importing(", ".join(TORCH_FREE))
    assert loaded & {"torch", "transformers", "datasets", "streamlit"} == set()


def test_the_app_imports_torch_lazily() -> None:
    """The app's shared modules can be imported without torch, so pages open at once."""
    modules = [module_name(path) for path in sources("app/ltp_ui")]
    if modules:
        assert modules_after_importing(", ".join(modules)) & {"torch", "transformers"} == set()
