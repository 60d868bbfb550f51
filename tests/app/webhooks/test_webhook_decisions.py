"""What the courier makes of what it sees."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.domain.events.events import Event, EventType
from app.domain.webhooks.deliveries import DeliveryProgress, Try
from app.domain.webhooks.sending import Sent
from app.domain.webhooks.tries import pause, skipped, tried
from app.domain.webhooks.webhooks import HOOK_EVENTS
from app.loops.courier.decisions import MOST_IN_FLIGHT, Channel, choose

HOURS = 3600.0


def event(id: int, type: EventType) -> Event:
    return Event(id=id, type=type, edit_id="edit_x", created_at=0, data={})


EVENTS = [
    event(1, "edit.created"),
    event(16, "edit.started"),
    event(30, "edit.attempt_ended"),
    event(31, "edit.succeeded"),
]
FINE, BROKEN = Sent(0.1, 200), Sent(0.1, 500, "the receiver answered 500")


def attempt(before: Try | None, sent: Sent, now: float, *, tries: int = 12) -> Try:
    """A try at whatever comes next."""
    progress = before.progress if before is not None else DeliveryProgress()
    one = progress.next_event(EVENTS, HOOK_EVENTS)
    assert one is not None
    return tried(before, one, sent, now, most_tries=tries, first_pause=5.0)


def test_events_are_told_one_after_the_other_to_the_last() -> None:
    last, told = None, []
    while last is None or not last.progress.is_complete(EVENTS, HOOK_EVENTS):
        last = attempt(last, FINE, 0.0)
        told.append(last.event_id)
    assert told == [1, 16, 30, 31]


def test_tries_go_on_for_hours_and_not_for_ever() -> None:
    now, last = 0.0, attempt(None, BROKEN, 0.0)
    while last.outcome == "failed":
        now = last.progress.next_try_at
        last = attempt(last, BROKEN, now)
    assert last.outcome == "given_up"
    assert last.number == 12
    assert now < 32 * HOURS
    longest = [min(5.0 * 4**n, 6 * HOURS) for n in range(11)]
    assert 20 * HOURS < sum(longest) < 32 * HOURS
    # What comes after is told all the same.
    assert attempt(last, FINE, now).event_id == 16


@given(st.integers(1, 100))
def test_pauses_are_random_up_to_a_limit(tries: int) -> None:
    assert 0 <= pause(tries, 5.0) <= min(5.0 * 4 ** (tries - 1), 6 * HOURS)


def test_pauses_differ() -> None:
    assert len({pause(8, 5.0) for _ in range(20)}) > 15


def test_a_cancel_that_overtook_an_attempt_is_told_though_its_number_is_lower() -> None:
    progress = DeliveryProgress(settled_through=32)
    events = [*EVENTS[:2], event(31, "edit.canceled")]
    left = progress.next_event(events, HOOK_EVENTS)
    assert left is not None
    assert left.type == "edit.canceled"
    assert progress.after(left).is_complete(events, HOOK_EVENTS)


@given(st.lists(st.sampled_from(["fine", "broken", "by hand", "disabled"]), max_size=40))
def test_whatever_happens_each_event_is_settled_once_and_in_order(steps: list[str]) -> None:
    last: Try | None = None
    settled: list[int] = []
    for now, step in enumerate(steps):
        progress = last.progress if last is not None else DeliveryProgress()
        one = progress.next_event(EVENTS, HOOK_EVENTS)
        if step == "by hand" and settled:
            again = next(known for known in EVENTS if known.id == settled[0])
            last = tried(last, again, FINE, now, most_tries=3, first_pause=1.0, by_hand=True)
            assert last.progress == progress
            continue
        if one is None:
            break
        if step == "disabled":
            last = skipped(last, one, now)
        else:
            last = attempt(last, FINE if step == "fine" else BROKEN, now, tries=3)
        if last.outcome != "failed":
            settled.append(last.event_id)
    assert settled == [1, 16, 30, 31][: len(settled)]


def pairs(tenant: str, webhook: str, count: int) -> list[Channel]:
    return [Channel(tenant, f"edit_{number}", webhook) for number in range(count)]


def test_one_tenant_does_not_take_all_places() -> None:
    many = [pair for n in range(40) for pair in pairs("loud", f"whk_{n}", 50)]
    chosen = choose([*many, *pairs("quiet", "whk_q", 2)], [], set())
    assert len([pair for pair in chosen if pair.tenant == "quiet"]) == 2
    assert len([pair for pair in chosen if pair.tenant == "loud"]) == 16


def test_a_webhook_that_fails_gets_one_place() -> None:
    due = [*pairs("a", "whk_bad", 10), *pairs("a", "whk_good", 10)]
    chosen = choose(due, [], {"whk_bad"})
    assert [pair.webhook_id for pair in chosen].count("whk_bad") == 1
    assert [pair.webhook_id for pair in chosen].count("whk_good") == 4
    assert choose(due, chosen, {"whk_bad"}) == []


def test_there_is_a_limit_to_what_is_under_way() -> None:
    due = [pair for n in range(100) for pair in pairs(f"tenant{n}", f"whk_{n}", 4)]
    assert len(choose(due, [], set())) == MOST_IN_FLIGHT
