"""What moves: new rollouts, a lost connection, and the operator's hands on a run."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from playwright.sync_api import expect

from envhub.contracts.access import Role
from envhub.contracts.events import OperatorActed
from envhub.contracts.store import BrowsableStore
from envhub.dashboard.api import create_app
from envhub.store.memory_store import MemoryTraceStore
from tests.dashboard.browser.site import FakeControl, Site, live_run, serve
from tests.dashboard.recording import DECODER, GROUP, LIVE, RUN, closing, recording
from tests.guarding import guard

pytestmark = pytest.mark.browser

OPERATOR, VIEWER = "an-operators-token", "a-viewers-token"


async def store() -> BrowsableStore:
    made = MemoryTraceStore()
    await made.append(recording())
    return made


@pytest.fixture
def open_site(chromium: str) -> Iterator[Site]:
    with serve(store, lambda store: create_app(store, DECODER)) as site:
        yield site


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def steered(chromium: str, control: FakeControl) -> Iterator[Site]:
    acts: list[OperatorActed] = []

    def app(store: BrowsableStore) -> FastAPI:
        live = live_run(RUN, control, acts)
        return create_app(store, DECODER, guard=guard({OPERATOR: Role.OPERATOR, VIEWER: Role.VIEWER}), live=live)

    with serve(store, app) as site:
        yield site


def give_token(page, token: str) -> None:
    page.get_by_label("Token", exact=True).fill(token)
    page.get_by_role("button", name="Open").click()
    page.complaints.clear()  # the browser's own word for an answer of 401


def test_a_rollout_that_ends_is_shown_to_have_ended_without_a_reload(open_site: Site, page):
    page.goto(f"{open_site.url}/rollouts")
    line = page.locator("tr", has=page.get_by_role("link", name=LIVE))
    expect(line).to_contain_text("running")
    open_site.append(*closing())
    expect(line).to_contain_text("completed")


def test_a_lost_connection_is_said_and_what_was_shown_stays(open_site: Site, page):
    page.goto(f"{open_site.url}/rollouts")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page.route("**/api/**", lambda route: route.abort())
    page.get_by_role("link", name="Groups").click()
    expect(page.get_by_text("Reconnecting")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    page.unroute("**/api/**")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page.complaints.clear()  # of requests that failed


def test_an_operator_pauses_a_run_once_its_name_is_typed(steered: Site, page, control: FakeControl):
    page.goto(f"{steered.url}/runs/{RUN}")
    give_token(page, OPERATOR)
    page.get_by_role("button", name="Pause…").click()
    dialog = page.get_by_role("dialog")
    act = dialog.get_by_role("button", name="Pause")
    expect(act).to_be_disabled()
    dialog.get_by_label("A generation that runs").select_option("wait")
    dialog.get_by_label("Type demo to confirm").fill(RUN)
    act.click()
    expect(dialog).to_have_count(0)
    assert control.acts == ["pause wait"]


def test_a_pause_may_be_for_one_policy_of_one_environment(steered: Site, page, control: FakeControl):
    page.goto(f"{steered.url}/runs/{RUN}")
    give_token(page, OPERATOR)
    page.get_by_role("button", name="Pause…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("combobox", name="Environment").select_option(index=1)
    dialog.get_by_role("combobox", name="Policy").select_option(index=1)
    dialog.get_by_label("Type demo to confirm").fill(RUN)
    dialog.get_by_role("button", name="Pause").click()
    expect(dialog).to_have_count(0)
    assert control.scope.environment_id
    assert control.scope.policy_id
    assert control.scope.rollout_id is None


def test_an_operator_cancels_a_group_and_aborts_a_rollout(steered: Site, page, control: FakeControl):
    page.goto(f"{steered.url}/runs/{RUN}")
    give_token(page, OPERATOR)
    for button, field, value in (("Cancel group", "Group", GROUP), ("Abort rollouts", "Rollout", LIVE)):
        page.get_by_role("button", name=f"{button}…").click()
        page.get_by_label(field, exact=True).fill(value)
        page.get_by_label("Type demo to confirm").fill(RUN)
        page.get_by_role("dialog").get_by_role("button", name=button).click()
        expect(page.get_by_role("dialog")).to_have_count(0)
    assert control.acts == [f"cancel {GROUP}", f"abort {LIVE}"]


def test_what_a_run_refuses_is_said_in_the_dialog(steered: Site, page):
    page.goto(f"{steered.url}/runs/{RUN}")
    give_token(page, OPERATOR)
    page.get_by_role("button", name="Resume…").click()
    page.get_by_label("Type demo to confirm").fill(RUN)
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(page.get_by_role("alert")).to_contain_text("pause it first")
    page.complaints.clear()  # the browser's own word for an answer of 409


def test_a_viewer_has_no_hands_on_a_run(steered: Site, page):
    page.goto(f"{steered.url}/runs/{RUN}")
    give_token(page, VIEWER)
    expect(page.get_by_text("You may look")).to_be_visible()
    expect(page.get_by_role("button", name="Pause…")).to_have_count(0)


def test_the_overview_of_a_live_run_names_who_held_its_loop(steered: Site, page):
    page.goto(f"{steered.url}/overview")
    give_token(page, OPERATOR)
    expect(page.get_by_text("repair.py:31")).to_be_visible()
    expect(page.get_by_text("1,019 of 1,024")).to_be_visible()


def test_a_group_shows_its_members_side_by_side(open_site: Site, page):
    page.goto(f"{open_site.url}/groups/{GROUP}")
    expect(page.get_by_role("region", name="Member 0")).to_contain_text("advantage")
    expect(page.get_by_role("region", name="Member 1")).to_contain_text("failed")
