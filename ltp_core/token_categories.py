"""Which kinds of token leave first: counts by kind, and by how frequent a token is.

Two groupings of the same tokens. `kind` has every token once; `frequency` every token of the text,
special ones apart. Stored are counts, never a token. Torch-free.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int
from tokenizers import Encoding

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("special", "punctuation", "stop_word", "piece", "word")
"""In the order in which they are asked for: a token is the first that it fits."""

NUM_BANDS = 5

BANDS = tuple(f"frequency_{number}" for number in range(1, NUM_BANDS + 1))
"""From the most frequent to the rarest; each has about a fifth of the tokens."""

GROUPINGS = {"kind": KINDS, "frequency": BANDS}

_STOP_WORDS = (
    "a an the this that these those such some any each every either neither both all no "
    "i me my mine myself you your yours yourself he him his himself she her hers herself it its "
    "itself we us our ours ourselves they them their theirs themselves one "
    "who whom whose which what where when why how there here "
    "am is are was were be been being do does did doing done have has had having "
    "can could will would shall should may might must ought "
    "and or but nor so yet if then than because as while although though unless until since whether "
    "of in on at by for with about against between into through during before after above below to "
    "from up down out off over under again further within without upon among toward towards per via "
    "not only just too very also even still own same other another more most much many few less "
    "least now ever never once "
    "s t d m ll re ve don didn doesn isn wasn aren weren won wouldn couldn shouldn hasn haven hadn "
    "ain cannot"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""English words that carry grammar rather than content, and what tokenizers leave of contractions.

Negations are among them.
"""

Layers = Mapping[int, tuple[Bool[np.ndarray, "batch seq"], Bool[np.ndarray, "batch seq"]]]
"""By layer that ran: which tokens of the padded batch entered it, and which of them stayed."""


def kinds_of(encoding: Encoding, texts: Sequence[str]) -> Int[np.ndarray, " seq"]:
    """Kind of each token as its number in `KINDS`.

    Special: added by the tokenizer. Punctuation: consists of punctuation and symbols alone. Stop
    word: a whole word of `STOP_WORDS`. Piece: belongs to a word that the tokenizer divided. Word: any
    other.

    Args:
        encoding: One input.
        texts: Its one or two texts, which the encoding's offsets refer to.
    """
    words = list(zip(encoding.sequence_ids, encoding.word_ids, strict=True))
    before, after = [None, *words[:-1]], [*words[1:], None]
    kinds = [
        "special"
        if word[1] is None
        else _kind(texts[word[0] or 0][begin:end].strip(), is_piece=word in neighbours)
        for word, (begin, end), *neighbours in zip(
            words, encoding.offsets, before, after, strict=True
        )
    ]
    return np.array([KINDS.index(kind) for kind in kinds], dtype=np.int64)


def _kind(surface: str, *, is_piece: bool) -> str:
    if surface and all(unicodedata.category(sign)[0] in "PS" for sign in surface):
        return "punctuation"
    if is_piece:
        return "piece"
    return "stop_word" if surface.lower() in STOP_WORDS else "word"


def frequency_bands(count: Int[np.ndarray, " vocabulary"]) -> Int[np.ndarray, " vocabulary"]:
    """Band of each vocabulary id by how often it occurs, 0 the most frequent.

    Ids are ordered by falling count and divided where a fifth of all tokens is reached; ids of equal
    count share the band in which the middle of them lies. What never occurs is in the last band.
    """
    values, inverse, ids = np.unique(-count, return_inverse=True, return_counts=True)
    tokens = -values * ids
    middle = (np.cumsum(tokens) - tokens / 2) / max(1, tokens.sum())
    band = np.minimum((NUM_BANDS * middle).astype(np.int64), NUM_BANDS - 1)
    return np.where(count == 0, NUM_BANDS - 1, band[inverse])


