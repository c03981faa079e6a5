"""`steering: cpu`: the worker of the CPU that received a connection serves it."""

import json
import os
import signal
import subprocess
import threading

import pytest

from harness.endpoints import Origin, connect, echo, read_exactly
from harness.network import free_port
from harness.processes import eventually
from harness.setup import Listen, Setup
from harness.weir import Weir, text

pytestmark = pytest.mark.weir

PROCESSORS = sorted(os.sched_getaffinity(0))
SESSIONS = 12


@pytest.fixture(scope="module")
def origin(stopping):
    return stopping(Origin(echo))


def from_processor(processor: int, endpoint) -> None:
    """Sessions whose packets this CPU sends and, on loopback, receives."""

    def run() -> None:
        os.sched_setaffinity(0, {processor})
        for _ in range(SESSIONS):
            with connect(endpoint) as client:
                client.sendall(b"x")
                assert read_exactly(client, 1) == b"x"

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)


def workers_of(process: Weir, count: int) -> list[int]:
    def closed() -> list[int]:
        return [json.loads(line)["worker"] for line in process.log_lines() if '"close"' in line]

    eventually(lambda: len(closed()) >= count, what=f"{count} sessions in the log")
    return closed()


@pytest.mark.skipif(len(PROCESSORS) < 2, reason="one CPU")
def test_a_connection_is_served_by_the_worker_of_its_processor(proxy, origin):
    listen = Listen("main", free_port(), default=origin.endpoint)
    process = proxy(Setup([listen], steering="cpu", workers=len(PROCESSORS)), name="steered")
    for number, processor in enumerate(PROCESSORS[:4]):
        from_processor(processor, listen.endpoint)
        assert set(workers_of(process, SESSIONS * (number + 1))[SESSIONS * number :]) == {number}


@pytest.mark.skipif(len(PROCESSORS) < 2, reason="one CPU")
def test_every_worker_runs_on_its_processor(proxy, origin):
    listen = Listen("main", free_port(), default=origin.endpoint)
    process = proxy(Setup([listen], steering="cpu", workers=2), name="bound")
    bound = {}
    for task in os.listdir(f"/proc/{process.pid}/task"):
        with open(f"/proc/{process.pid}/task/{task}/comm") as file:
            bound[file.read().strip()] = os.sched_getaffinity(int(task))
    assert [bound[f"weir-worker-{number}"] for number in range(2)] == [{processor} for processor in PROCESSORS[:2]]


def test_more_workers_than_processors_end_the_start(tmp_path):
    count = len(PROCESSORS) + 1
    file = tmp_path / "weir.yaml"
    file.write_text(text(Setup([Listen("main", free_port(), default=("127.0.0.1", 9))], steering="cpu", workers=count)))
    done = subprocess.run([Weir.binary, "run", "--config", file], capture_output=True, text=True, timeout=30)
    assert done.returncode not in (0, -signal.SIGTERM)
    assert f"steer by CPU: there are {count} workers, and {len(PROCESSORS)} CPUs" in done.stderr
