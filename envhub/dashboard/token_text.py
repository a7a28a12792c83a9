"""The text of each token, so that the pieces of a row join to the row's text."""

import logging
from collections.abc import Sequence

from envhub.dashboard.decoder import Decode
from envhub.errors import Boundary, Fault, boundary

logger = logging.getLogger(__name__)

BROKEN = "\ufffd"  # what a decoder gives for bytes that form no character, or not yet
HOLD = 16  # tokens; a character takes at most 4, so bytes still broken after as many stay broken
LEAD = 64  # tokens decoded before the first that is asked for, so that a page agrees with the pages around it


def pieces_or_none(ids: Sequence[int], decode: Decode, start: int, stop: int) -> list[str] | None:
    """`pieces`, or None where the decoder fails: a page that shows ids tells more than one that shows an error."""
    try:
        with boundary(Boundary.ENGINE):
            return pieces(ids, decode, start, stop)
    except Fault as fault:
        logger.warning("tokens %d to %d of a row are shown as ids, as their decoder failed: %s", start, stop, fault)
        return None


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
