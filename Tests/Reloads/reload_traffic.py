"""Who is connected while the configuration is reloaded: each role is a process of its own.

`reload_traffic.py origin ADDRESS:0`            echoes
`reload_traffic.py load ADDRESS:PORT RATE`      so many new connections a second, each due at its moment, and as many as a
                                         tenth of that of requests on connections that stay
`reload_traffic.py held ADDRESS:PORT IDLE BULK` connections that are silent, and streams that never pause for long

Each prints a line in JSON when it is ready, ends when its input does, and prints what it found, in JSON. Times are
those of CLOCK_MONOTONIC in seconds, the same in every process of the machine.
"""

import asyncio
import collections
import hashlib
import itertools
import json
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Peers"))

from harness import wire

HELLO = wire.hello(b"main.test")
REQUEST = 64
PATIENCE = 10.0
# Of a stream: so much at a time, so often.
CHUNK, PAUSE = 1 << 14, 0.05


class Role:
    """A child in one of the roles."""

    def __init__(self, *arguments: object):
        self._child = subprocess.Popen(
            [sys.executable, __file__, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        line = self._child.stdout.readline()
        assert line, f"{arguments[0]} ended at once"
        self.ready = json.loads(line)

    def finish(self) -> dict:
        out, _ = self._child.communicate("", timeout=60)
        return json.loads(out)

    def stop(self) -> None:
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._transport.write(data)


async def checked(step: str, exchange, patience: float | None = PATIENCE) -> str:
    """What became of an exchange: `ok`, or the step at which it failed, and how. `exchange` says its steps."""
    try:
        async with asyncio.timeout(patience):
            async for next_step in exchange:
                step = next_step
        return "ok"
    except TimeoutError:
        return f"{step}: timeout"
    except AssertionError:
        return f"{step}: corrupted"
    except asyncio.IncompleteReadError:
        return f"{step}: closed"
    except OSError as failure:
        return f"{step}: {type(failure).__name__}"


async def echoed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes) -> None:
    writer.write(sent)
    assert await reader.readexactly(len(sent)) == sent


async def ended(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write_eof()
    assert await reader.read() == b""


async def load(endpoint: tuple[str, int], rate: float, stopping: asyncio.Event) -> dict:
    outcomes: collections.Counter[str] = collections.Counter()
    # (due, seconds until the answer was complete), of those that succeeded.
    opened: list[tuple[float, float]] = []
    asked: list[tuple[float, float]] = []

    async def one(number: int, due: float) -> None:
        writer = None
        # One address would have no port left that is not in TIME_WAIT: one that is taken again may be answered with RST.
        own = f"127.0.1.{number % 200 + 1}"

        async def steps():
            nonlocal writer
            reader, writer = await asyncio.open_connection(*endpoint, local_addr=(own, 0))
            yield "exchange"
            await echoed(reader, writer, HELLO + os.urandom(REQUEST))
            opened.append((due, time.monotonic() - due))
            yield "end"
            await ended(reader, writer)

        outcomes[await checked("connect", steps())] += 1
        if writer:
            writer.close()

    async def staying(every: float, first: float) -> None:
        async def steps():
            reader, writer = await asyncio.open_connection(*endpoint)
            yield "exchange"
            await echoed(reader, writer, HELLO)
            due = first
            while not stopping.is_set():
                await asyncio.sleep(max(0, due - time.monotonic()))
                await echoed(reader, writer, os.urandom(REQUEST))
                asked.append((due, time.monotonic() - due))
                due += every
            yield "end"
            await ended(reader, writer)
            writer.close()

        outcomes[f"staying: {await checked('connect', steps(), patience=None)}"] += 1

    start = time.monotonic()
    async with asyncio.TaskGroup() as running:
        for number in range(4):
            running.create_task(staying(40 / rate, start + number * 10 / rate))
        due = start
        for number in itertools.count():
            if stopping.is_set():
                break
            running.create_task(one(number, due))
            due += 1 / rate
            if (rest := due - time.monotonic()) > 0:
                await asyncio.sleep(rest)
            else:
                await asyncio.sleep(0)
    return {"outcomes": outcomes, "opened": opened, "asked": asked}


async def held(endpoint: tuple[str, int], idle: int, bulk: int, stopping: asyncio.Event, ready: asyncio.Event) -> dict:
    outcomes: collections.Counter[str] = collections.Counter()
    byte_count = 0
    missing = idle + bulk

    def began() -> None:
        nonlocal missing
        missing -= 1
        if missing == 0:
            ready.set()

    async def silent() -> None:
        async def steps():
            reader, writer = await asyncio.open_connection(*endpoint)
            yield "exchange"
            await echoed(reader, writer, HELLO)
            began()
            yield "silence"
            waiting = asyncio.create_task(stopping.wait())
            heard = asyncio.create_task(reader.readexactly(1))
            await asyncio.wait((waiting, heard), return_when=asyncio.FIRST_COMPLETED)
            if heard.done():
                heard.result()
                raise AssertionError
            heard.cancel()
            await asyncio.wait((heard,))
            await echoed(reader, writer, b"still here")
            yield "end"
            await ended(reader, writer)
            writer.close()

        outcomes[f"idle: {await checked('connect', steps(), patience=None)}"] += 1

    async def stream() -> None:
        async def steps():
            nonlocal byte_count
            reader, writer = await asyncio.open_connection(*endpoint)
            yield "exchange"
            await echoed(reader, writer, HELLO)
            began()
            yield "stream"
            sent, received = hashlib.sha256(), hashlib.sha256()
            while not stopping.is_set():
                block = os.urandom(CHUNK)
                writer.write(block)
                sent.update(block)
                received.update(await reader.readexactly(len(block)))
                byte_count += len(block)
                await asyncio.sleep(PAUSE)
            yield "end"
            await ended(reader, writer)
            assert sent.digest() == received.digest()
            writer.close()

        outcomes[f"bulk: {await checked('connect', steps(), patience=None)}"] += 1

    async with asyncio.TaskGroup() as running:
        for number in range(idle):
            running.create_task(silent())
            if number % 50 == 49:
                await asyncio.sleep(0.05)
        for _ in range(bulk):
            running.create_task(stream())
    return {"outcomes": outcomes, "bytes": byte_count}


async def main(role: str, endpoint: str, *numbers: str) -> None:
    stopping, ready = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, stopping.set)
    address, _, port = endpoint.rpartition(":")
    target = (address, int(port))
    if role == "origin":
        server = await asyncio.get_running_loop().create_server(Echo, *target, backlog=4096)
        print(json.dumps(server.sockets[0].getsockname()[:2]), flush=True)
        await stopping.wait()
        found = {}
    elif role == "load":
        print("true", flush=True)
        found = await load(target, float(numbers[0]), stopping)
    else:
        running = asyncio.create_task(held(target, int(numbers[0]), int(numbers[1]), stopping, ready))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED, timeout=60)
        print(json.dumps(ready.is_set()), flush=True)
        found = await running
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
