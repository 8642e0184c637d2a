"""A pruned checkpoint as a `transformers` model: pipelines, loops of `evaluate` and `Trainer.predict` run it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Bool, Int, Num
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from ltp_core.checkpoint import PrunedModel, load_checkpoint
from ltp_core.checkpoint_places import checkpoint_folder
from ltp_core.encoder.model import EncoderConfig
from ltp_core.export import hugging_face_tokenizer
from ltp_core.export.folder import export_folder
from ltp_core.inference import marked_inputs
from ltp_core.records import UserError
from ltp_core.runners.native import fastest_runner


class PrunedConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """What a `PrunedModelForSequenceClassification` is, under transformers' names.

    It is made of the loaded checkpoint: no file holds it, and it builds no model.
    """

    model_type = "token_pruned"


class PrunedModelForSequenceClassification(PreTrainedModel):  # type: ignore[no-untyped-call]
    """A checkpoint in the packed runner, with the interface of a `…ForSequenceClassification`.

    Tokens are really removed, so logits are those of `ltp_core.load`, whatever the padding and the batch.
    It moves and changes its type as other models do (`.to`, `.half`); thresholds stay in float32.

    Differs from transformers: inference only, so that neither logits nor losses have gradients and
    training mode is refused; padding on the left changes nothing; what is not understood is refused.

    Args:
        model: Loaded checkpoint; it is copied.
        source: Its folder, whose records `save_pretrained` writes too.

    Raises:
        UserError: The checkpoint answers questions.

    Example:
        >>> from transformers import pipeline
        >>> from ltp_core import PrunedModelForSequenceClassification
        >>> model = PrunedModelForSequenceClassification.from_pretrained("sst2-ltp")
        >>> pipe = pipeline("text-classification", model=model, tokenizer=model.make_tokenizer())
        >>> pipe("A charming journey.")[0]["label"]
        'positive'
    """

    config_class = PrunedConfig
    base_model_prefix = "encoder"

    def __init__(self, model: PrunedModel, source: Path | None = None) -> None:
        if not isinstance(model, PrunedModel):
            raise UserError(
                "A pruned model is made of a checkpoint, not of a configuration: take from_pretrained."
            )
        if model.questions is not None:
            raise UserError(
                f"{model.name} answers questions about a text: take one that classifies."
            )
        super().__init__(_config(model))
        self.encoder = copy.deepcopy(model.encoder)
        self._pruned = replace(model, encoder=self.encoder, method=copy.deepcopy(model.method))
        self._source = source
        self._lay_out()
        self.register_load_state_dict_post_hook(_take_weights)  # type: ignore[no-untyped-call]
        self.eval()  # type: ignore[no-untyped-call]

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        name_or_path: str | Path,
        *,
        dtype: torch.dtype | str | None = None,
        budget: float | None = None,
        max_loss: float | None = None,
        **unknown: Any,
    ) -> Self:
        """A checkpoint by run name, unique beginning of one, or folder.

        Args:
            name_or_path: As `ltp_core.load` takes it; also a folder of a transformers model, which then
                runs unpruned.
            dtype: Of the weights, such as `torch.bfloat16` or its name; None and "auto" take float32.
            budget: Prune as much as spends this share of the unpruned FLOPs, 0..1.
            max_loss: Prune as much as loses this fraction of the metric on held-out rows.
            unknown: Refused.

        Raises:
            UserError: There is none of that name, its files are damaged, it answers questions or cannot
                be asked for a budget, or an argument is something else.
        """
        if unknown:
            raise UserError(
                f"from_pretrained has no {sorted(unknown)[0]!r} here: it takes dtype, budget and max_loss; "
                "move the model with .to(device)."
            )
        wanted = _dtype(dtype)
        model = load_checkpoint(str(name_or_path), budget=budget, max_loss=max_loss)
        loaded = cls(model, checkpoint_folder(str(name_or_path)))
        loaded.to(dtype=wanted)  # type: ignore[call-arg]
        return loaded

    def save_pretrained(self, save_directory: str | Path, **unknown: Any) -> None:  # type: ignore[override]
        """Writes a folder as `export --format folder` does; an earlier one is replaced.

        `from_pretrained` and every command take it, and `transformers` opens `model/` in it, unpruned.

        Args:
            save_directory: Where to.
            unknown: Refused.

        Raises:
            UserError: The folder holds something else, the disk does not take a file, or an argument is
                something else.
        """
        if unknown:
            raise UserError(
                f"save_pretrained has no {sorted(unknown)[0]!r} here: name a folder alone."
            )
        export_folder(self._pruned, self._source, Path(save_directory))

    def make_tokenizer(self) -> PreTrainedTokenizerFast:
        """The checkpoint's tokenizer for transformers; with `truncation=True` it cuts as `predict` does."""
        return hugging_face_tokenizer(self._pruned, self._pruned.max_length)

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"] | None = None,
        attention_mask: Num[Tensor, "batch seq"] | None = None,
        token_type_ids: Int[Tensor, "batch seq"] | None = None,
        position_ids: Int[Tensor, "#batch seq"] | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Num[Tensor, "batch ..."] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | tuple[Tensor, ...]:
        """Logits of a padded batch, and a loss where labels are given.

        Args:
            input_ids: Vocabulary ids.
            attention_mask: 1 for real tokens, 0 for padding on either side; None: all are real.
            token_type_ids: Segment of each token; None: all are of the first one.
            position_ids: None, or what they are anyway: real tokens counted from the model's first
                position on.
            inputs_embeds: Refused: tokens are removed by their attention from the embedding on.
            labels: Class indices, values, or 0 and 1 for each independent label, as `problem_type` says.
            output_attentions: Refused: the removed tokens have none.
            output_hidden_states: Refused likewise.
            return_dict: False gives a tuple.

        Raises:
            UserError: An argument is not understood, or the model is in training mode.
        """
        if self.training:
            raise UserError(
                "This model removes tokens and has no gradients: call .eval() to predict, and train with "
                "`python -m ltp_core train`."
            )
        if output_attentions or self.config.output_attentions:
            raise UserError(
                "There are no attentions of removed tokens: leave output_attentions out."
            )
        if output_hidden_states or self.config.output_hidden_states:
            raise UserError(
                "There are no states of removed tokens: leave output_hidden_states out."
            )
        if inputs_embeds is not None or input_ids is None:
            raise UserError("This model takes input_ids and no inputs_embeds.")
        shape = self._pruned.encoder.config
        mask = _checked_mask(input_ids, attention_mask)
        types = _checked_types(input_ids, token_type_ids, shape)
        take, real = _real_first(mask)
        if int(real.sum(dim=1).max()) > shape.max_length:
            raise UserError(
                f"An input has {int(real.sum(dim=1).max())} tokens, and the model takes {shape.max_length}: "
                "cut it with truncation=True."
            )
        if position_ids is not None:
            _check_positions(take(position_ids.expand_as(input_ids)), real, shape)
        ids = take(input_ids).masked_fill(~real, shape.pad_id)
        if bool(((ids < 0) | (ids >= shape.vocab_size)).any()):
            raise UserError(
                f"input_ids must be from 0 to {shape.vocab_size - 1}: take its tokenizer."
            )
        inputs = marked_inputs(self._pruned, ids, take(types).masked_fill(~real, 0), real)
        found = self._pruned.packed(inputs, self._pruned.method, last_layer="first")
        logits = found.logits.clone()  # outside of inference mode, so that others may change it
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        output = SequenceClassifierOutput(loss=loss, logits=logits)
        is_dict = self.config.return_dict if return_dict is None else return_dict
        return output if is_dict else output.to_tuple()

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        # Every move and change of type ends here.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._lay_out()
        return self

    def _lay_out(self) -> None:
        """Takes the weights as they are now into the runner."""
        self._pruned.method.to(self.device)
        self._pruned = replace(self._pruned, packed=fastest_runner(self.encoder))


