"""One rollout: what was said, when, in which branches and calls; and text that would like to take the page over."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from envhub.testing.showcase import SWARM, Showcase
from envhub.testing.showcase.special import HUGE_LINE
from tests.dashboard.browser.site import Site

pytestmark = pytest.mark.browser


def open_rollout(page, site: Site, showcase: Showcase, name: str, rest: str = "") -> None:
    page.goto(f"{site.url}/rollouts/{showcase.rollout(name)}{rest}")
    page.get_by_role("heading", level=1).wait_for()


def test_a_search_marks_what_it_finds_and_enter_goes_through_it(page, site: Site, showcase: Showcase):
    open_rollout(page, site, showcase, "branching")
    page.keyboard.press("/")
    page.keyboard.type("parse()")
    expect(page.locator("mark").first).to_have_text("parse()")
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 of ")).to_be_visible()
    assert "find=parse" in page.url


def test_messages_of_a_role_are_hidden_and_the_url_says_so(page, site: Site, showcase: Showcase):
    open_rollout(page, site, showcase, "branching")
    tools = page.locator("article.message.tool")
    expect(tools.first).to_be_visible()
    page.get_by_role("group", name="What is shown").get_by_role("button", name="tool").click()
    expect(tools).to_have_count(0)
    page.goto(page.url)
    expect(page.locator("article.message.assistant").first).to_be_visible()
    expect(tools).to_have_count(0)


def test_the_score_is_broken_down_and_explained(page, site: Site, showcase: Showcase):
    open_rollout(page, site, showcase, "branching")
    score = page.locator(".panel", has=page.get_by_role("heading", name="Score"))
    expect(score).to_contain_text("tests pass; the diff is larger than needed")
    expect(score).to_contain_text("−0.18")


def test_a_turn_that_earned_something_by_itself_says_so(page, site: Site, showcase: Showcase):
    open_rollout(page, site, showcase, "branching")
    earned = page.locator("article.message.assistant .tag", has_text="earned")
    expect(earned).to_have_text(["earned −0.05", "earned 0.6"])


def test_pictures_are_shown(page, site: Site, showcase: Showcase):
    open_rollout(page, site, showcase, "pictures")
    pictures = page.locator("article.message.user").first.locator(".pictures img")
    expect(pictures).to_have_count(2)  # each stands there once it has come
    assert pictures.first.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [
        320,
        200,
    ]


@pytest.mark.parametrize("tab", ["", "/tokens", "/calls", "/logs", "/branches"])
def test_hostile_text_is_shown_as_text_and_nothing_of_it_hides(page, site: Site, showcase: Showcase, tab: str):
    open_rollout(page, site, showcase, "hostile", tab)
    shown = page.locator("main")
    expect(shown).to_contain_text("onerror")
    expect(page.locator("main img, main script")).to_have_count(0)
    assert "owned" not in page.title()
    assert "\u202e" not in shown.inner_text()


def test_a_line_of_a_megabyte_is_cut_until_more_of_it_is_asked_for(page, site: Site, showcase: Showcase):
    open_rollout(page, site, showcase, "hostile")
    line = page.locator("article.message.tool .text").first
    assert len(line.inner_text()) < 10_000
    page.locator("article.message.tool .more").first.click()
    expect(page.locator("article.message.tool .more").first).to_contain_text("more characters")
    assert len(line.inner_text()) > 50_000


def test_a_message_that_the_server_cut_is_fetched_whole(page, site: Site, showcase: Showcase):
    open_rollout(page, site, showcase, "hostile")
    message = page.locator("article.message.tool", has_text="The server cut this message").first
    expect(message).to_contain_text(f"{len(HUGE_LINE):,} characters")
    message.get_by_role("button", name="Fetch it whole").click()
    whole = page.locator("article.message.tool").first
    expect(whole.locator(".cut")).to_have_count(0)
    expect(whole.locator(".more")).to_contain_text(f"of {len(HUGE_LINE) - 2400:,} more characters")


@pytest.mark.parametrize("name", ["HTML file that shows it all", "JSON lines: its events"])
def test_a_rollout_is_saved_as_a_file(page, site: Site, showcase: Showcase, name: str):
    open_rollout(page, site, showcase, "branching")
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as saving:
        page.get_by_role("menuitem", name=name).click()
    text = Path(saving.value.path()).read_text()
    assert saving.value.suggested_filename.startswith(showcase.rollout("branching"))
    assert "I also check the edge cases" in text


def test_the_timeline_of_a_swarm_holds_the_lanes_in_sight_alone_and_zooms_by_dragging(page, site: Site):
    page.goto(f"{site.url}/rollouts/{SWARM}/timeline")
    lanes = page.locator(".lane")
    expect(lanes.first).to_be_visible()
    assert lanes.count() < 60
    box = page.locator(".gantt-lanes").bounding_box()
    page.mouse.move(box["x"] + 500, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 700, box["y"] + 40, steps=4)
    page.mouse.up()
    page.wait_for_url(lambda url: "from=" in url and "to=" in url)
    page.keyboard.press("0")
    page.wait_for_url(lambda url: "from=" not in url)
    page.get_by_label("Critical path only").check()
    expect(lanes.first).to_contain_text(SWARM)
    assert lanes.count() < 20


def test_a_segment_of_the_timeline_tells_what_it_was(page, site: Site):
    page.goto(f"{site.url}/rollouts/{SWARM}/timeline")
    page.locator(".lane [data-bar] rect").nth(1).hover()
    expect(page.locator(".bar-card")).to_contain_text("from")


def test_the_tree_beside_the_transcript_leads_to_a_child_and_its_crumb_back(page, site: Site):
    page.goto(f"{site.url}/rollouts/{SWARM}")
    page.get_by_role("list", name="Rollouts of the tree").get_by_role("link").nth(1).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{SWARM}.0")
    page.get_by_role("link", name=f"parent {SWARM}").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(SWARM)


def test_branches_say_why_they_began_and_lead_to_the_row_in_which_they_train(page, site: Site, showcase: Showcase):
    open_rollout(page, site, showcase, "branching", "/branches")
    calls = page.get_by_role("list", name="Calls, in their order").get_by_role("listitem")
    expect(calls).to_have_count(7)
    expect(calls.nth(5)).to_contain_text("compaction: ")
    calls.nth(6).get_by_role("link", name="trains in row 4").click()
    expect(page.get_by_role("region", name="Tokens of row 4")).to_contain_text("Right")


def test_a_call_shows_what_is_new_since_the_one_before(page, site: Site, showcase: Showcase):
    open_rollout(page, site, showcase, "branching", "/calls?turn=5")
    call = page.get_by_role("region", name="Call of turn 5")
    expect(call).to_contain_text("temperature 1")
    expect(call).to_contain_text("were not kept")
    page.get_by_role("button", name="Diff to the call before").click()
    expect(page.locator(".diff-line.added")).to_contain_text("Summary: parse() now converts")
    expect(page.locator(".diff-line.removed").first).to_be_visible()
    page.keyboard.press("k")
    expect(page.get_by_role("region", name="Call of turn 4")).to_be_visible()


def test_a_call_shows_what_went_over_the_wire_beside_its_canonical_form(page, site: Site, showcase: Showcase):
    open_rollout(page, site, showcase, "branching", "/calls?turn=1")
    raw = page.get_by_role("region", name="Raw")
    expect(raw).to_contain_text("POST /v1/chat/completions")
    expect(raw.get_by_role("region", name="The answer")).to_contain_text('"finish_reason": "stop"')
    raw.get_by_text("3 headers").click()
    expect(raw).to_contain_text("(hidden)")
    expect(page.locator(".canonical")).to_contain_text("parse() keeps strings")


def test_a_failed_rollout_says_at_which_boundary_and_why(page, site: Site):
    page.goto(f"{site.url}/rollouts?boundary=sandbox")
    page.locator("table.rollouts tbody th a").first.click()
    failure = page.get_by_role("region", name="Failure")
    expect(failure).to_contain_text("sandbox")
    expect(failure).to_contain_text("did not answer within 5 s")


def test_a_rollout_that_is_not_there_is_said_to_be_missing(page, site: Site):
    page.goto(f"{site.url}/rollouts/nobody-0-0-0")
    expect(page.get_by_role("alert")).to_contain_text("no rollout 'nobody-0-0-0' in this store")
    page.complaints.clear()  # the browser's own word for an answer of 404
