"""The packed runner's pass in native code: one call for the whole encoder, by the sources in `cpp/`.

PyTorch starts some fifty operations a layer and goes through all tokens in each; native code does
attention, scores, decision and gathering of a sequence while it is in the cache. Embeddings and head
stay in PyTorch. Same interface, same answers, records included.
"""

from __future__ import annotations

import ctypes
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ltp_core.encoder.int8 import input_scales
from ltp_core.encoder.model import Encoder, EncoderLayer
from ltp_core.native_build import load_library, multiplies_bfloat16, multiplies_int8
from ltp_core.pruning.base import PruningMethod, ThresholdRule
from ltp_core.records import UserError
from ltp_core.runners.base import Inputs, LastLayer, LayerRecord, Runner, RunOutput
from ltp_core.runners.head import head_logits, is_answerable
from ltp_core.runners.native_layout import (
    TYPES,
    BatchFields,
    LayerFields,
    MapFields,
    ModelFields,
    NormFields,
    RuleFields,
    in_panels,
    in_steps,
)
from ltp_core.runners.packed import PackedRunner, check_call


def fastest_runner(encoder: Encoder, dtype: torch.dtype | None = None) -> Runner:
    """The native runner where it is built and takes such weights, else the packed one.

    Args:
        encoder: Whose weights.
        dtype: Type of the layers' weights; None takes the encoder's.

    Raises:
        UserError: Only native code computes in int8, and it does not take this.
    """
    library = load_library()
    if library is not None and takes(encoder, dtype):
        return NativeRunner(library, encoder, dtype=dtype)
    if dtype == torch.int8:
        raise UserError(
            "int8 needs the native pass (`doctor` says whether it is in use), a processor with AVX-512 "
            "VNNI, and a model without gates and rotations that was not trained in INT8: take float32."
        )
    return PackedRunner(encoder, dtype=dtype)


def takes(encoder: Encoder, dtype: torch.dtype | None = None) -> bool:
    """Whether native code takes an encoder with layers of this type: float32, or another that it has here.

    It computes post-LN layers without a gate and without rotations.
    """
    if any(layer.intermediate.is_gated or not layer.is_post_ln for layer in encoder.layers):
        return False
    if any(positions.rotation is not None for positions in encoder.encoder.positions()):
        return False
    weight = encoder.embeddings.word_embeddings.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or input_scales(encoder):
        return False
    if dtype == torch.bfloat16:
        return multiplies_bfloat16()
    if dtype == torch.int8:
        return multiplies_int8()
    return dtype in (None, torch.float32)


