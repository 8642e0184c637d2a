"""TR-BERT's policies: the loops, the runners, what deciding costs, and what is shown of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings

from ltp_core.flops import NO_COST, DecisionCost, layer_macs, total_flops
from ltp_core.pruning.tr_bert import TokenReduction, TRBertConfig
from ltp_core.strict import ConfigError
from tests import reference, strategies, tiny
from tests.running import both_runners, run, token_ids
from tests.strategies import NUM_LAYERS, Case

WIDTH = tiny.SIZES["hidden_size"]


def reducing(seed: int = 3, **settings: Any) -> TokenReduction:
    """TR-BERT with random policies before the last two layers, float64."""
    method = TokenReduction(TRBertConfig(**{"layers": (1, 2), **settings}), NUM_LAYERS)
    method.fit_width_(WIDTH)
    generator = torch.Generator().manual_seed(seed)
    for parameter in method.parameters():
        parameter.data.normal_(generator=generator)
    return method.double()


def loops(case: Case, row: int, method: TokenReduction, **options: Any) -> reference.Result:
    """The reference's pass with these policies."""
    policies = {
        layer: (
            policy.inner.weight.detach().numpy(),
            policy.inner.bias.detach().numpy(),
            policy.outer.weight[0].detach().numpy(),
            policy.outer.bias.item(),
        )
        for layer in method.entry_layers
        for policy in [method.policies[str(layer)]]
    }
    weights = reference.Weights(
        case.encoder.state_dict(), tiny.reference_config(case.encoder.config)
    )
    entry = reference.policy_entry(policies)
    ids = token_ids(case.inputs, row)
    return reference.run_hard(weights, *ids, reference.keep_all, entry=entry, **options)


def is_clear(output: Any) -> bool:
    """No probability lies so close to one half that rounding could decide."""
    return all(
        not bool(((record.score - 0.5).abs() < 1e-9)[record.live].any()) for record in output.layers
    )


@both_runners
@given(case=strategies.cases)
@settings(max_examples=20)
def test_runner_equals_the_loops(runner: str, case: Case) -> None:
    """Logits, and who enters and leaves every layer, are those of the policy token by token."""
    method = reducing()
    output = run(runner, case.encoder, case.inputs, method)
    assume(is_clear(output))
    for row in range(len(case.lengths)):
        expected = loops(case, row, method)
        assert output.logits[row].tolist() == pytest.approx(expected.logits.tolist(), abs=1e-9)
        lengths = zip(output.attention_length[row], output.ffn_length[row], strict=True)
        assert expected.lengths == [(int(a), int(f)) for a, f in lengths]
        for layer, record in zip(expected.layers, output.layers, strict=True):
            assert layer.kept == record.retained[row].nonzero()[:, 0].tolist()


@both_runners
def test_a_record_has_the_probability_where_a_policy_selects(runner: str) -> None:
    """Of all tokens that came to the layer; elsewhere nothing was compared."""
    method, inputs = reducing(), tiny.inputs((9, 6), 1)
    first, second, third = run(runner, tiny.encoder(), inputs, method).layers
    assert bool(first.score[first.live].isnan().all())
    for record, came in ((second, first.retained), (third, second.retained)):
        assert came.tolist() == record.live.tolist()
        free = record.live & ~inputs.protected
        assert ((record.score >= 0.5) & free).tolist() == (record.retained & free).tolist()
        assert not bool(record.attention[~record.retained].any())
    assert int(third.retained.sum()) < int(first.live.sum())


@given(case=strategies.cases)
@settings(max_examples=20)
@pytest.mark.parametrize("accounting", ["paper", "executed"])
def test_the_formula_equals_the_loops(accounting: str, case: Case) -> None:
    """Every multiply-accumulate of the loops is counted, those of the policies among them."""
    method = reducing()
    output = run("packed", case.encoder, tiny.row(case.inputs, 0), method)
    assume(is_clear(output))
    expected = loops(case, 0, method, accounting=accounting)
    actual = total_flops(
        output.attention_length.numpy(),
        output.ffn_length.numpy(),
        accounting=accounting,
        **case.encoder.config.sizes,
        decision=method.decision_cost,
    )
    assert 2 * expected.macs == actual


def test_the_policies_are_counted_by_hand() -> None:
    """32 (d + 1) MACs for each token that left the layer before; a manifest keeps the rule."""
    cost = TokenReduction(TRBertConfig(), 6).decision_cost
    assert cost.to_json() == {"entry_layers": [1, 3], "entry_width": 32}
    assert DecisionCost.from_json({"hidden_size": 8, **cost.to_json()}) == cost
    assert DecisionCost.from_json({"entry_layers": ["x"], "entry_width": 2}) == NO_COST
    sizes: dict[str, Any] = {"hidden": 8, "intermediate": 32, "accounting": "paper"}
    lengths = np.array([[9.0, 5, 5, 2, 2, 2]])
    with_policies = layer_macs(lengths, lengths, decision=cost, **sizes)
    added = with_policies - layer_macs(lengths, lengths, **sizes)
    assert added.tolist() == [[0, 32 * 9 * 9, 0, 32 * 9 * 5, 0, 0]]


def test_packed_runs_no_scores() -> None:
    """What a pass computes is the same whether the policies' decisions are recorded or not."""
    method, inputs = reducing(), tiny.inputs((9, 6), 1)
    plain = run("packed", tiny.encoder(), inputs, method, record=False)
    assert plain.layers == ()
    recorded = run("packed", tiny.encoder(), inputs, method)
    torch.testing.assert_close(plain.logits, recorded.logits, rtol=0, atol=1e-12)
    assert plain.ffn_length.tolist() == recorded.ffn_length.tolist()


@both_runners
def test_an_unprotected_first_token_may_go(runner: str) -> None:
    """Then the head reads its last state, and a sequence keeps its most probable token."""
    method = reducing(protect_first=False)
    for policy in method.policies.values():
        policy.outer.bias.data.fill_(-100.0)
    inputs = tiny.inputs((7, 1), 1, protect_first=False)
    output = run(runner, tiny.encoder(), inputs, method)
    assert output.attention_length.tolist() == [[7, 1, 1], [1, 1, 1]]
    expected = run("masked", tiny.encoder(), inputs, method)
    torch.testing.assert_close(output.logits, expected.logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "wrong", [{"layers": (0,)}, {"layers": (2, 2)}, {"samples": 1}, {"length_weight": -1.0}]
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    """Before the first layer nothing has looked at the sentence yet; one sample has no rival."""
    with pytest.raises(ConfigError):
        TRBertConfig(**wrong)


def test_a_policy_before_no_layer_is_refused() -> None:
    """A setting that nothing would follow says so; a single layer has no place for a policy."""
    with pytest.raises(ConfigError, match="the encoder has 3"):
        TokenReduction(TRBertConfig(layers=(1, 3)), 3)
    assert TokenReduction(TRBertConfig(), 1).entry_layers == ()
