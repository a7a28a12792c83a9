"""The list of rollouts: filters, order, pages and choice, all of them in the URL."""

import json
from pathlib import Path

import pyarrow.parquet
import pytest
from playwright.sync_api import expect

from envhub.testing.showcase import RUN
from tests.dashboard.browser.conftest import MANY
from tests.dashboard.browser.site import Site

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]  # 100,000 rollouts are long in writing on a busy machine


def lines(page):
    return page.locator("table.rollouts tbody tr")


def test_a_filter_narrows_a_list_of_100_000_and_its_url_brings_it_back(page, crowded: Site):
    page.goto(f"{crowded.url}/rollouts")
    total = page.get_by_text(f"{MANY + 349:,} rollouts")
    expect(total).to_be_visible()
    page.get_by_label("Status").select_option("failed")
    page.get_by_label("Boundary").select_option("judge")
    expect(lines(page).first).to_contain_text("failed judge")
    expect(total).not_to_be_visible()
    page.goto(page.url)
    expect(page.get_by_label("Boundary")).to_have_value("judge")
    expect(lines(page).first).to_contain_text("failed judge")
    page.get_by_role("button", name="Clear").click()
    expect(total).to_be_visible()


def test_a_column_s_head_orders_the_list(page, site: Site):
    page.goto(f"{site.url}/rollouts")
    page.get_by_role("button", name="Sampled").click()
    expect(lines(page).first).to_contain_text(f"{RUN}-1-0-0")
    page.get_by_role("button", name="Sampled").click()
    expect(page.locator("th[aria-sort=ascending]")).to_contain_text("Sampled")
    expect(lines(page).first).not_to_contain_text(f"{RUN}-1-0-0")


def test_the_keyboard_walks_the_list_opens_a_rollout_and_goes_to_the_next(page, site: Site):
    page.goto(f"{site.url}/rollouts")
    ids = lines(page).locator("th a")
    expect(ids.first).to_be_visible()
    first, second = ids.nth(0).inner_text(), ids.nth(1).inner_text()
    page.keyboard.press("j")
    expect(lines(page).first).to_have_class("pick current")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(first)
    page.keyboard.press("]")
    expect(page.get_by_role("heading", level=1)).to_have_text(second)
    page.keyboard.press("u")
    expect(lines(page).first).to_have_class("pick current")


def test_the_next_page_shows_other_rollouts_and_back_the_first_ones(page, site: Site):
    page.goto(f"{site.url}/rollouts")
    first = lines(page).locator("th a").first.inner_text()
    page.get_by_role("button", name="Next page").click()
    expect(lines(page).locator("th a").first).not_to_have_text(first)
    page.go_back()
    expect(lines(page).locator("th a").first).to_have_text(first)


def test_selected_rollouts_stand_side_by_side(page, site: Site):
    page.goto(f"{site.url}/rollouts")
    ids = [lines(page).locator("th a").nth(n).inner_text() for n in (0, 1)]
    for id in ids:
        page.get_by_label(f"Compare {id}").check()
    page.get_by_role("button", name="Compare 2").click()
    for id in ids:
        expect(page.get_by_role("region", name=id)).to_contain_text("assistant")


def test_a_column_is_hidden_and_another_shown(page, site: Site):
    page.goto(f"{site.url}/rollouts")
    page.get_by_role("button", name="Columns").click()
    page.get_by_role("menuitemcheckbox", name="Prompt").click()
    page.get_by_role("menuitemcheckbox", name="Task").click()
    page.keyboard.press("Escape")
    heads = page.locator("table.rollouts thead")
    expect(heads).to_contain_text("Prompt")
    expect(heads).not_to_contain_text("Task")
    assert "columns=" in page.url


def test_a_search_finds_what_was_said_in_one_of_100_000(page, crowded: Site):
    page.goto(f"{crowded.url}/rollouts")
    expect(lines(page).first).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("edge cases")
    page.keyboard.press("Enter")
    expect(lines(page).first).to_contain_text(f"{RUN}-2-0-0", timeout=60_000)
    assert "text=edge+cases" in page.url


def test_a_filter_that_can_match_nothing_says_so(page, site: Site):
    page.goto(f"{site.url}/rollouts?reward_min=2&reward_max=1")
    expect(page.get_by_role("alert")).to_contain_text("swap them")
    page.complaints.clear()  # the browser's own word for an answer of 400


def test_question_mark_shows_the_keys_and_g_leads_to_the_pages(page, site: Site):
    page.goto(f"{site.url}/rollouts")
    expect(lines(page).first).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Search in messages")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("g")
    page.keyboard.press("e")
    expect(page.get_by_role("heading", level=1)).to_have_text("Environments")


@pytest.mark.parametrize("format", ["Parquet", "JSON lines"])
def test_what_matches_is_saved_as_a_file(page, site: Site, tmp_path: Path, format: str):
    page.goto(f"{site.url}/rollouts?status=failed")
    shown = int(page.locator(".list-foot").get_by_role("status").inner_text().split()[0])
    page.get_by_role("button", name="Export what matches").click()
    with page.expect_download() as saving:
        page.get_by_role("menuitem", name=format).click()
    saving.value.save_as(file := tmp_path / "saved")
    if format == "Parquet":
        rows = pyarrow.parquet.read_table(file).to_pylist()
    else:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == shown > 0
    assert {row["status"] for row in rows} == {"failed"}
