"""Token strings as a reader wants to see them: no tokenizer marks, nothing invisible."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

from ltp_core.records import Trace

_CONTINUATION = "##"
_BYTE_LEVEL_SPACE = "Ġ"
_SENTENCEPIECE_SPACE = "▁"
UNKNOWN = {"[UNK]", "<unk>"}
"""What tokenizers make of what their vocabulary lacks."""

LONGEST = 30
"""Characters that are shown of an unknown word, which may have thousands."""

_INVISIBLE = {"Cf", "Cs", "Zl", "Zp"}


def display_texts(tokens: Sequence[str]) -> tuple[str, ...]:
    """The text of each token without the tokenizer's marks, every control character visible."""
    is_byte_level = any(token.startswith(_BYTE_LEVEL_SPACE) for token in tokens)
    return tuple(visible(_plain(token, is_byte_level)) or "␣" for token in tokens)


def token_texts(trace: Trace) -> tuple[str, ...]:
    """The same of a trace; an unknown token is shown as what it stands for in the text."""
    texts = display_texts(trace.tokens)
    if not trace.surfaces:
        return texts
    return tuple(
        _shortened(visible(surface)) if token in UNKNOWN and surface.strip() else text
        for token, surface, text in zip(trace.tokens, trace.surfaces, texts, strict=True)
    )


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def visible(text: str) -> str:
    """`text` with control and formatting characters replaced by signs that can be seen.

    A NUL becomes ␀; direction marks, which could reorder the words around them, become ⟨U+202E⟩, and
    so does half a surrogate pair, which no file takes. The zero-width joiner stays: emoji need it.
    """
    return "".join(map(_visible_character, text))


def is_right_to_left(texts: Sequence[str]) -> bool:
    """Whether most letters of the texts belong to a right-to-left script."""
    directions = [unicodedata.bidirectional(character) for text in texts for character in text]
    rightward = sum(direction == "L" for direction in directions)
    return sum(direction in {"R", "AL"} for direction in directions) > rightward


def _plain(token: str, is_byte_level: bool) -> str:
    if is_byte_level and all(character in _byte_of() for character in token):
        return _from_bytes(bytes(_byte_of()[character] for character in token)).strip(" ")
    return token.removeprefix(_CONTINUATION).replace(_SENTENCEPIECE_SPACE, " ").strip(" ")


def _from_bytes(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:  # one piece of a character that the tokenizer split
        return "⟨" + " ".join(f"{byte:02X}" for byte in raw.strip(b" ")) + "⟩"


def _visible_character(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cc":
        code = ord(character)
        return chr(0x2400 + code) if code < 32 else f"⟨U+{code:04X}⟩"
    if category in _INVISIBLE and character != "\u200d":
        return f"⟨U+{ord(character):04X}⟩"
    return character


@cache
def _byte_of() -> dict[str, int]:
    """Which byte each character of a byte-level vocabulary stands for (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + index): byte for index, byte in enumerate(others)}
