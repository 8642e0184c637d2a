"""What the method page says: equations as in the paper, our unit, costs, terms, differences."""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """One step of a layer."""

    title: str
    text: str


class Equation(NamedTuple):
    """An equation of the paper and what it says."""

    number: str
    latex: str
    text: str


STEPS = (
    Step(
        "1 · Attend",
        "Attention among the live tokens, as in any transformer. It is exact.",
    ),
    Step(
        "2 · Score",
        "A token's score is the attention that it receives, averaged over heads and summed over "
        "the live tokens.",
    ),
    Step(
        "3 · Decide",
        "It stays if its score exceeds the layer's threshold, or if it is protected, as the first "
        "token is.",
    ),
    Step(
        "4 · Go on",
        "Only what stays passes through the FFN and enters the next layer. What left never comes "
        "back.",
    ),
)

EQUATIONS = (
    Equation(
        "6",
        r"A^{(h,l)} = \mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt{d_h}}\right)",
        "Attention of one head; row j is what query j pays to each key.",
    ),
    Equation(
        "7",
        r"s^{(l)}(x_i) = \frac{1}{N_h}\frac{1}{n}\sum_{h=1}^{N_h}\sum_{j=1}^{n} A^{(h,l)}(x_j, x_i)",
        "Importance score: the mean over heads and queries of the attention paid to token i.",
    ),
    Equation(
        "8",
        r"M^{(l)}(x_i) = \begin{cases} 1 & s^{(l)}(x_i) > \theta^{(l)} \\ 0 & \text{otherwise}"
        r"\end{cases}",
        "Hard mask: a token at or below the threshold is out of this layer's FFN and of all later "
        "layers.",
    ),
    Equation(
        "9",
        r"\tilde M^{(l)}(x_i) = \sigma\!\left(\frac{s^{(l)}(x_i) - \theta^{(l)}}{T}\right)",
        "Soft mask: differentiable, so that thresholds can be learned; T → 0 gives the hard mask.",
    ),
    Equation(
        "10–11",
        r"\tilde x_\mathrm{out}^{(l)} = \tilde M^{(l)} \cdot \mathrm{LN}\big(\mathrm{FFN}("
        r"x_\mathrm{MHA}^{(l)}) + x_\mathrm{MHA}^{(l)}\big)",
        "Soft pruning as printed: the layer's output, scaled by the layer's own mask.",
    ),
    Equation(
        "12",
        r"\begin{gathered}\mathcal L_\mathrm{new} = \mathcal L + \lambda \mathcal L_\mathrm{reg}\\"
        r"\mathcal L_\mathrm{reg} = \frac{1}{L}\sum_{l=1}^{L}\big\lVert\tilde M^{(l)}(x)\big\rVert_1"
        r"\end{gathered}\,",
        "The regulariser charges for every token that is kept; λ is the price.",
    ),
    Equation(
        "13",
        r"\frac{d \mathcal L_\mathrm{reg}}{d\theta^{(l)}} = \sum_{i=1}^{n}"
        r"\frac{d \tilde M^{(l)}(x_i)}{d\theta^{(l)}}",
        "Tokens with a score near the threshold push it up; those far away hardly count.",
    ),
)

STAGES = (
    Step("Finetune", "The dense model learns the task; it is also the baseline and the teacher."),
    Step(
        "Soft",
        "Weights and thresholds learn together; tokens fade by the soft mask, and the regulariser "
        "or a FLOPs budget pushes the thresholds up.",
    ),
    Step(
        "Hard",
        "Masks become 0 or 1, thresholds are fixed, and the weights adapt to it.",
    ),
)

UNIT = (
    r"s_i^{(l)} = \frac{1}{H} \sum_{h=1}^{H} \sum_{j\ \mathrm{live}} A^{(h,l)}_{j,i}"
    r"\;=\; n \cdot \text{Eq. 7}"
)
UNIT_TEXT = (
    "Scores here are **times uniform attention**: n times Eq. 7, with n the tokens live in the layer. "
    "If attention were spread evenly, every token would score exactly 1.00, at every length and in "
    "every layer, so a threshold of 0.38 means: drop what receives less than 38 % of an even share. The "
    "paper's figures, measured by its authors' code at a constant width of 128 tokens, become ours "
    "when multiplied by 128."
)
PAPER_WIDTH = 128

