"""Many streams at once between clients and an origin, every byte of both directions checked, on one thread."""

import asyncio
import collections
import socket
import struct

from harness.streams import DOWN, UP, Corrupted, EndedEarly, Streams, converse


async def listening(endpoint, serve) -> asyncio.Task:
    """Accepts until cancelled, and runs `serve(connection)` for each."""
    loop = asyncio.get_running_loop()
    listener = socket.create_server(endpoint, backlog=4096)
    listener.setblocking(False)

    async def accept():
        running = set()
        with listener:
            while True:
                connection, _ = await loop.sock_accept(listener)
                task = asyncio.create_task(serve(connection))
                running.add(task)
                task.add_done_callback(running.discard)

    return asyncio.create_task(accept())


async def in_turn(count: int, at_once: int, one) -> None:
    """Runs `one(0)` to `one(count - 1)`, so many at once."""
    numbers = iter(range(count))

    async def worker():
        for number in numbers:
            await one(number)

    await asyncio.gather(*(worker() for _ in range(at_once)))


class Conversations:
    """Streams of up to 30,000 bytes each way; `serve` is the origin's side, `one` the client's."""

    _opening = struct.Struct("!QII")

    def __init__(self, seed: int):
        self._streams = Streams(seed)
        # Streams by what became of them at the client: `whole`, `refused` (ended before the first byte), `cut`,
        # `corrupted`, `reset`, `timeout`; and those that were `whole at the origin`.
        self.outcomes: collections.Counter[str] = collections.Counter()
        # What was wrong with bytes, or with an end that came too early and looked like a good one.
        self.corrupted: list[str] = []

    async def serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with connection:
            try:
                head = b""
                while len(head) < self._opening.size:
                    chunk = await loop.sock_recv(connection, self._opening.size - len(head))
                    if not chunk:
                        return  # the client has given up
                    head += chunk
                stream, up, down = self._opening.unpack(head)
                await converse(connection, self._streams, stream, (DOWN, down), (UP, up))
                self.outcomes["whole at the origin"] += 1
            except Corrupted as found:
                self.corrupted.append(str(found))
            except EndedEarly as found:
                self.corrupted.append(f"looks complete at the origin: {found}")
            except OSError:
                pass  # the client says what came of it

    async def one(self, clients, endpoint, number: int, patience: float = 100) -> None:
        """Stream `number` from the host `clients`, given up after `patience` seconds."""
        loop = asyncio.get_running_loop()
        up, down = number * 31 % 30_000, number * 17 % 30_000
        outcome = "whole"
        try:
            async with asyncio.timeout(patience):
                with clients.entered():
                    client = socket.socket()
                with client:
                    client.setblocking(False)
                    await loop.sock_connect(client, endpoint)
                    await loop.sock_sendall(client, self._opening.pack(number, up, down))
                    await converse(client, self._streams, number, (UP, up), (DOWN, down))
        except Corrupted as found:
            self.corrupted.append(str(found))
            outcome = "corrupted"
        except EndedEarly as found:
            outcome = "refused" if ": 0 of" in str(found) else "cut"
            if outcome == "cut":
                self.corrupted.append(f"looks complete at the client: {found}")
        except TimeoutError:
            outcome = "timeout"
        except OSError:
            outcome = "reset"
        self.outcomes[outcome] += 1
