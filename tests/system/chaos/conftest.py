"""One stack of real processes over S3, behind a proxy that can fail, for tests of outages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.system.chaos.campaign import Plan, stores
from tests.system.chaos.s3_proxy import S3Proxy
from tests.system.chaos.stack import Stack, running_stack
from tests.system.faults.edits import edit_body

S3_TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True)
class Outage:
    """The stack, and what can be taken away from it."""

    stack: Stack
    s3: S3Proxy
    http: httpx.Client

    def submit(self, *, prompts: int = 6, **headers: str) -> httpx.Response:
        """Queue an edit: a second of work, or with 150 prompts about ten of them."""
        body = edit_body(long=prompts > 6)
        body["behavior"]["prompts"] = body["behavior"]["prompts"][:prompts]
        return self.http.post("/v1/edits", json=body, headers=headers)

    def ended(self, id: str) -> dict[str, object]:
        """The edit at its end, which it comes to within two minutes."""
        for _ in range(6):
            edit = self.http.get(f"/v1/edits/{id}", params={"wait": 20}).json()
            if edit["finished_at"] is not None:
                return dict(edit)
        raise AssertionError(f"{id} does not end: {edit}\n{self.stack.logs()}")


@pytest.fixture(scope="package")
def outage(
    s3_endpoint: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Outage]:
    folder = tmp_path_factory.mktemp("outage")
    plan = Plan("s3", 0, 0, 0)
    with stores(plan, s3_endpoint) as (settings, proxy, _):
        assert proxy is not None
        proxy.share = 1.0
        settings["SCALPEL_S3_TIMEOUT_SECONDS"] = f"{S3_TIMEOUT_SECONDS:g}"
        with running_stack(folder, settings) as stack, stack.client(60) as http:
            yield Outage(stack, proxy, http)
