"""The failover lab's stories once each, in short: outcomes that no slowness changes, and bounds with much room.

What is promised in seconds is judged by tools/lab, on a machine that has nothing else to do.
"""

import contextlib
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Lab"))

import stories  # noqa: E402
import topology  # noqa: E402
from exchange import Exchange  # noqa: E402
from stories import SHORT  # noqa: E402
from verdicts import Marks, figures, longest_gap  # noqa: E402

pytestmark = [pytest.mark.weir, pytest.mark.own_network]

# Whether the node's cluster has `health_check` and `outlier_detection`, or `max_fails` alone.
ACTIVE = True
# Of a gap, besides what the machine kept the probes waiting.
GAP_MAX = 3.0


@pytest.fixture(scope="module")
def lab(directory):
    with contextlib.ExitStack() as stack:
        yield topology.Lab(directory, stack, active=ACTIVE)


@pytest.fixture
def told(lab, figure):
    """Tells a story, puts its line into the table of figures, and returns what its runs found."""

    def tell(story) -> list[dict]:
        outcome = story(lab, SHORT)
        figure(outcome.id, f"lab: {outcome.promise}", outcome.bound, outcome.measured)
        return outcome.runs

    return tell


def names(*numbers: int) -> set[str]:
    return {f"gw{number}" for number in numbers}


def gap_is_short(run: dict) -> bool:
    return run["longest_gap_s"] < GAP_MAX + run["late_s"]


def test_no_client_fails_when_a_gateway_is_killed(told):
    """P-01. A session that the gateway had already is its own."""
    [run] = told(stories.killed)
    assert run["failed"] == run["failed_under_way"], run
    assert set(run["served_during"]) == names(1, 2, 3, 4) - names(run["victim"])


def test_a_black_holed_gateway_is_left_alone(told):
    """P-01."""
    [run] = told(stories.black_holed)
    assert gap_is_short(run), run
    # On a machine that stands still for longer than the connect timeout, another one may be left alone as well.
    assert run["served_during"] and not set(run["served_during"]) & names(run["victim"]), run


def test_a_stopped_gateway_holds_nobody_elses_clients_up(told):
    """P-01."""
    [run] = told(stories.stopped)
    assert gap_is_short(run), run
    assert set(run["served_during"]) & (names(1, 2, 3, 4) - names(run["victim"])), run


def test_one_gateway_of_four_serves_when_three_are_lost_together(told):
    """P-02."""
    [run] = told(stories.three_together)
    assert gap_is_short(run), run
    assert set(run["served_during"]) == names(1, 2, 3, 4) - names(*run["victims"])


def test_one_gateway_of_four_serves_when_three_are_lost_one_by_one(told):
    """P-02."""
    [run] = told(stories.three_in_batches)
    assert gap_is_short(run), run
    assert set(run["served_during"]) == names(1, 2, 3, 4) - names(*run["victims"])


def test_an_endpoint_that_refuses_is_tried_once_by_each_worker_and_no_client_fails(told):
    """P-04."""
    for run in told(stories.refuses):
        assert run["failed"] == 0, run
        assert 1 <= run["connects_refused"] <= run["workers"], run


def test_the_client_is_told_when_all_gateways_are_black_holed(told):
    """P-06."""
    for run in told(stories.all_black_holed):
        assert run["good_before"] == 4, run
        assert set(run["reasons"]) <= {stories.exchange.ENDED, stories.exchange.RESET}, run


@pytest.mark.parametrize("story", [stories.names_dropped, stories.names_stopped])
def test_without_names_only_new_ones_fail(told, story):
    """P-19."""
    [run] = told(story)
    assert (run["known_failed"], run["others_failed"], run["new_served"]) == ({}, {}, 0), run
    assert run["known"] > 0 and run["others"] > 0
    assert max(run["new_seconds"]) < 15, run


def test_no_stream_through_gateways_is_corrupted_on_a_lossy_network(told):
    """P-20."""
    [run] = told(stories.loss)
    assert run["corrupted"] == []
    assert run["segments_lost"] > run["streams"] / 5, "hardly anything was lost"
    assert run["outcomes"]["whole"] >= run["streams"] * 0.95, run


def test_four_gateways_share_evenly_before_during_and_after_a_failure(told):
    """S1-5."""
    for run in told(stories.balance):
        assert run["held"], run


def test_three_hops_keep_address_half_close_and_resets(told):
    """S4-3."""
    [run] = told(stories.cascade)
    assert run["held"], run


# Whether the lab sees what it is there for ----------------------------------------------------------


def test_a_node_that_tries_no_other_gateway_is_found(lab):
    """P-01."""
    gateways = topology.cluster(False, rest="60s", connect={"timeout": "5s", "attempts": 1})
    for endpoint in gateways["endpoints"]:
        endpoint["max_fails"] = 0
    run = stories.lost(lab, SHORT, lambda: lab.kill_gateway(1), lambda: lab.start_gateway(1), gateways=gateways)
    assert run["failed"] > run["failed_under_way"], run


def probe(start: float, end: float, served_by: str | None = "10.98.0.11", reason: str | None = None) -> Exchange:
    return Exchange(start, start, end, served_by, reason)


def test_a_gap_is_seen_between_successes_before_the_first_and_after_the_last():
    probes = [probe(1.0, 1.1), probe(1.2, 1.3), probe(3.0, 3.1)]
    assert longest_gap(probes, 1.0, 3.2) == pytest.approx(1.8)
    assert longest_gap(probes, 0.0, 1.2) == pytest.approx(1.1)
    assert longest_gap(probes, 1.0, 9.0) == pytest.approx(5.9)
    assert longest_gap([probe(1.0, 1.1, None, "reset")], 1.0, 3.0) == pytest.approx(2.0)


def test_failures_are_counted_with_those_that_were_under_way():
    marks = Marks(0, 10, 11, 20, 21)
    probes = [
        probe(9, 9.5, None, "reset"),
        probe(9.9, 10.1, None, "reset"),
        probe(10.5, 12, None, "reset"),
        probe(12, 13, None, "refused"),
        probe(13, 14),
    ]
    found = figures(probes, marks)
    assert (found["failed"], found["failed_under_way"], found["failing_for_s"]) == (4, 2, 2)
    assert found["reasons"] == {"reset": 3, "refused": 1}
    assert (found["served_before"], found["served_during"], found["served_after"]) == ({}, {"gw1": 1}, {})
