"""Policies that learn by reward which tokens go into a layer (REINFORCE; TR-BERT).

Of each training row K selections are drawn. One that says the right label with fewer tokens than the
others becomes more probable:

R = -CE - α · (mean over the policies of kept / n), b = mean of the K rewards,
loss = Σ (R - b) · NLL / (K · B),

with NLL the negative logarithm of the drawn decisions' probability, as a mean over tokens.

Source: Ye, Lin, Huang, Sun: TR-BERT, NAACL 2021, section 3.3; Williams: REINFORCE, 1992.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from ltp_core.config import PolicyConfig, StageConfig
from ltp_core.encoder.model import Encoder
from ltp_core.pruning.base import Decision, LayerEntry, LayerState, PruningMethod
from ltp_core.pruning.tr_bert import TokenReduction
from ltp_core.runners.base import Inputs
from ltp_core.runners.head import head_logits
from ltp_core.training.losses import Student, prediction_loss, task_losses
from ltp_core.training.objective import Moment, StepLoss, TrainingBatch, anchor, mean_costs

LATE = 2 / 3
"""Share of the layers after which a token's state tells what it was worth (the authors' 8 of 12)."""


def policy_rate(stage: StageConfig, method: PruningMethod) -> float:
    """Peak learning rate of the policies in a stage."""
    assert isinstance(method, TokenReduction)
    is_own = isinstance(stage, PolicyConfig)
    return stage.learning_rate if is_own else method.config.policy_learning_rate


@dataclass(frozen=True)
class Drawn:
    """What was drawn of each sequence before one layer.

    Attributes:
        likelihood: Negative logarithm of the decisions' probability, mean over the free tokens.
        kept: Share of the input's tokens that go on.
    """

    likelihood: Float[Tensor, " batch"]
    kept: Float[Tensor, " batch"]


class Sampled(PruningMethod):
    """The policies' decisions drawn at random, and how probable they were.

    Args:
        method: Whose policies.
        inputs: The batch that will come.
        uniform: What each token's probability is compared with, by policy.
        worth: What each token of the first sequences is worth, by policy: those take the most worthy
            instead, as many as the policy expects to keep. None draws everywhere.
    """

    name = "sampled"

    def __init__(
        self,
        method: TokenReduction,
        inputs: Inputs,
        uniform: Float[Tensor, "policy batch seq"],
        worth: Float[Tensor, "policy guided seq"] | None = None,
    ) -> None:
        super().__init__(method.config, method.num_layers)
        self.method, self.signals = method, method.signals
        self.entry_layers, self.entry_width = method.entry_layers, method.entry_width
        self.drawn: list[Drawn] = []
        self._length, self._uniform, self._worth = inputs.length, uniform, worth

    def retain(self, state: LayerState) -> Decision:
        """Everything, as the method itself."""
        return self.method.retain(state)

    def select(self, entry: LayerEntry) -> Decision:
        """Each token with its probability. The policy alone has a gradient."""
        number, free = self.entry_layers.index(entry.layer_index), ~entry.protected
        with torch.enable_grad():
            logit = self.method.logit(entry.layer_index, entry.hidden.detach())
        probability = torch.sigmoid(logit.detach())
        goes_on = self._uniform[number][entry.sequence, entry.position] < probability
        if self._worth is not None:
            is_guided = entry.sequence < self._worth.shape[1]
            goes_on = torch.where(is_guided, self._most_worthy(entry, number, probability), goes_on)
        with torch.enable_grad():
            # log p of what goes on, log (1 - p) of what does not.
            surprise = -functional.logsigmoid(torch.where(goes_on, logit, -logit)) * free
            free_tokens = _per_sequence(free.float(), entry).clamp_min(1.0)
            likelihood = _per_sequence(surprise, entry) / free_tokens
        kept = _per_sequence((goes_on | entry.protected).float(), entry) / self._length
        self.drawn.append(Drawn(likelihood, kept))
        return Decision(goes_on, score=probability)

    def _most_worthy(
        self, entry: LayerEntry, number: int, probability: Float[Tensor, " live"]
    ) -> Bool[Tensor, " live"]:
        """The round(Σ p) tokens of each guided sequence that are worth most; of others anything."""
        assert self._worth is not None
        row = entry.sequence.clamp_max(self._worth.shape[1] - 1)
        worth = self._worth[number][row, entry.position]
        expected = _per_sequence(probability, entry).round()
        # Sort by sequence, then by falling worth: a token's place in there is its rank.
        order = worth.argsort(descending=True, stable=True)
        order = order[entry.sequence[order].argsort(stable=True)]
        count = torch.bincount(entry.sequence, minlength=entry.batch)
        first = count.cumsum(0) - count
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device) - first[entry.sequence[order]]
        return rank < expected[entry.sequence]


def _per_sequence(values: Float[Tensor, " live"], entry: LayerEntry) -> Float[Tensor, " batch"]:
    """Sum over the tokens of each sequence."""
    return values.new_zeros(entry.batch).index_add(0, entry.sequence, values)


def reinforce_loss(
    model: nn.Module,
    method: PruningMethod,
    batch: TrainingBatch,
    stage: StageConfig,
    moment: Moment,
) -> StepLoss:
    """The policies' loss; where the weights learn, with the prediction loss of the first sample.

    The weights learn from one of the K samples, drawn as the others are: on the mean that is what all
    of them would teach, at a third of the cost.
    """
    assert isinstance(method, TokenReduction)
    # K copies of the batch one after another; the first copy is the first sample.
    count, width = batch.inputs.input_ids.shape
    inputs = Inputs(
        *(values.repeat(method.config.samples, 1) for values in vars(batch.inputs).values())
    )
    random = np.random.default_rng((moment.seed, moment.step))
    shape = (len(method.entry_layers), len(inputs.input_ids), width)
    uniform = torch.from_numpy(random.random(shape, dtype=np.float32)).to(inputs.input_ids.device)
    worth = None
    if isinstance(stage, PolicyConfig) and moment.progress < stage.imitation:
        student = getattr(model, "module", model)  # where several processes train
        assert isinstance(student, Student)
        worth = saliency(student.encoder, batch, method.entry_layers)

    first = slice(0, 0 if isinstance(stage, PolicyConfig) else count)
    passes, drawn = [], []
    for rows, has_gradient in ((first, True), (slice(first.stop, None), False)):
        if rows.stop == 0:
            continue
        part = Inputs(*(values[rows] for values in vars(inputs).values()))
        sampled = Sampled(method, part, uniform[:, rows], worth)
        with torch.set_grad_enabled(has_gradient):
            passes.append(model(part, None, "softmax", sampled))
        drawn.append(sampled.drawn)

    logits = torch.cat([out.logits.detach() for out in passes])
    copies = (method.config.samples,) + (1,) * (batch.labels.dim() - 1)
    losses = task_losses(logits, batch.labels.repeat(copies))
    likelihood, kept = (
        torch.stack(
            [torch.cat([getattr(d, key) for d in each]) for each in zip(*drawn, strict=True)]
        )
        for key in ("likelihood", "kept")
    )
    reward = -losses - method.config.length_weight * kept.mean(dim=0)
    penalty = policy_loss(reward.view(-1, count), likelihood.mean(dim=0).view(-1, count))
    out = passes[0]
    teacher = batch.teacher_logits
    prediction = prediction_loss(stage, out.logits[:count], batch.labels, teacher)
    return StepLoss(mean_costs(passes), prediction, penalty + anchor(model))


def policy_loss(
    reward: Float[Tensor, "sample batch"], likelihood: Float[Tensor, "sample batch"]
) -> Float[Tensor, ""]:
    """Σ (R - b) NLL / (K B), with b the mean reward of the row's samples."""
    advantage = reward - reward.mean(dim=0)
    return (advantage.detach() * likelihood).mean()