class NativeRunner:
    """A snapshot of an encoder's weights laid out for native code.

    A method that is more than thresholds on its score (`PruningMethod.rule`) goes through the packed
    runner, which has no int8.

    Args:
        library: What `native_build` built.
        encoder: Whose weights; native code `takes` it.
        dtype: Type of the layers' weights, float32, bfloat16 or int8; None takes float32. States and
            scores are in float32 always.
    """

    def __init__(
        self, library: ctypes.CDLL, encoder: Encoder, *, dtype: torch.dtype | None = None
    ) -> None:
        self.encoder = encoder
        self._library, self._dtype = library, dtype or torch.float32
        self._kept: list[Tensor] = []  # what the pointers point at must stay
        with torch.no_grad():
            self._layers = [self._layer(i, layer) for i, layer in enumerate(encoder.layers)]
            # Layers that have a bias by distance share it.
            self._bias = encoder.encoder.positions()[0].bias
            self._by_distance = None if self._bias is None else self._keep(self._bias.by_distance)

    @cached_property
    def _packed(self) -> PackedRunner:
        return PackedRunner(self.encoder, dtype=self._dtype)

    @torch.inference_mode()
    def __call__(
        self,
        inputs: Inputs,
        method: PruningMethod,
        *,
        record: bool = False,
        last_layer: LastLayer = "all",
    ) -> RunOutput:
        """One pass on live tokens only; `PackedRunner` says what the arguments mean.

        Raises:
            RuntimeError: The encoder is in training mode.
            ValueError: A span head names tokens, and only the first one is to be finished.
            UserError: The method needs the packed runner, which has no int8.
            MemoryError: There is too little of it.
        """
        rule = method.rule()
        if rule is None and method.prunes:
            if self._dtype == torch.int8:
                raise UserError(
                    f"int8 is for methods with thresholds, and {method.name} has none: take float32."
                )
            return self._packed(inputs, method, record=record, last_layer=last_layer)
        check_call(self.encoder, last_layer)
        directions = None if rule is None else rule.direction
        if directions is not None:
            directions = directions.float().contiguous()
        layers = self._running(method, rule, directions)
        call = _Call(self.encoder, inputs, is_recorded=record)
        failed = self._library.run_encoder(
            ctypes.byref(self._model(layers)),
            ctypes.byref(self._rule(inputs, rule, record=record, last_layer=last_layer)),
            ctypes.byref(call.batch),
        )
        if failed:
            raise MemoryError(f"no memory for a pass over {len(call.cells)} tokens")
        return call.output(method, [layer.index for layer in layers])

    def _model(self, layers: ctypes.Array[LayerFields]) -> ModelFields:
        config = self.encoder.config
        return ModelFields(
            layers=layers,
            num_layers=len(layers),
            hidden=config.hidden_size,
            heads=config.num_heads,
            intermediate=config.intermediate_size,
            eps=config.layer_norm_eps,
            type=TYPES.index(self._dtype),
            by_distance=self._by_distance,
            reach=0 if self._bias is None else self._bias.reach,
        )

    def _rule(
        self,
        inputs: Inputs,
        rule: ThresholdRule | None,
        *,
        record: bool,
        last_layer: LastLayer,
    ) -> RuleFields:
        is_first_certain = inputs.protects_first and not self.encoder.config.reads_every_token
        scores = record or rule is not None
        finishes_first = last_layer == "first"
        return RuleFields(
            scores=scores,
            prunes=rule is not None,
            is_ordinary=rule is not None and rule.score_mean == "ordinary",
            is_never_empty=inputs.protects_first,
            finishes_first=finishes_first,
            asks_first_alone=finishes_first and not record and (is_first_certain or not scores),
        )

    def _running(
        self,
        method: PruningMethod,
        rule: ThresholdRule | None,
        directions: Float[Tensor, "layer hidden"] | None,
    ) -> ctypes.Array[LayerFields]:
        """The layers that run, with what decides in each; `directions` must outlive the call."""
        running = [i for i in range(len(self._layers)) if method.runs_layer(i)]
        layers = (LayerFields * len(running))(*(self._layers[i] for i in running))
        thresholds = None if rule is None else rule.thresholds.tolist()
        for layer in layers:
            if thresholds is not None:
                layer.threshold = thresholds[layer.index]
            if directions is not None:
                layer.direction = directions[layer.index].data_ptr()
        return layers

    def _layer(self, index: int, layer: EncoderLayer) -> LayerFields:
        weight, bias = layer.scaled_projection()
        assert bias is not None
        hidden = weight.shape[1]
        return LayerFields(
            query=self._map(weight[:hidden], bias[:hidden]),
            key_value=self._map(weight[hidden:], bias[hidden:]),
            output=self._dense(layer.attention.output.dense),
            inner=self._dense(layer.intermediate.dense),
            outer=self._dense(layer.output.dense),
            attended=self._norm(layer.attention.output.LayerNorm),
            finished=self._norm(layer.output.LayerNorm),
            index=index,
        )

    def _dense(self, module: nn.Linear) -> MapFields:
        return self._map(module.weight, module.bias)

    def _map(
        self, weight: Float[Tensor, "outer inner"], bias: Float[Tensor, " outer"]
    ) -> MapFields:
        outer, inner = weight.shape
        width = self._library.panel_width()

        def by_column(values: Float[Tensor, "... outer"]) -> int:
            return self._keep(functional.pad(values, (0, -outer % width)))

        fields = MapFields(bias=by_column(bias), inner=inner, outer=outer)
        if self._dtype == torch.int8:
            fields.weights = by_column(weight.T)
            weight, steps, totals = in_steps(weight)
            fields.steps, fields.totals = by_column(steps), by_column(totals)
        fields.panels = self._keep(in_panels(weight.to(self._dtype), width))
        return fields

    def _norm(self, module: nn.Module) -> NormFields:
        assert isinstance(module, nn.LayerNorm)
        return NormFields(weight=self._keep(module.weight), bias=self._keep(module.bias))

    def _keep(self, values: Tensor) -> int:
        """Address of a copy that lives as long as the runner."""
        self._kept.append(values.detach().clone(memory_format=torch.contiguous_format))
        return self._kept[-1].data_ptr()


