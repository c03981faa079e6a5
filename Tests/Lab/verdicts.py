"""What the lab finds: figures of one run, outcomes of a story over its runs, and the table at the end."""

import collections
import dataclasses
import statistics
from typing import NamedTuple

from exchange import Exchange
from topology import CALLED


class Marks(NamedTuple):
    """Times of a run, on the probes' clock: its begin, before the fault, after the fault, its lifting, the end."""

    begin: float
    before_fault: float
    fault: float
    lifted: float
    end: float


def served(exchanges: list[Exchange]) -> dict[str, int]:
    """How many each one served, by name."""
    counts = collections.Counter(CALLED.get(one.served_by, one.served_by) for one in exchanges if one.is_good)
    return dict(sorted(counts.items()))


def longest_gap(exchanges: list[Exchange], begin: float, end: float) -> float:
    """The longest time within begin...end in which no exchange came to a good end, in seconds."""
    ends = sorted(one.end for one in exchanges if one.is_good and begin <= one.end <= end)
    edges = [begin, *ends, end]
    return max(later - earlier for earlier, later in zip(edges, edges[1:]))


def failures(exchanges: list[Exchange]) -> dict[str, int]:
    return dict(collections.Counter(one.reason for one in exchanges if not one.is_good))


def figures(exchanges: list[Exchange], marks: Marks) -> dict:
    """Of one run. An exchange belongs to the phase in which it began.

    `failed_under_way`: of those that failed, the ones that were under way while the fault came. `failing_for_s`: from
    the fault to the begin of the last one that failed.
    """
    good = [one for one in exchanges if one.is_good]
    failed = [one for one in exchanges if not one.is_good]
    under_way = [one for one in failed if one.start <= marks.fault and one.end >= marks.before_fault]

    def begun(start: float, end: float) -> dict[str, int]:
        return served([one for one in exchanges if start <= one.start < end])

    return {
        "probes": len(exchanges),
        # A kill takes as long as the kernel needs to take the process down, and its sockets.
        "fault_took_s": round(marks.fault - marks.before_fault, 3),
        "failed": len(failed),
        "failed_under_way": len(under_way),
        "failing_for_s": round(max((one.start - marks.before_fault for one in failed), default=0), 3),
        "reasons": failures(exchanges),
        # The first probes of a run come when they come: what is asked is the time around the fault.
        "longest_gap_s": round(longest_gap(exchanges, marks.before_fault, marks.end), 3),
        "slowest_s": round(max((one.seconds for one in good), default=0), 3),
        # How late the probe tool itself was at worst: a slow machine, not the proxy.
        "late_s": round(max((one.start - one.due for one in exchanges), default=0), 3),
        "served_before": begun(marks.begin, marks.before_fault),
        "served_during": begun(marks.fault, marks.lifted),
        "served_after": begun(marks.lifted, float("inf")),
    }


@dataclasses.dataclass
class Outcome:
    """A story over its runs."""

    key: str
    # The requirement's identifier, `P-01`.
    id: str
    promise: str
    bound: str
    measured: str
    # What others publish; empty where they say nothing.
    peers: str
    # None: measured, not judged.
    held: bool | None
    runs: list[dict]

    @property
    def verdict(self) -> str:
        return {True: "held", False: "BROKEN", None: "-"}[self.held]


def spread(values: list[float], unit: str = " s") -> str:
    """`median … worst`, or the one value."""
    if len(values) == 1:
        return f"{values[0]:.2f}{unit}"
    return f"median {statistics.median(values):.2f}, worst {max(values):.2f}{unit}"


def table(outcomes: list[Outcome]) -> list[str]:
    rows = [("id", "story", "promised", "here", "verdict", "published by others")]
    rows += [(one.id, one.promise, one.bound, one.measured, one.verdict, one.peers) for one in outcomes]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return ["  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths)), row[5]]).rstrip() for row in rows]
