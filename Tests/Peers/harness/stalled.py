"""Clients that send the first half of a hello and then nothing, in a process of their own: what they cost must not be taken
for the proxy's.
"""

import json
import select
import socket
import struct
import subprocess
import sys
import time

from harness import wire


class Stalled:
    """`count` of them, all at once. Every one is to be ended by the proxy."""

    def __init__(self, endpoint: tuple[str, int], count: int):
        command = [sys.executable, "-m", "harness.stalled", endpoint[0], str(endpoint[1]), str(count)]
        self._child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=__file__.rpartition("/harness/")[0])

    def await_sent(self) -> float:
        """Waits until all have sent their half; seconds that this took."""
        return float(self._child.stdout.readline())

    def finish(self, seconds: float) -> list[float]:
        """Waits until all are over: the seconds that each had. Fewer than there were: some never ended."""
        try:
            return json.loads(self._child.communicate(timeout=seconds)[0].splitlines()[-1])
        except subprocess.TimeoutExpired:
            return []
        finally:
            self.stop()

    def stop(self) -> None:
        self._child.kill()
        self._child.wait()


def _main(host: str, port: int, count: int) -> None:
    half = wire.hello(b"good.test")[:100]
    poll = select.epoll()
    begun: dict[int, tuple[socket.socket, float]] = {}
    lifetimes: list[float] = []

    def reap(seconds: float) -> None:
        for number, _ in poll.poll(seconds):
            now = time.monotonic()
            client, started = begun.pop(number)
            lifetimes.append(now - started)
            client.close()

    started = time.monotonic()
    # One address has about 28,000 ports towards one destination; as clients have many, so have these.
    for number in range(count):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.bind((f"127.0.1.{1 + number % 20}", 0))
        client.connect((host, port))
        begun[client.fileno()] = (client, time.monotonic())
        client.send(half)
        poll.register(client, select.EPOLLRDHUP)
        reap(0)
    print(time.monotonic() - started, flush=True)
    while begun:
        reap(0.1)
    print(json.dumps(lifetimes), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
