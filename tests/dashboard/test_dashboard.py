"""The dashboard as a person uses it: in a real browser, over all of Scalpel with a pico model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from tests.app.support.worker import Worker, edit_body
from tests.dashboard.conftest import OpenContext, Scalpel
from tests.support.services import RedisServer, api_settings, running_api
from tests.workers.conftest import small_edit

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


UNKNOWN = "edit_01KA0000000000000000000000"
PAGES = ("/new", "/playground#prompt=how&tokens=4", "/behaviors#id=toxicity", "/models", "/admin")


def make_edit(scalpel: Scalpel, **changes: Any) -> str:
    with scalpel.client() as client:
        made = client.post("/v1/edits", json=small_edit(**changes))
        assert made.status_code == 201, made.text
        id: str = made.json()["id"]
        return id


def make_slow_edit(scalpel: Scalpel, suffix: str) -> str:
    """One that is not done before it is canceled."""
    prompts = [f"the film of day {number} was" for number in range(60)]
    behavior = {**small_edit()["behavior"], "prompts": prompts, "max_new_tokens": 256}
    chosen = {"method": {"type": "auto"}, "effort": "thorough"}
    return make_edit(scalpel, suffix=suffix, behavior=behavior, **chosen)


@pytest.fixture(scope="module")
def kinder(scalpel: Scalpel) -> str:
    """The id of an edit that is done."""
    return finished(scalpel, make_edit(scalpel, suffix="kinder"))


def finished(scalpel: Scalpel, id: str) -> str:
    with scalpel.client() as client:
        while (edit := client.get(f"/v1/edits/{id}?wait=60").json())["finished_at"] is None:
            pass
    assert edit["status"] == "succeeded", edit
    return id


def lists(page: Page) -> list[str]:
    """Addresses of the lists of edits that the page asks for from now on."""
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url) if "/v1/edits?" in one.url else None)
    return asked


def serious(page: Page) -> list[str]:
    """What keeps people from using the page, as axe sees it."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {[node['html'] for node in one['nodes']][:3]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def test_who_is_not_signed_in_signs_in_and_sees_the_page_that_was_asked_for(
    scalpel: Scalpel, open_context: OpenContext
) -> None:
    page = open_context(expected=(401,)).new_page()
    page.goto(f"{scalpel.url}/dashboard/playground")
    page.get_by_label("API key").fill(scalpel.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Playground")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()


def test_an_edit_is_watched_to_its_end_and_its_receipt_is_shown(
    scalpel: Scalpel, page: Page
) -> None:
    id = make_edit(scalpel, suffix="watched")
    page.goto(f"{scalpel.url}/dashboard/edits/{id}")
    expect(page.locator(".stages li")).to_have_count(7)
    expect(page.locator(".stages .current")).to_be_visible()
    expect(page.get_by_role("progressbar", name="Progress of the edit")).to_be_visible()
    expect(page.locator(".verdict")).to_be_visible(timeout=120_000)
    expect(page.locator("h1")).to_contain_text("succeeded")
    expect(page.locator("#where .hot")).not_to_have_count(0)
    expect(page.locator("#samples .sample")).not_to_have_count(0)
    expect(page.locator("#curl")).to_contain_text(f"curl -s {scalpel.url}/v1/edits")


def test_the_list_follows_edits_filters_them_and_cancels_one(
    scalpel: Scalpel, page: Page, kinder: str
) -> None:
    page.goto(f"{scalpel.url}/dashboard")
    row = page.get_by_role("row").filter(has_text="kinder")
    expect(row).to_contain_text("succeeded")
    long = make_slow_edit(scalpel, "slow")
    slow = page.get_by_role("row").filter(has_text="slow")
    expect(slow).to_contain_text(re.compile("queued|running"))
    slow.get_by_role("button", name="Cancel").click()
    expect(slow).to_contain_text("canceled")
    page.get_by_label("Status").select_option("succeeded")
    expect(slow).to_have_count(0)
    expect(row).to_be_visible()
    page.get_by_label("Behaviour").select_option("mood")
    expect(row).to_be_visible()
    page.reload()
    expect(row).to_be_visible()
    expect(page.get_by_label("Status")).to_have_value("succeeded")
    with scalpel.client() as client:
        assert client.get(f"/v1/edits/{long}").json()["status"] == "canceled"


def test_what_was_asked_for_with_other_filters_is_dropped(
    scalpel: Scalpel, page: Page, kinder: str
) -> None:
    held: list[Route] = []
    page.route("**/v1/edits?*status=succeeded*", lambda route: held.append(route))
    page.goto(f"{scalpel.url}/dashboard#status=succeeded")
    page.get_by_label("Status").select_option("failed")
    expect(page.get_by_role("heading", name="No edit fits")).to_be_visible()
    (late,) = held
    with page.expect_response("**/v1/edits?*status=succeeded*") as answer:
        late.continue_()
    assert kinder in answer.value.text()
    page.wait_for_timeout(300)
    expect(page.get_by_role("row")).to_have_count(0)


def test_a_page_is_listed_again_seldom_and_edits_that_are_not_done_are_followed(
    scalpel: Scalpel, page: Page, kinder: str
) -> None:
    page.clock.install()
    asked = lists(page)
    page.goto(f"{scalpel.url}/dashboard#base_model=pico")
    expect(page.get_by_role("row").filter(has_text="kinder")).to_be_visible()
    page.clock.run_for(10_000)
    page.wait_for_timeout(300)
    assert len(asked) == 1
    long = make_slow_edit(scalpel, "long")
    page.clock.run_for(15_000)
    row = page.get_by_role("row").filter(has_text="long")
    expect(row).to_be_visible()
    with scalpel.client() as client:
        client.post(f"/v1/edits/{long}/cancel").raise_for_status()
    page.clock.run_for(4_000)
    expect(row).to_contain_text("canceled")
    assert len(asked) < 5, "29 seconds and those that the test took"


def test_what_is_wrong_is_said_at_its_field_and_a_request_pressed_twice_makes_one_edit(
    scalpel: Scalpel, page: Page, tmp_path: Path
) -> None:
    page.goto(f"{scalpel.url}/dashboard/new")
    page.get_by_text("Your own texts").click()
    page.get_by_label("Name of the behaviour").fill("mood")
    body = small_edit()["behavior"]
    lines = [
        *(f'{{"text": "{text}", "label": "undesired"}}' for text in body["undesired"]),
        *(f'{{"text": "{text}", "label": "desired"}}' for text in body["desired"]),
    ]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    page.locator("input[type=file]").first.set_input_files(tmp_path / "texts.jsonl")
    expect(page.get_by_label("Texts that do not")).to_have_value("\n".join(body["desired"]))
    page.get_by_label("Name", exact=True).fill("Not A Name")
    page.get_by_text("Method, limits and seed").click()
    page.get_by_label("Seed").fill("-1")
    page.get_by_role("button", name="Make the edit").click()

    name = page.get_by_label("Name", exact=True)
    expect(name).to_have_attribute("aria-invalid", "true")
    expect(name).to_be_focused()
    expect(page.locator("#field-suffix-said")).to_contain_text("a letter or digit")
    expect(page.locator("#field-seed-said")).to_contain_text("0")
    assert serious(page) == []

    name.fill("typed")
    page.get_by_label("Seed").fill("3")
    page.get_by_label("Method", exact=True).select_option("bias")
    page.get_by_text("Quick").click()
    page.get_by_role("button", name="Make the edit").dblclick()
    page.wait_for_url("**/dashboard/edits/edit_*")
    with scalpel.client() as client:
        (made,) = [
            one for one in client.get("/v1/edits").json()["data"] if one["suffix"] == "typed"
        ]
    assert (made["seed"], made["behavior"]["counts"]["undesired"]) == (3, 24)


def test_an_estimate_says_what_could_be_better(scalpel: Scalpel, page: Page) -> None:
    with scalpel.client() as client:
        before = len(client.get("/v1/edits?limit=100").json()["data"])
    page.goto(f"{scalpel.url}/dashboard/new")
    page.get_by_text("Your own texts").click()
    page.get_by_label("Name of the behaviour").fill("mood")
    body = small_edit()["behavior"]
    page.get_by_label("Texts that show it").fill("\n".join(body["undesired"]))
    page.get_by_label("Texts that do not").fill("\n".join(body["desired"]))
    page.get_by_role("button", name="Estimate").click()
    aside = page.get_by_role("complementary", name="Estimate")
    expect(aside).to_contain_text("memory")
    expect(aside.locator(".warn")).not_to_have_count(0)
    with scalpel.client() as client:
        assert len(client.get("/v1/edits?limit=100").json()["data"]) == before


def test_base_and_edit_answer_side_by_side_and_a_link_brings_it_back(
    scalpel: Scalpel, page: Page, kinder: str
) -> None:
    page.goto(f"{scalpel.url}/dashboard/playground")
    page.locator("select[name=edit]").select_option("kinder")
    page.get_by_label("Tokens").fill("12")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Prompt", exact=True).fill("how was the day?")
    page.get_by_role("button", name="Answer").click()
    answers = page.locator(".answer[aria-busy=false] .text")
    expect(answers).to_have_count(2)
    expect(answers.first).not_to_be_empty()
    said = answers.all_inner_texts()
    slider = page.get_by_role("slider")
    slider.fill("2")
    slider.dispatch_event("change")
    expect(page.locator(".answer").nth(1)).to_contain_text("pico:kinder@2")
    expect(answers).to_have_count(2)
    stronger = answers.all_inner_texts()
    assert stronger[0] == said[0]

    other = page.context.new_page()
    other.goto(page.url)
    answers = other.locator(".answer[aria-busy=false] .text")
    expect(answers).to_have_count(2)
    assert answers.all_inner_texts() == stronger
    assert "how" in page.url.partition("#")[2]


def test_an_edit_on_top_of_another_is_tried_with_it(
    scalpel: Scalpel, page: Page, kinder: str
) -> None:
    child = finished(scalpel, make_edit(scalpel, suffix="politer", on_top_of="pico:kinder"))
    page.goto(f"{scalpel.url}/dashboard/edits/{child}")
    links = page.get_by_role("link", name="Try it")
    for link in links.all():
        assert f"edit={kinder}%2Bpoliter" in (link.get_attribute("href") or "")
    links.first.click()
    page.get_by_label("Tokens").fill("4")
    page.get_by_label("Prompt", exact=True).fill("how was the day?")
    page.get_by_role("button", name="Answer").click()
    edited = page.locator(".answer[aria-busy=false]").nth(1)
    expect(edited).to_contain_text(f"pico:{kinder}+politer")
    expect(edited.locator(".text")).not_to_be_empty()
    page.locator("select[name=edit]").select_option("kinder")
    page.locator("select[name=second]").select_option(f"{kinder}+politer")
    expect(edited).to_contain_text("pico:kinder+politer")
    expect(edited.locator(".text")).not_to_be_empty()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_an_export_pressed_twice_is_made_once_and_found_again(
    scalpel: Scalpel, page: Page, kinder: str
) -> None:
    page.goto(f"{scalpel.url}/dashboard/edits/{kinder}")
    page.get_by_role("button", name="Export as peft").dblclick()
    done = page.get_by_role("link", name="peft")
    expect(done).to_be_visible()
    page.reload()
    expect(done).to_be_visible()
    with scalpel.client() as client:
        query = {"variant": f"pico:{kinder}"}
        (made,) = client.get("/v1/exports", params=query).json()["data"]
    assert (made["format"], made["status"]) == ("peft", "succeeded")


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_people_from_using_the_pages(
    scalpel: Scalpel, page: Page, kinder: str, scheme: str, width: int
) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    for path in ("", f"/edits/{kinder}", f"/edits/{UNKNOWN}", *PAGES):
        page.goto(f"{scalpel.url}/dashboard{path}")
        expect(page.locator(".loading, [aria-busy=true]")).to_have_count(0)
        assert serious(page) == [], path
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, path


def test_more_edits_are_there_as_one_scrolls(
    tmp_path: Path, redis_server: RedisServer, open_context: OpenContext
) -> None:
    settings = api_settings(tmp_path, redis_server, limit_requests_per_second=1e6)
    with running_api(settings) as api:
        Worker(api.store, api.services.live.client).register("pico")
        made = [api.http.post("/v1/edits", json=edit_body()).json()["id"] for _ in range(120)]
        page = open_context().new_page()
        page.goto(f"{api.url}/dashboard")
        rows = page.locator("tbody tr")
        expect(rows.first).to_contain_text(made[-1])
        while rows.count() < len(made):
            before = rows.count()
            page.mouse.wheel(0, 20_000)
            expect(rows.nth(before)).to_be_attached()
        expect(rows.last).to_contain_text(made[0])
        expect(page.locator(".more")).to_have_count(0)
        page.close()