class _Call:
    """A batch as native code takes it, and room for what it gives back.

    Attributes:
        batch: The addresses.
        cells: Place of each token in the flat padded batch.
    """

    def __init__(self, encoder: Encoder, inputs: Inputs, *, is_recorded: bool) -> None:
        self._encoder, self._inputs = encoder, inputs
        mask, config = inputs.attention_mask, encoder.config
        self.cells = mask.reshape(-1).nonzero().view(-1)
        batch_size, num_tokens = len(mask), len(self.cells)
        self._hidden = self._embedded()
        position = self.cells % mask.shape[1]
        self._position = position.int()
        self._protected, self._special = self._of(inputs.protected), self._of(inputs.special)
        self._lengths = inputs.length
        if config.reads_every_token:
            self._read_at, num_read = self.cells, mask.numel()
        else:
            row = self.cells // mask.shape[1]
            self._read_at, num_read = torch.where(position == 0, row, -1), batch_size
        self._states = torch.zeros(num_read, config.hidden_size)
        self._remaining = torch.zeros(num_tokens, dtype=torch.bool)
        self._counts = torch.zeros(3, config.num_layers, batch_size, dtype=torch.long)
        recorded = (2, config.num_layers if is_recorded else 0, num_tokens)
        self._scores = torch.zeros(recorded)
        self._masks = torch.zeros(recorded, dtype=torch.bool)
        self._is_recorded = is_recorded
        entered, asked, left = (counts.data_ptr() for counts in self._counts)
        score, attention = (self._record_at(values) for values in self._scores)
        live, retained = (self._record_at(values) for values in self._masks)
        self.batch = BatchFields(
            num_sequences=batch_size,
            num_tokens=num_tokens,
            lengths=self._lengths.data_ptr(),
            hidden=self._hidden.data_ptr(),
            position=self._position.data_ptr(),
            is_protected=self._protected.data_ptr(),
            is_special=self._special.data_ptr(),
            read_at=self._read_at.data_ptr(),
            states=self._states.data_ptr(),
            remaining=self._remaining.data_ptr(),
            entered=entered,
            asked=asked,
            left=left,
            score=score,
            attention=attention,
            live=live,
            retained=retained,
            threads=torch.get_num_threads(),
        )

    def _of(self, values: Tensor) -> Tensor:
        """Of each token."""
        return values.reshape(-1).index_select(0, self.cells)

    def _embedded(self) -> Float[Tensor, "token hidden"]:
        embeddings, inputs = self._encoder.embeddings, self._inputs
        places = self._of(embeddings.position_ids(inputs.input_ids))
        states: Tensor = embeddings(
            self._of(inputs.input_ids), self._of(inputs.token_type_ids), places
        )
        return states.contiguous()

    def _record_at(self, values: Tensor) -> int | None:
        return values.data_ptr() if self._is_recorded else None

    def output(self, method: PruningMethod, running: list[int]) -> RunOutput:
        """What the pass gave.

        Args:
            method: Who decided.
            running: Layers that ran.
        """
        mask = self._inputs.attention_mask
        live = self._padded(self._remaining)
        states = self._states.view(len(mask), -1, self._states.shape[1])
        entered, asked, left = (counts.T for counts in self._counts)
        return RunOutput(
            logits=head_logits(self._encoder, states, is_answerable(self._inputs, method, live)),
            attention_length=entered,
            ffn_length=left,
            layers=tuple(map(self._record, running)) if self._is_recorded else (),
            query_length=asked,
        )

    def _record(self, layer: int) -> LayerRecord:
        (live, retained), (score, attention) = self._masks[:, layer], self._scores[:, layer]
        return LayerRecord(
            live=self._padded(live),
            score=self._padded(score),
            retained=self._padded(retained),
            attention=self._padded(attention),
        )

    def _padded(self, values: Tensor) -> Tensor:
        """Each token's value in the coordinates of the padded batch; 0 elsewhere."""
        mask = self._inputs.attention_mask
        padded = torch.zeros(mask.numel(), dtype=values.dtype)
        padded[self.cells] = values
        return padded.view(mask.shape)
