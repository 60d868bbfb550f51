"""Pictures of the dashboard's pages for the documentation, from a running service:

python -m tests.dashboard.screenshots http://127.0.0.1:8080 EDIT_ID RUNNING_EDIT_ID [NAME ...]
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parents[2] / "docs" / "images"
_PROMPT = "The+food+at+the+new+place+was"


def main(url: str, edit: str, running: str, *names: str) -> None:
    """Write a small PNG of each page, or of those named alone."""
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        base, variant = _variant(page, url, edit)
        state = f"base={base}&edit={variant}&mode=plain&tokens=40&prompt={_PROMPT}"
        views = {
            "edits": ("", ""),
            "edit": (f"/edits/{edit}", ""),
            "trade-off": (f"/edits/{edit}", "#trade-off"),
            "samples": (f"/edits/{edit}", "#where"),
            "progress": (f"/edits/{running}", ""),
            "new-edit": ("/new", ""),
            "playground": (f"/playground#{state}", ""),
            "behaviours": ("/behaviors#id=negativity", ""),
            "models": ("/models", ""),
        }
        for name, (path, part) in views.items():
            if names and name not in names:
                continue
            page.set_viewport_size({"width": 1120, "height": 840 if name == "edit" else 700})
            page.goto("about:blank")
            page.goto(f"{url}/dashboard{path}")
            page.locator(".loading").wait_for(state="detached")
            if name == "playground":
                page.locator(".answer[aria-busy=false]").nth(1).wait_for(timeout=120_000)
            page.wait_for_timeout(1000)
            if part:
                page.locator(part).evaluate("element => element.scrollIntoView()")
            page.screenshot(path=IMAGES / f"{name}.png")
        if not names or "phone" in names:
            page.emulate_media(color_scheme="dark")
            page.set_viewport_size({"width": 390, "height": 780})
            page.goto(f"{url}/dashboard/edits/{edit}")
            page.screenshot(path=IMAGES / "phone.png")
        browser.close()


def _variant(page: Page, url: str, edit: str) -> tuple[str, str]:
    found = page.request.get(f"{url}/v1/edits/{edit}").json()
    return found["base_model"], found["suffix"] or edit


if __name__ == "__main__":
    main(*sys.argv[1:])