def _take_weights(module: PrunedModelForSequenceClassification, keys: Any) -> None:
    """After other weights were loaded: the records are not theirs."""
    del keys
    module._source = None
    module._lay_out()


# No file names this type; a pipeline looks here for the classes that it takes.
AutoModelForSequenceClassification.register(PrunedConfig, PrunedModelForSequenceClassification)


def _config(model: PrunedModel) -> PrunedConfig:
    shape = model.encoder.config
    names = model.label_names or tuple(f"LABEL_{i}" for i in range(shape.num_labels))
    described: dict[str, Any] = {
        "name_or_path": model.name,
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
        "problem_type": model.problem_type,
        "pad_token_id": shape.pad_id,
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "max_position_embeddings": shape.max_positions,
        "pruning": model.method.state_json(),
    }
    return PrunedConfig(**described)


def _dtype(given: torch.dtype | str | None) -> torch.dtype:
    if given is None or given == "auto":
        return torch.float32
    found = getattr(torch, given, None) if isinstance(given, str) else given
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise UserError(f"dtype = {given!r}: must be float32, bfloat16 or float16.")
    return found


def _checked_mask(input_ids: Tensor, attention_mask: Tensor | None) -> Bool[Tensor, "batch seq"]:
    if input_ids.ndim != 2 or input_ids.dtype not in (torch.int64, torch.int32):
        raise UserError("input_ids must be integers by input and token: one row an input.")
    if attention_mask is None:
        return torch.ones_like(input_ids, dtype=torch.bool)
    mask = attention_mask.bool()
    if attention_mask.shape != input_ids.shape or not bool((mask == attention_mask).all()):
        raise UserError(
            "attention_mask must hold 1 or 0 for each of the input_ids, and nothing else."
        )
    return mask


def _checked_types(
    input_ids: Tensor, token_type_ids: Tensor | None, shape: EncoderConfig
) -> Int[Tensor, "batch seq"]:
    if token_type_ids is None:
        return torch.zeros_like(input_ids)
    known = max(1, shape.type_vocab_size)
    wrong = (token_type_ids < 0) | (token_type_ids >= known)
    if token_type_ids.shape != input_ids.shape or bool(wrong.any()):
        raise UserError(
            f"token_type_ids must hold a number from 0 to {known - 1} for each of the input_ids."
        )
    return token_type_ids


def _real_first(
    mask: Bool[Tensor, "batch seq"],
) -> tuple[Callable[[Tensor], Tensor], Bool[Tensor, "batch seq"]]:
    """What puts the real tokens of each row first, and the mask after that.

    For example 0 0 1 1 0 takes the places 2, 3 and any three others: 1 1 0 0 0.
    """
    length = mask.sum(dim=1, keepdim=True)
    if not bool((length > 0).all()):
        raise UserError("An input has no token: each row of attention_mask needs a 1.")
    place = torch.arange(mask.shape[1], device=mask.device)
    first = mask.int().argmax(dim=1, keepdim=True)
    index = (first + place) % mask.shape[1]
    real = place < length
    if not torch.equal(mask.gather(1, index), real):
        raise UserError("attention_mask has a 0 between real tokens: only padding can be left out.")
    return lambda values: values.gather(1, index), real


def _check_positions(
    given: Int[Tensor, "batch seq"], real: Bool[Tensor, "batch seq"], shape: EncoderConfig
) -> None:
    own = shape.position_offset + torch.arange(given.shape[1], device=given.device)
    if bool((given != own)[real].any()):
        raise UserError(
            "position_ids are those of the tokens in their order, and no others: leave them out."
        )
