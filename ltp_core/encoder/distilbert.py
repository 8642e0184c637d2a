"""DistilBERT: BERT without token types under other names, and a head with a ReLU.

Source: Sanh et al., DistilBERT, 2019.
"""

from __future__ import annotations

from ltp_core.encoder.bert import SPECIAL_TOKENS
from ltp_core.encoder.model import Family, LayerStack, Pooler

DISTILBERT = Family(
    name="distilbert",
    model_types=("distilbert",),
    class_prefix="DistilBert",
    special_tokens=SPECIAL_TOKENS,
    has_token_types=False,
    pooler=Pooler,
    head_activation="relu",
    config_names={
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "hidden_act": "activation",
    },
    # From ours to theirs the longer name must come before the one that ends like it.
    renames=(
        ("transformer.layer.", "encoder.layer."),
        ("attention.q_lin.", "attention.self.query."),
        ("attention.k_lin.", "attention.self.key."),
        ("attention.v_lin.", "attention.self.value."),
        ("attention.out_lin.", "attention.output.dense."),
        ("sa_layer_norm.", "attention.output.LayerNorm."),
        ("ffn.lin1.", "intermediate.dense."),
        ("ffn.lin2.", "output.dense."),
        ("output_layer_norm.", "output.LayerNorm."),
        ("pre_classifier.", "pooler.dense."),
    ),
    adapted=r"transformer\.layer\.\d+\..*\.(q_lin|k_lin|v_lin|out_lin|lin1|lin2)",
    # transformers has it built in, whatever the configuration says.
    required={"layer_norm_eps": 1e-12},
    stack=LayerStack,
)
