"""200,000 tokens of one row: few elements, quick ways through it, and all facts of each token."""

import pytest
from playwright.sync_api import expect

from envhub.testing.showcase import Showcase
from tests.dashboard.browser.site import Site

pytestmark = pytest.mark.browser

MOST_ELEMENTS = 5_000


@pytest.fixture
def tokens(page, site: Site, showcase: Showcase):
    page.goto(f"{site.url}/rollouts/{showcase.rollout('long')}/tokens")
    expect(page.locator(".token-bar").first).to_contain_text("200,")
    expect(page.get_by_text("loaded")).to_have_count(0)
    return page


def test_the_whole_row_scrolls_with_few_elements(tokens):
    count = """async () => {
        const scroller = document.querySelector('.token-scroll')
        let most = 0
        for (let part = 0; part <= 20; part++) {
            scroller.scrollTop = (scroller.scrollHeight * part) / 20
            await new Promise((done) => setTimeout(done, 60))
            most = Math.max(most, document.querySelectorAll('*').length)
        }
        return most
    }"""
    assert tokens.evaluate(count) <= MOST_ELEMENTS
    expect(tokens.locator(".line").last).to_contain_text("assistant>")


def test_a_token_tells_its_facts_to_the_pointer_and_to_the_keyboard(tokens):
    tokens.locator(".line-text").nth(4).hover()
    card = tokens.locator(".token-card")
    for fact in ("logprob", "probability", "policy v3", "temperature", "turn"):
        expect(card).to_contain_text(fact)
    tokens.locator(".token-scroll").focus()
    before = card.inner_text()
    tokens.keyboard.press("ArrowRight")
    expect(card).not_to_have_text(before)


def test_keys_jump_to_low_probabilities_and_version_changes(tokens):
    card = tokens.locator(".token-card")
    tokens.keyboard.press("l")
    expect(tokens.locator(".line-text .active")).to_be_in_viewport()
    logprob = float(card.locator("div", has_text="logprob").locator("dd").inner_text().split()[0].replace("−", "-"))
    assert logprob < -5
    tokens.keyboard.press("v")
    expect(card).to_contain_text("policy v4")
    expect(tokens.locator(".line-text .active")).to_be_in_viewport()


def test_text_that_is_copied_is_the_tokens_own_without_the_marks_of_its_spaces(tokens):
    line = tokens.locator(".line-text").nth(1)
    assert line.evaluate("line => line.innerText").startswith(" parse() fail. Find out why")
    assert "·" in line.get_attribute("data-spaces")


def test_the_box_of_the_active_token_lies_where_its_text_is(tokens):
    line = tokens.locator(".line-text").nth(4)
    where = """line => {
        const text = [...line.querySelectorAll('span')].map((run) => run.firstChild).find(Boolean)
        const range = document.createRange()
        range.setStart(text, 10)
        range.setEnd(text, 11)
        const box = range.getBoundingClientRect()
        return [box.x + box.width / 2, box.y + box.height / 2]
    }"""
    x, y = line.evaluate(where)
    tokens.mouse.move(x, y)
    box = tokens.locator(".line-text .active").bounding_box()
    assert box["x"] <= x <= box["x"] + box["width"]
    assert box["y"] <= y <= box["y"] + box["height"]


def test_scrolling_costs_little_of_the_main_thread(tokens):
    """CPU seconds, not frames: what else the machine does must not count."""
    scroll = """async () => {
        const scroller = document.querySelector('.token-scroll')
        for (let frame = 0; frame < 60; frame++) {
            await new Promise(requestAnimationFrame)
            scroller.scrollTop += scroller.clientHeight
        }
    }"""
    session = tokens.context.new_cdp_session(tokens)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def busy_s() -> float:
        found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        return found["TaskDuration"]

    before = busy_s()
    tokens.evaluate(scroll)
    assert (busy_s() - before) / 60 <= 0.050


def test_colours_follow_the_mode_and_the_mode_stands_in_the_url(tokens):
    tokens.get_by_role("button", name="Mask", exact=True).click()
    expect(tokens.locator(".line-text path.trained").first).to_be_visible()
    tokens.get_by_role("button", name="Version", exact=True).click()
    expect(tokens.get_by_role("list", name="Colours of tokens")).to_contain_text("v4")
    assert "color=version" in tokens.url


def test_a_url_leads_to_a_token(page, site: Site, showcase: Showcase):
    page.goto(f"{site.url}/rollouts/{showcase.rollout('long')}/tokens?token=150000")
    expect(page.locator(".token-card")).to_contain_text("150,000")
    expect(page.locator(".line-text .active")).to_be_in_viewport()


def test_the_ids_of_the_row_are_copied(page, site: Site, showcase: Showcase):
    page.goto(f"{site.url}/rollouts/{showcase.rollout('branching')}/tokens?row=1")
    page.get_by_role("button", name="Copy the ids of the row").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    ids = page.evaluate("navigator.clipboard.readText()")
    assert showcase.vocabulary.decode([int(id) for id in ids.strip("[]").split(",")]).endswith(
        "Fix parse()</assistant>"
    )
