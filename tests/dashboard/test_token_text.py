"""pieces: the text of each token."""

from hypothesis import given
from hypothesis import strategies as st

from envhub.dashboard.token_text import HOLD, LEAD, pieces
from tests.dashboard.recording import decode, encode


@given(st.text())
def test_pieces_join_to_the_text(text: str):
    ids = encode(text).tolist()
    assert "".join(pieces(ids, decode, 0, len(ids))) == text


@given(st.text(min_size=1), st.data())
def test_windows_give_the_same_pieces_as_the_whole_row(text: str, data: st.DataObject):
    ids = encode(text * 40).tolist()
    start = data.draw(st.integers(0, len(ids)))
    stop = data.draw(st.integers(start, len(ids)))
    assert pieces(ids, decode, start, stop) == pieces(ids, decode, 0, len(ids))[start:stop]


def test_a_character_belongs_to_the_last_of_its_tokens():
    assert pieces(encode("a🙂b").tolist(), decode, 0, 6) == ["a", "", "", "", "🙂", "b"]


def test_a_row_cut_inside_a_character_ends_in_the_replacement_character():
    ids = encode("a🙂").tolist()[:-1]
    assert pieces(ids, decode, 0, len(ids)) == ["a", "", "", "\ufffd"]


def test_bytes_that_form_no_character_hold_up_nothing_for_long():
    ids = [0x80] * (3 * HOLD) + encode("fine").tolist()
    given = pieces(ids, decode, 0, len(ids))
    assert given[HOLD - 1] == "\ufffd" * HOLD
    assert given[-3:] == ["i", "n", "e"]
    assert "".join(given) == decode(ids)


def test_a_decoder_that_strips_the_first_space_loses_none_within_a_row():
    words = [" one", " two", " three"]

    def strip_first(ids: list[int]) -> str:  # as SentencePiece does
        return "".join(words[id] for id in ids).removeprefix(" ")

    assert pieces([0, 1, 2, 1], strip_first, 0, 4) == ["one", " two", " three", " two"]


def test_no_token_is_decoded_with_more_than_a_few_others():
    longest = 0

    def measuring(ids: list[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return decode(ids)

    pieces([0x80] * 1000, measuring, 500, 1000)
    assert longest <= 2 * HOLD < LEAD
