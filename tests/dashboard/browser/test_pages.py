"""Every page, in light and in dark: it shows what it is about, complains of nothing, and keeps nobody out."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

import envhub.dashboard
from envhub.testing.showcase import RUN, Showcase
from tests.dashboard.browser.site import Site, serious

pytestmark = pytest.mark.browser

AXE = Path(envhub.dashboard.__file__).parent / "web" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = {
    "/overview": "Reward",
    "/rollouts": "Rollouts",
    "/rollouts?facets=open&status=failed": "How they are spread",
    "/groups": "Groups",
    f"/groups/{RUN}-40": "member 0",
    "/environments": "demo/sums-v0",
    "/environments/demo%2Frepair-v0": "Pass rate",
    "/tasks/demo%2Frepair-v0/repair-03": "Answers",
    "/runs": RUN,
    f"/runs/{RUN}": "each is in exactly one state",
    f"/compare?ids={RUN}-40-0-0,{RUN}-40-1-0": "Compare 2 rollouts",
    "/rollouts/branching": "A new branch",
    "/rollouts/branching/timeline": "Drag over the bars",
    "/rollouts/branching/tokens": "low probability",
    "/rollouts/branching/branches": "compaction",
    "/rollouts/branching/calls?turn=5&show=diff": "equal message",
    "/rollouts/branching/task": "Asked for",
    "/rollouts/hostile/logs": "Log lines",
    "/rollouts/swarm/timeline": "Critical path only",
    "/rollouts/pictures": "PNG, 320 × 200",
    "/rollouts/cut-short": "truncated",
    "/rollouts/running": "so far",
    "/rollouts/no-turn-yet": "running",
    "/rollouts/no-turn-yet/tokens": "no tokens",
    "/rollouts/no-turn-yet/timeline": "showcase-8-0-0",
}


def url(site: Site, showcase: Showcase, path: str) -> str:
    """The page of one of the showcase's special rollouts is named by what is special."""
    before, name, *after = path.partition("/rollouts/")[1:] or ("", "")
    if not before:
        return site.url + path
    special, *tab = "".join([name, *after]).split("/")
    return site.url + "/".join(["/rollouts", showcase.rollout(special), *tab])


@pytest.mark.parametrize("path", PAGES)
def test_a_page_shows_what_it_is_about_and_axe_finds_nothing_serious(page, site: Site, showcase: Showcase, path: str):
    page.goto(url(site, showcase, path))
    page.get_by_text(PAGES[path]).first.wait_for(state="attached")
    page.get_by_role("heading", level=1).wait_for()
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    in_the_dark = page.evaluate("axe.run(document, {runOnly: ['color-contrast'], resultTypes: ['violations']})")
    assert serious([*found["violations"], *in_the_dark["violations"]]) == []


@pytest.mark.parametrize(
    "path", ["/overview", "/rollouts", "/rollouts/branching", "/rollouts/swarm/timeline", f"/runs/{RUN}"]
)
def test_a_narrow_page_does_not_scroll_sideways(page, site: Site, showcase: Showcase, path: str):
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(url(site, showcase, path))
    page.get_by_role("heading", level=1).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_audit_of_a_run_lists_its_findings_and_each_leads_to_its_page(page, site: Site):
    page.goto(f"{site.url}/runs/{RUN}")
    page.get_by_role("button", name="Audit the run").click()
    findings = page.get_by_role("region", name="Findings")
    expect(findings).to_contain_text("were read")
    findings.get_by_role("link", name="Look at it").first.click()
    expect(page.get_by_role("heading", level=1)).not_to_have_text(RUN)
