"""Time of a training step by stage: what the soft stage costs beside plain finetuning.

A step is a forward pass in training mode, the loss of random labels, the backward pass to all weights,
and AdamW. Sequences are random and all equally long: no step's time depends on what they say.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltp_core.bench.document import card
from ltp_core.bench.measure import Probe, Report, spread, take_turns, using_threads
from ltp_core.bench.settings import BenchSettings
from ltp_core.checkpoint import PrunedModel
from ltp_core.encoder.model import Encoder
from ltp_core.pruning import LearnedTokenPruning, LTPConfig, Unpruned
from ltp_core.pruning.base import PruningMethod
from ltp_core.records import UserError
from ltp_core.runners import Inputs, make_inputs, run_repadded, run_soft

STEPS = {
    "finetune": {
        "title": "finetuning",
        "meaning": "a plain step: nothing is scored away or pruned",
    },
    "soft": {"title": "soft stage", "meaning": "soft masks, thresholds learn along"},
    "hard": {"title": "hard stage", "meaning": "pruned tokens removed"},
}

TEMPERATURE = 0.05

Step = Callable[[], None]


def bench_training(
    settings: BenchSettings,
    model: PrunedModel,
    *,
    report: Report = lambda event, fields: None,
) -> dict[str, Any]:
    """Measures a step of each stage; nothing is stored.

    Args:
        settings: `what` is `training`; lengths, batch sizes, repeats, dtype (bfloat16 is autocast) and
            threads count.
        model: Whose sizes and weights; it stays as it is.
        report: Told after each turn, as in `throughput.bench`.

    Returns:
        Settings and environment, and for every place and stage `steps_per_s`, `step_s` and
        `relative_time`: its time over that of the plain step of the same round.

    Raises:
        UserError: The checkpoint answers questions, is asked for longer inputs than it reads, or for
            float16, which does not train without a loss scale.
    """
    _check(settings, model)
    device = next(model.encoder.parameters()).device
    facts = card(settings, task=model.task, texts=None, device=settings.device)
    config = model.encoder.config
    with using_threads(settings.threads):
        sizes = (config.hidden_size, config.intermediate_size)
        probe = Probe(*sizes, device, torch.float32)
        lines = [
            line
            for batch_size, length in settings.points
            for line in _measure(settings, model, batch_size, length or 0, probe, report)
        ]
    return facts | {"noise": probe.noise().to_json(), "contenders": STEPS, "results": lines}


def _check(settings: BenchSettings, model: PrunedModel) -> None:
    if model.questions is not None:
        raise UserError(
            f"{model.name} answers questions; training is measured on classifiers only."
        )
    if settings.dtype == "float16":
        raise UserError(
            "--dtype float16: a step needs a loss scale there; take bfloat16 or float32."
        )
    longest = model.encoder.config.max_length
    for length in settings.lengths:
        if length is not None and length > longest:
            raise UserError(f"{model.name} reads at most {longest} tokens, not {length}.")


def _measure(
    settings: BenchSettings,
    model: PrunedModel,
    batch_size: int,
    length: int,
    probe: Probe,
    report: Report,
) -> list[dict[str, Any]]:
    device = next(model.encoder.parameters()).device
    inputs, labels = _batch(model, batch_size, length)
    steps = {
        name: _step(name, model, inputs, labels, getattr(torch, settings.dtype)) for name in STEPS
    }
    for step in steps.values():
        step()
    taken = take_turns(
        {name: lambda number, name=name: steps[name]() for name in STEPS},  # type: ignore[misc]
        settings.repeats,
        device,
        until=None,
        on_turn=lambda name, seconds: report("turn", {"contender": name, "seconds": seconds}),
        between=probe,
    )
    return [
        {
            "batch_size": batch_size,
            "length": length,
            "contender": name,
            "rounds": len(times),
            **spread("step_s", times),
            **spread(
                "relative_time", [a / b for a, b in zip(times, taken["finetune"], strict=True)]
            ),
        }
        for name, times in taken.items()
    ]


def _batch(model: PrunedModel, batch_size: int, length: int) -> tuple[Inputs, Tensor]:
    config, device = model.encoder.config, next(model.encoder.parameters()).device
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(config.vocab_size, (batch_size, length), generator=generator)
    mask = torch.ones_like(ids, dtype=torch.bool)
    inputs = make_inputs(ids, torch.zeros_like(ids), mask).to(device)
    return inputs, torch.zeros(batch_size, dtype=torch.long, device=device)


def _step(
    name: str, model: PrunedModel, inputs: Inputs, labels: Tensor, dtype: torch.dtype
) -> Step:
    """One step of a stage on its own copy of the weights."""
    encoder = copy.deepcopy(model.encoder).train().requires_grad_(True)
    method = _method(name, model).to(labels.device)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *method.parameters()], lr=1e-5)
    device = labels.device.type

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = _loss(name, encoder, method, inputs, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _method(name: str, model: PrunedModel) -> PruningMethod:
    num_layers = model.encoder.config.num_layers
    if name == "finetune":
        return Unpruned.neutral(num_layers)
    method = LearnedTokenPruning(LTPConfig(), num_layers)
    return method.requires_grad_(name == "soft")


def _loss(
    name: str, encoder: Encoder, method: PruningMethod, inputs: Inputs, labels: Tensor
) -> Tensor:
    if name != "soft":
        logits = run_repadded(encoder, inputs, method).logits
        return functional.cross_entropy(logits.float(), labels)
    assert isinstance(method, LearnedTokenPruning)
    soft = run_soft(encoder, inputs, method, temperature=TEMPERATURE)  # type: ignore[arg-type]
    return functional.cross_entropy(soft.logits.float(), labels) + 0.01 * soft.weights.mean()