class KindCounter:
    """Counts, batch by batch, the tokens of each kind that enter a layer and that stay after it."""

    def __init__(self, num_layers: int, vocabulary_size: int) -> None:
        # The first axis: entering, retained. Text tokens by id become bands once all are known.
        self._by_kind = np.zeros((2, num_layers, len(KINDS)), dtype=np.int64)
        self._by_id = np.zeros((2, num_layers, vocabulary_size), dtype=np.int64)
        self._of_id = np.zeros(vocabulary_size, dtype=np.int64)

    def add(
        self, encodings: Sequence[Encoding], texts: Sequence[tuple[str, ...]], layers: Layers
    ) -> None:
        """Counts a batch.

        Args:
            encodings: The inputs, in the order of the batch's rows.
            texts: Their texts.
            layers: What entered each layer that ran, and what stayed.
        """
        ids, kinds, real = _padded(encodings, texts)
        is_text = real & (kinds != KINDS.index("special"))
        self._of_id += np.bincount(ids[is_text], minlength=len(self._of_id))
        for layer, masks in layers.items():
            for side, mask in enumerate(masks):
                self._by_kind[side, layer] += np.bincount(kinds[mask], minlength=len(KINDS))
                self._by_id[side, layer] += np.bincount(
                    ids[mask & is_text], minlength=len(self._of_id)
                )

    def frame(self, split: str) -> pd.DataFrame:
        """All counts so far, columns of the store's `token_kinds` table.

        Layers that were left out have counts of 0.
        """
        import pandas as pd

        band = frequency_bands(self._of_id)
        by_band = np.stack(
            [self._by_id[:, :, band == number].sum(axis=2) for number in range(NUM_BANDS)], axis=2
        )
        frames = [
            _long(counts, split, grouping)
            for grouping, counts in (("kind", self._by_kind), ("frequency", by_band))
        ]
        return pd.concat(frames, ignore_index=True)


def _padded(
    encodings: Sequence[Encoding], texts: Sequence[tuple[str, ...]]
) -> tuple[
    Int[np.ndarray, "batch seq"], Int[np.ndarray, "batch seq"], Bool[np.ndarray, "batch seq"]
]:
    """Vocabulary ids and kinds of a batch, padded on the right, and where there are tokens."""
    shape = len(encodings), max(len(encoding) for encoding in encodings)
    ids, kinds = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    real = np.zeros(shape, dtype=bool)
    for row, (encoding, text) in enumerate(zip(encodings, texts, strict=True)):
        ids[row, : len(encoding)] = encoding.ids
        kinds[row, : len(encoding)] = kinds_of(encoding, text)
        real[row, : len(encoding)] = True
    return ids, kinds, real


def _long(counts: Int[np.ndarray, "sides layers kinds"], split: str, grouping: str) -> pd.DataFrame:
    import pandas as pd

    _, num_layers, num_kinds = counts.shape
    entering, retained = counts
    return pd.DataFrame(
        {
            "split": split,
            "grouping": grouping,
            "kind": np.tile(GROUPINGS[grouping], num_layers),
            "layer": np.repeat(np.arange(num_layers), num_kinds),
            "entering": entering.ravel(),
            "retained": retained.ravel(),
        }
    )


def survival(frame: pd.DataFrame, grouping: str) -> pd.DataFrame:
    """What is left of each kind at the input (layer 0) and after each layer (from 1).

    A layer that is left out changes nothing. Kinds that do not occur are left out.

    Args:
        frame: Rows of one split of a `token_kinds` table.
        grouping: One of `GROUPINGS`.

    Returns:
        Columns `kind`, `layer`, `tokens` and `share`, the fraction of the kind's tokens at the
        input; kinds in the order of `GROUPINGS`.
    """
    import pandas as pd

    rows = []
    for kind in GROUPINGS[grouping]:
        part = frame[(frame["grouping"] == grouping) & (frame["kind"] == kind)]
        part = part.sort_values("layer")
        tokens = [int(part["entering"].max())] if len(part) else [0]
        if tokens[0] == 0:
            continue
        # A layer that no token of any kind enters did not run; one that no token of this kind
        # enters may have run.
        for layer, retained in zip(part["layer"], part["retained"], strict=True):
            ran = frame.loc[frame["layer"] == layer, "entering"].sum() > 0
            tokens.append(int(retained) if ran else tokens[-1])
        rows += [
            {"kind": kind, "layer": step, "tokens": count, "share": count / tokens[0]}
            for step, count in enumerate(tokens)
        ]
    return pd.DataFrame(rows, columns=["kind", "layer", "tokens", "share"])


def layers_survived(surviving: pd.DataFrame) -> pd.Series:
    """Layers that a token of each kind survives on average, least first, from `survival`."""
    after = surviving[surviving["layer"] > 0]
    return after.groupby("kind", sort=False)["share"].sum().sort_values(kind="stable")
