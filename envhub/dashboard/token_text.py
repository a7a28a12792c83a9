"""The text of each token, so that the pieces of a row join to the row's text."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

Decode: TypeAlias = Callable[[Sequence[int]], str]

BROKEN = "\ufffd"  # what a decoder gives for bytes that form no character, or not yet
HOLD = 16  # tokens; a character takes at most 4, so bytes still broken after as many stay broken
LEAD = 64  # tokens decoded before the first that is asked for, so that a page agrees with the pages around it


def pieces(ids: Sequence[int], decode: Decode, start: int, stop: int) -> list[str]:
    """The text of each of the tokens [start, stop) of a row. A character that spans tokens belongs to its last one;
    the others get "".

    Each token is decoded after the one before it, since decoders treat the first token of a text differently.
    """
    first = max(0, start - LEAD)
    context = group = first  # where decoding begins; the first token whose text is not given yet
    known, texts = "", [""] * (stop - first)
    for index in range(first, stop):
        text = decode(ids[context : index + 1])
        if text.endswith(BROKEN) and index + 1 < len(ids) and index + 1 - group < HOLD:
            continue
        texts[index - first] = text[len(known) :]
        context, group = group, index + 1
        known = decode(ids[context:group])
    return texts[start - first :]
