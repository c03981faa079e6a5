"""Whether the soak's judge lets anything pass that it should not: it decides by these rules alone."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Soak"))

from ledger import Event, Ledger  # noqa: E402


def client(**changes) -> dict:
    return {
        "stream": 1,
        "kind": "plain",
        "route": 0,
        "origin": 2,
        "stage": "live",
        "start": 100.0,
        "time": 110.0,
        "outcome": "complete",
        "up": 10,
        "down": 10,
        "client": 40000,
        "proxy": 50000,
    } | changes


def origin(**changes) -> dict:
    return {"stream": 1, "origin": 2, "start": 100.0, "time": 110.0, "end": "FIN", "up": 10, "whole": True} | changes


def judged(*records: dict, events: tuple[Event, ...] = ()) -> list[str]:
    """What a ledger finds wrong with these, in every order."""
    found = []
    for order in (records, records[::-1]):
        ledger = Ledger()
        ledger.events += events
        for record in order:
            (ledger.from_origin if "whole" in record else ledger.from_client)(record)
        ledger.finish()
        found.append(ledger.violations)
    assert len({len(violations) for violations in found}) == 1, found
    return found[0]


def test_a_stream_that_both_ends_call_whole_is_good():
    assert judged(client(), origin()) == []


@pytest.mark.parametrize("outcome", ["reset", "fin", "timeout", "alert", "refused"])
@pytest.mark.parametrize("stage", ["connect", "open", "live"])
def test_without_an_event_no_failure_is_good(stage, outcome):
    [found] = judged(client(stage=stage, outcome=outcome))
    assert "nothing explains it" in found


HARMLESS = """reload, several reloads, bad reload, log rotated, proxy stopped, origin stopped, small windows,
    little memory, clock stepped"""


@pytest.mark.parametrize("kind", [kind.strip() for kind in HARMLESS.split(",")])
def test_what_a_client_may_not_see_explains_nothing(kind):
    events = (Event(kind, 105, 106, origin=2),)
    for outcome in ("reset", "fin", "timeout"):
        assert judged(client(outcome=outcome), events=events) != []


def test_a_stream_of_a_killed_origin_may_be_cut_by_either_end():
    events = (Event("origin killed", 105, 107, origin=2),)
    assert judged(client(outcome="reset"), events=events) == []
    assert judged(client(outcome="fin"), events=events) == []


def test_a_kill_explains_nothing_at_another_origin_or_time():
    assert judged(client(outcome="reset"), events=(Event("origin killed", 105, 107, origin=3),)) != []
    assert judged(client(outcome="reset"), events=(Event("origin killed", 111, 112, origin=2),)) != []
    assert judged(client(outcome="reset"), events=(Event("origin killed", 90, 95, origin=2),)) != []


def test_a_session_may_be_reset_before_its_client_has_looked_at_its_connect():
    events = (Event("origin killed", 105, 107, origin=2),)
    taken = {"start": 105.2, "time": 105.3, "origin": 0, "stage": "connect"}
    assert judged(client(outcome="reset", **taken), events=events) == []
    assert judged(client(outcome="refused", **taken), events=events) != []
    assert judged(client(outcome="timeout", **taken), events=events) != []


def test_a_connect_to_a_set_of_origins_survives_the_death_of_one():
    events = (Event("origin killed", 95, 107, origin=2),)
    assert judged(client(stage="open", origin=0, outcome="reset"), events=events) != []
    assert judged(client(stage="open", origin=0, route=2, outcome="reset"), events=events) == []


def test_only_the_connections_that_were_cut_may_be_reset_and_none_may_end():
    events = (Event("connections cut", 105, 105, clients=frozenset((40000,))),)
    assert judged(client(outcome="reset"), events=events) == []
    assert judged(client(outcome="reset", client=40001), events=events) != []
    assert judged(client(outcome="fin"), events=events) != []


def test_loss_cuts_no_stream_that_is_under_way():
    events = (Event("loss", 100, 110),)
    assert judged(client(outcome="reset"), events=events) != []
    assert judged(client(outcome="timeout"), events=events) != []
    assert judged(client(stage="open", origin=0, outcome="fin"), events=events) == []


def test_known_names_are_served_without_dns():
    events = (Event("no names", 100, 110),)
    assert judged(client(kind="new name", stage="open", outcome="alert"), events=events) == []
    assert judged(client(kind="forward", stage="open", outcome="alert"), events=events) != []


def test_wrong_bytes_are_never_explained():
    events = tuple(
        Event(kind, 100, 110, origin=2)
        for kind in ("origin killed", "origin rejects", "loss", "few descriptors", "no names", "connections cut")
    )
    assert judged(client(outcome="corrupted", text="x"), events=events) != []
    ledger = Ledger()
    ledger.events += events
    ledger.from_origin({"corrupted": "x", "origin": 2, "time": 105})
    assert ledger.violations != []


def test_a_cut_stream_may_not_look_complete_at_the_origin():
    events = (Event("connections cut", 105, 105, clients=frozenset((40000,))),)
    [found] = judged(client(outcome="reset"), origin(whole=False, up=3), events=events)
    assert "looks complete" in found
    assert judged(client(outcome="reset"), origin(whole=False, up=3, end="RST"), events=events) == []


def test_a_whole_stream_that_its_origin_never_saw_is_found():
    [found] = judged(client())
    assert "never saw it" in found
    assert judged(client(), events=(Event("origin killed", 111, 112, origin=2),)) == []
    assert judged(client(), events=(Event("origin killed", 111, 112, origin=3),)) != []
    # The proxy is told, its origin is not.
    assert judged(client(), events=(Event("origin rejects", 111, 112, origin=2),)) == []


def test_a_reset_by_the_client_has_to_be_one_at_the_origin():
    assert judged(client(kind="reset"), origin(end="RST", whole=False)) == []
    assert judged(client(kind="reset"), origin(end="FIN", whole=False)) != []
    # A RST is sent once.
    assert judged(client(kind="reset"), origin(end="FIN", whole=False), events=(Event("loss", 100, 110),)) == []
    away = (Event("origin rejects", 109, 112, origin=2),)
    assert judged(client(kind="reset"), origin(end="timeout", whole=False), events=away) == []
    assert judged(client(kind="reset"), origin(end="FIN", whole=False), events=away) != []


def test_a_stalled_client_may_miss_the_reset_only_while_segments_are_lost():
    stalled = client(kind="stall", stage="open", outcome="timeout")
    assert judged(stalled, events=(Event("loss", 104, 106),)) == []
    assert judged(stalled, events=(Event("origin rejects", 104, 106, origin=2),)) != []
    assert judged(client(stage="open", outcome="timeout"), events=(Event("loss", 104, 106),)) != []


def test_a_reset_that_a_stopped_proxy_passes_on_late_may_meet_a_deaf_origin():
    cut = client(kind="reset", time=106.0)
    deaf = (Event("origin unreachable", 107.5, 109, origin=2),)
    assert judged(cut, origin(end="timeout", whole=False), events=deaf) == []
    assert judged(cut, origin(end="FIN", whole=False), events=deaf) != []
    assert judged(cut, origin(end="timeout", whole=False), events=(Event("origin unreachable", 120, 121, origin=2),)) != []
