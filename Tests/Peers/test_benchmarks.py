"""The harness that compares proxies: that it measures what it says, in one short run, and that it judges rightly."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import pytest

from harness.weir import Weir

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BENCHMARKS = REPOSITORY / "Benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from compare.figures import Figure  # noqa: E402
from compare.report import Series, table  # noqa: E402

pytestmark = [pytest.mark.weir, pytest.mark.own_driver, pytest.mark.exact]

COST = Figure("cpu", "CPU each", "us", lambda _: None, aims=(("nginx", 0.9), ("best peer", 1.0)))


def judged(ours: list[float], **peers: list[float]) -> list[str]:
    """The rows of ratios that a table ends with."""
    series = Series("cold", "a load", COST, {"weir": ours} | peers)
    rows = table([series], "weir", list(peers), ["weir", *peers]).splitlines()
    return [row for row in rows if row.startswith("| cold |")]


def test_a_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_medians():
    [row, _] = judged([1, 4, 9], nginx=[2, 16, 10])
    assert "| 0.50 | 0.25-0.90 |" in row


def test_a_figure_that_misses_its_aim_is_said_to():
    assert "at most 0.90: missed" in judged([91], nginx=[100])[0]
    assert "at most 0.90: met" in judged([89], nginx=[100])[0]


def test_the_best_peer_is_the_one_with_the_least_cost():
    assert any("best peer (haproxy)" in row and "missed" in row for row in judged([2], nginx=[3], haproxy=[1]))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One round of a few loads, with and without a proxy."""
    out = tmp_path_factory.mktemp("bench")
    load = BENCHMARKS / ".build/release/weir-load"
    assert load.exists(), f"no {load}; `swift build --package-path Benchmarks -c release --product weir-load` makes it"
    command = [sys.executable, "-m", "compare", "--weir", Weir.binary, "--load", load, "--out", out, "--no-charts"]
    command += ["--rounds", "1", "--seconds", "0.3", "--subjects", "weir,nginx,haproxy-splice,direct"]
    command += ["--only", "connections-1,connections-tenth,messages-64,bulk-1-,calls,start"]
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return out


def values(run: pathlib.Path) -> dict[tuple[str, str, str], float]:
    with open(run / "figures.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {(row["load"], row["figure"], row["subject"]): float(row["value"]) for row in rows if row["value"]}


def test_a_run_has_every_figure_of_every_subject(run):
    found = values(run)
    for subject in ("weir", "nginx"):
        for load in ("connections-1", "connections-128", "messages-64"):
            for figure in ("rate", "cpu", "p50", "p99"):
                assert found[(load, figure, subject)] > 0
        for direction in ("up", "down"):
            assert found[(f"bulk-1-{direction}", "gbit", subject)] > 0
        assert found[("connections-tenth", "p99", subject)] > 0
        assert found[("calls", "calls", subject)] > 1
        assert found[("start", "start", subject)] > 0
    assert found[("connections-1", "rate", "direct")] > 0
    assert ("connections-1", "cpu", "direct") not in found
    assert found[("bulk-1-down", "gbit", "haproxy-splice")] > 0
    assert ("connections-1", "rate", "haproxy-splice") not in found


def test_a_run_is_free_of_failed_operations_and_keeps_what_it_was_run_with(run):
    facts = json.loads((run / "machine.json").read_text())
    assert facts["errors"] == {}
    assert facts["versions"]["nginx"]
    assert "ssl_preread on" in (run / "configurations/nginx-nginx.conf").read_text()
    assert "| connections-128 | CPU each | nginx |" in (run / "table.md").read_text()