LTP_S = r"s_i = a_i \, \exp\!\left(2 \tanh\frac{u_l^\top h_i}{\sqrt{d}}\right)"
LTP_S_SCORE = (
    "**LTP-S** (not the paper's) multiplies this attention, here $a_i$, by a learned factor of the state "
    "$h_i$ that the token has after the layer's attention, and divides by the mean over the ordinary "
    "tokens, those that are neither protected nor special:"
)
LTP_S_TEXT = (
    "The direction $u_l$ is learned, one a layer; it starts at 0, where the factor is 1. Thresholds, "
    "directions and weights learn while tokens are pruned, in each step with nothing pruned, with the "
    "most pruned, and with one strength between, so **one training serves every budget**: Explore has "
    "a slider for it, the commands have `--budget` and `--max-loss`. Deciding by the state takes the "
    "attention output of every token that enters a layer; both accountings count it, and agree for LTP-S."
)

TR_BERT = r"p_i = \sigma\!\left(w^\top \mathrm{gelu}(W h_i + b) + c\right) \ge \tfrac{1}{2}"
TR_BERT_RULE = (
    "**TR-BERT** looks at no attention. Before two layers, the second and the one at half depth, a small "
    "network, the policy, gives each token a probability of going on from the state $h_i$ that would "
    "enter the layer; with one half or more it goes on."
)
TR_BERT_TEXT = (
    "Such a choice has no slope, so policies learn **by reward**: of each training row eight selections are "
    "drawn by their probabilities; one that says the label with fewer tokens than the others becomes more "
    "probable. α says what tokens cost. First the policies learn alone, for half of that time shown by "
    "one selection that keeps what matters most to the unpruned model, then together with the weights. A "
    "policy that lets everything in, or nothing, is no choice: such a run **did not converge**, and is "
    "marked. The layer before a policy has run its FFN for tokens that then leave; both accountings "
    "count that, and the policies themselves."
)

PAPER_COST = r"4 n_a d^2 + 2 n_a^2 d + 2 n_f d f"
EXECUTED_COST = r"3 n_a d^2 + n_a^2 d + n_f n_a d + n_f d^2 + 2 n_f d f"
COST_TEXT = (
    "Multiply–accumulates of one layer that $n_a$ tokens enter and $n_f$ leave, with hidden width $d$ "
    "and FFN width $f$; FLOPs are twice that. **Relative FLOPs** are sums over the data set, divided "
    "by the same sums for the unpruned model without padding."
)

GLOSSARY = (
    ("token", "piece of text that the network reads: a word, a part of one, a sign"),
    ("live", "neither padding nor dropped by an earlier layer"),
    ("score", "attention a token receives, times uniform attention; mean 1 over the live tokens"),
    ("threshold θ", "what a token's score must exceed to stay; one a layer"),
    ("temperature T", "width of the soft mask's slope; falls during the soft stage"),
    (
        "protected",
        "never dropped: the first token, which the head reads, or which stands for “no answer”",
    ),
    ("n_a, n_f", "tokens that enter a layer's attention, and those that go on to its FFN"),
    ("with pruning", "the checkpoint as trained, tokens really removed"),
    ("same weights, unpruned", "the same checkpoint with pruning switched off"),
    ("dense counterpart", "a separate checkpoint finetuned without pruning, same data and epochs"),
    ("packed runner", "runs live tokens only, one after another, without padding"),
    ("masked runner", "keeps the shape and masks what was dropped: for training and as reference"),
)

DEVIATIONS = (
    "Scores, thresholds and temperatures are in multiples of uniform attention (see above).",
    "Only live tokens count as queries in the score, so padding and batch mates change nothing.",
    "The first token is protected; the authors' code protects none.",
    "Tokens are really removed at inference; the authors' code masks them.",
    "In the soft stage, masks accumulate over layers and weigh keys and queries, so that T → 0 is "
    "exactly removal. The printed form (Eq. 10–11) is there as an option.",
    "The regulariser is a mean over tokens and layers, so the paper's range of λ does not carry over; "
    "a FLOPs budget can take its place.",
    "T falls during the soft stage, and one multiplier on all thresholds may hold the budget in the "
    "hard stage.",
)
