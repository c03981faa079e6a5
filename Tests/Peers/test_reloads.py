"""The stories of tools/reloads, in short: what is counted holds at any speed.

What is promised in milliseconds and in bytes is judged by tools/reloads, on a machine that has nothing else to do.
"""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Reloads"))

import reload_stories as stories
from reload_stories import SHORT

pytestmark = [pytest.mark.weir, pytest.mark.own_network]


@pytest.fixture
def told(tmp_path, figure):
    """Tells a story, puts its lines into the table of figures, and returns those that aim at zero."""

    def tell(story) -> dict[str, str]:
        rows = story(tmp_path, SHORT)
        for row in rows:
            figure(row.id, f"reloads: {row.promise}", row.aim, row.measured)
        return {row.promise: row.measured for row in rows if row.aim == "0"}

    return tell


def test_reloads_under_load_refuse_reset_close_and_corrupt_nothing(told):
    """P-07."""
    found = told(stories.under_load)
    assert found == dict.fromkeys(found, "0")
    assert len(found) == 3


def test_reloads_of_a_file_of_many_routes_fail_no_connection(told):
    """P-09."""
    found = told(stories.large_file)
    assert found == dict.fromkeys(found, "0")
    assert len(found) == 1
