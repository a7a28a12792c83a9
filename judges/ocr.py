"""OCR: how much of a text was read right."""

import unicodedata
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from envhub.contracts.score import JudgeInput, Score
from envhub.errors import UsageError

LONGEST = 65_536  # characters of a text that is compared


@dataclass(frozen=True, slots=True)
class TextSimilarity:
    """1 - d / max(m, n): d is the Levenshtein distance between the response and the task's answer, m and n their
    lengths in code points; 1 where both are empty. arXiv:2602.02276 §4.4.2 names the normalised edit distance; which
    normalisation is ours.

    Both texts are NFC; with `spaces=False` every run of white space is one space, and none is left at the ends. A
    response over 65,536 characters scores 0.

    Raises:
        UsageError: (of a call) a task whose answer is no text, or as long as that.
    """

    spaces: bool = False
    case: bool = True

    def __call__(self, input: JudgeInput) -> Score:
        truth = input.task.answer
        if not isinstance(truth, str) or len(truth) > LONGEST:
            raise UsageError(f"task '{input.task.id}' has the answer {truth!r:.100}; it must be a text of <= {LONGEST}")
        response = input.response
        if len(response) > LONGEST:
            return Score(0.0, {"similarity": 0.0}, f"the response has over {LONGEST} characters")
        similarity = text_similarity(self._normal(response), self._normal(truth))
        return Score(similarity, {"similarity": similarity})

    def _normal(self, text: str) -> str:
        if not text.isascii():
            text = unicodedata.normalize("NFC", text)
        if not self.spaces and not _is_spaced(text):
            text = " ".join(text.split())
        return text if self.case else text.casefold()


ocr = TextSimilarity()


def text_similarity(left: str, right: str) -> float:
    """1 - Levenshtein distance / length of the longer text."""
    return float(Levenshtein.normalized_similarity(left, right))


def _is_spaced(text: str) -> bool:
    """Whether its white space is single spaces, none at the ends, as it mostly is: to see that takes a fifth of the
    time that joining the words does. Of all white space, only the space is printable."""
    return text.isprintable() and "  " not in text and text[:1] != " " and text[-1:] != " "
