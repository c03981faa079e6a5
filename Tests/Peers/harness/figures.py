"""The table of figures at the end of a run: what is promised, what was aimed at, what was measured here.

A test that has a number worth reading adds a row, whether the number decides the test or not:

    figure("P-16", "client RST reaches the upstream, median of 50", "<= 50 ms", "0.4 ms")
"""

from typing import NamedTuple


class Figure(NamedTuple):
    # The requirement's identifier, `P-16`.
    id: str
    promise: str
    target: str
    measured: str


# In the order of the tests. The suite's conftest.py prints them and writes them to the report's directory.
collected: list[Figure] = []


def figure(id: str, promise: str, target: str, measured: object) -> None:
    """Adds a row to the table."""
    collected.append(Figure(id, promise, target, str(measured)))


def lines(rows: list[Figure] | None = None) -> list[str]:
    """The table as text, sorted by identifier; empty when there are no rows."""
    rows = sorted(collected if rows is None else rows, key=lambda row: row.id)
    if not rows:
        return []
    table = [Figure("id", "promise", "target", "measured"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    return ["  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths)), row.measured]) for row in table]