def saliency(
    encoder: Encoder, batch: TrainingBatch, layers: tuple[int, ...]
) -> Float[Tensor, "policy batch seq"]:
    """What each token that comes to a layer is worth to the unpruned model; 0 for padding.

    |∇h_late · (h_late - h)|: how far the loss would change, to first order, if the token had stayed as
    it came. h_late is its state after two thirds of the layers.

    Args:
        encoder: The unpruned model.
        batch: The rows, with the labels of the loss.
        layers: Before which the tokens are looked at.
    """
    inputs, mask = batch.inputs, batch.inputs.attention_mask
    late = max(round(LATE * len(encoder.layers)), *layers)
    low = {p.dtype for p in encoder.parameters()} & {torch.bfloat16, torch.float16}
    precision = torch.autocast(mask.device.type, min(low, default=None, key=str), enabled=bool(low))
    position = torch.arange(mask.shape[1], device=mask.device)[None]
    positions = encoder.encoder.positions()

    def after(index: int, hidden: Tensor) -> Tensor:
        layer = encoder.layers[index]
        query, key, value = layer.project(hidden)
        probs = layer.attention_probs(query, key, mask, None, positions[index], position)
        return layer.feed_forward(layer.attend(layer.context(probs, value), hidden))

    with precision:
        with torch.no_grad():
            states = [encoder.embed(inputs.input_ids, inputs.token_type_ids)]
            for index in range(late):
                states.append(after(index, states[-1]))
        with torch.enable_grad():
            hidden = start = states[late].detach().requires_grad_()
            for index in range(late, len(encoder.layers)):
                hidden = after(index, hidden)
            loss = task_losses(head_logits(encoder, hidden, mask), batch.labels).sum()
            (gradient,) = torch.autograd.grad(loss, start)
    products = [(gradient * (start.detach() - states[layer])).sum(dim=-1) for layer in layers]
    return torch.stack(products).abs().float() * mask
