"""SearchToolset: what a search finds, how a page is read, and what is told of what can't be."""

from collections.abc import Callable

import pytest

from envhub.contracts.messages import ToolCall
from envhub.contracts.toolset import ToolResult
from envhub.environments.standalone import StandaloneContext
from envhub.errors import UsageError
from envhub.toolsets.corpus import Corpus, Page
from envhub.toolsets.search import DownloadToolset, SearchToolset
from tests.toolsets.fakes import REQUEST

pytestmark = pytest.mark.anyio

LINES = [f"line {number}" for number in range(1, 101)]
CORPUS = Corpus(
    [
        Page("x://cats", "Cats", "The cat sleeps.\nIt eats fish."),
        Page("x://dogs", "Dogs", "The dog barks.\nThe cat does not."),
        Page("x://long", "A long page", "\n".join(LINES)),
        Page("x://empty", "Nothing", ""),
    ],
    {"x://files/a.csv": b"1,2\n"},
)


async def asked(name: str, kind: Callable[..., SearchToolset] = DownloadToolset, **arguments: object) -> ToolResult:
    toolset = kind(lambda task: CORPUS)
    await toolset.open(StandaloneContext(REQUEST))
    return await toolset.call(ToolCall("", name, arguments))  # type: ignore[arg-type]


async def test_a_search_answers_each_query_with_titles_addresses_and_the_best_line() -> None:
    result = await asked("search", queries=["fish", "zebra"])
    assert result.content == "fish: 1 pages\n- Cats\n  x://cats\n  It eats fish.\n\nzebra: nothing found"


def test_pages_about_a_word_come_before_those_that_mention_it() -> None:
    assert [page.title for page in CORPUS.search("cats CAT", 5)] == ["Cats", "Dogs"]
    assert [page.title for page in CORPUS.search("cat dogs", 1)] == ["Dogs"]


def test_a_rare_word_counts_more_than_a_common_one() -> None:
    pages = [Page(str(number), "", "common " * 3) for number in range(9)]
    found = Corpus([*pages, Page("rare", "", "rare among other words and many more")]).search("common rare", 1)
    assert found[0].url == "rare"


def test_a_long_page_does_not_win_by_its_length() -> None:
    pages = [Page("long", "", "word " * 2 + "other " * 500), Page("short", "", "word word")]
    assert [page.url for page in Corpus(pages).search("word", 2)] == ["short", "long"]


def test_an_empty_corpus_has_nothing_to_find() -> None:
    assert Corpus([]).search("anything", 5) == []


def test_two_pages_of_one_address_are_refused() -> None:
    with pytest.raises(UsageError, match="two pages of a corpus have the address 'x'"):
        Corpus([Page("x", "a", ""), Page("x", "b", "")])


async def test_a_page_is_read_forty_lines_at_a_time() -> None:
    first = (await asked("open_page", url=" x://long ")).content.splitlines()
    assert first[:3] == ["A long page", "x://long, lines 1-40 of 100", "1: line 1"]
    assert first[-2:] == ["40: line 40", "[60 more lines: open_page with line 41]"]
    last = (await asked("open_page", url="x://long", line=81)).content.splitlines()
    assert last[1:3] == ["x://long, lines 81-100 of 100", "81: line 81"]
    assert last[-1] == "100: line 100"


async def test_an_empty_page_can_be_opened() -> None:
    assert (await asked("open_page", url="x://empty")).content.startswith("Nothing\nx://empty, lines 1-0 of 0")


async def test_find_gives_the_lines_and_their_numbers() -> None:
    assert (await asked("find", url="x://dogs", text="CAT")).content == "1 of 2 lines:\n2: The cat does not."
    assert (await asked("find", url="x://dogs", text="bird")).content == "0 of 2 lines"
    many = (await asked("find", url="x://long", text="line")).content.splitlines()
    assert (many[0], many[-1], len(many)) == ("100 of 100 lines:", "[80 more lines]", 22)


async def test_a_receipt_has_name_size_and_checksum() -> None:
    assert (await asked("download", url="x://files/a.csv")).content == "a.csv: 4 bytes, checksum 52186c933993"


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("search", {"queries": []}, "there are 0 queries; give 1 to 10"),
        ("search", {"queries": ["a"] * 11}, "there are 11 queries"),
        ("search", {"queries": "a"}, "queries"),
        ("open_page", {"url": "x://birds"}, "'x://birds' is no page"),
        ("open_page", {"url": "x://files/a.csv"}, "is a file"),
        ("open_page", {"url": "x://cats", "line": 3}, "line 3 of 2; begin at 1 to 2"),
        ("open_page", {"url": "x://cats", "line": 0}, "line 0 of 2"),
        ("find", {"url": "x://cats", "text": " "}, "the text is empty"),
        ("download", {"url": "x://cats"}, "no file at 'x://cats'"),
    ],
)
async def test_what_can_not_be_done_is_told_with_a_way_out(name: str, arguments: dict[str, object], said: str) -> None:
    result = await asked(name, **arguments)
    assert result.is_error
    assert said in result.content


async def test_nothing_is_downloaded_without_the_tool() -> None:
    assert "no tool 'download'" in (await asked("download", SearchToolset, url="x://files/a.csv")).content
