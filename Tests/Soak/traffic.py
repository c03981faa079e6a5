"""The clients of the soak, one process: streams of every kind through the proxy, each checked byte by byte.

Writes a line of JSON for each stream. Reads orders from standard input: `pause SECONDS` (between two streams of a
worker), `stop` (no new streams; those that live come to their end).
"""

import asyncio
import contextlib
import json
import pathlib
import random
import socket
import ssl
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Peers"))

import protocol
from harness import wire
from harness.streams import DOWN, UP, Checked, Corrupted, Streams
from protocol import Greeting, Opening, Plan

CHUNK = 1 << 16
# Without a byte, where one is due. Every nemesis is over long before, and so are TCP's own retransmissions.
PATIENCE = 45
WORKERS = 48
TCP_CLOSE = 7  # tcp_states.h
IDLE = 40
SLOW = 6


class Early(Exception):
    """The end of the stream, before its last byte."""


class Traffic:
    def __init__(self, seed: int, authority: str):
        self.dice = random.Random(seed)
        self.streams = Streams(seed)
        self.pause = 0.3
        self.stopping = asyncio.Event()
        self.context = ssl.create_default_context(cafile=authority)
        self._number = 0
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        # Kept, because the loop itself keeps no task alive.
        self._listening = asyncio.create_task(self._orders())
        workers = [self._worker(number) for number in range(WORKERS)]
        workers += [self._repeat(self._idle) for _ in range(IDLE)]
        workers += [self._repeat(self._slow) for _ in range(SLOW)]
        await asyncio.gather(*workers)

    async def _orders(self) -> None:
        reader = asyncio.StreamReader()
        await self._loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            word, *rest = line.split()
            if word == b"pause":
                self.pause = float(rest[0])
            elif word == b"stop":
                self.stopping.set()
        self.stopping.set()

    async def _worker(self, number: int) -> None:
        kinds = {
            self._plain: 8,
            self._secure: 6,
            self._named: 4,
            self._headed: 4,
            self._forward: 3,
            self._new_name: 0.3,
            self._reset: 3,
            self._abort: 1,
            self._stall: 0.3,
        }
        while not self.stopping.is_set():
            [kind] = self.dice.choices(list(kinds), list(kinds.values()))
            await kind()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.dice.expovariate(1 / self.pause)):
                    await self.stopping.wait()

    async def _repeat(self, kind) -> None:
        while not self.stopping.is_set():
            await kind()
            await asyncio.sleep(0.1)

    # Kinds of streams. `route` is the one origin that can serve it, 0 where any can.

    def _sizes(self) -> tuple[int, int]:
        dice = self.dice
        return tuple(dice.choice((0, 1, 200, 5000, 5000, 40_000, 40_000, 300_000, 2_000_000)) for _ in range(2))

    def _plan(self) -> Plan:
        return self.dice.choice((Plan.AT_ONCE, Plan.AT_ONCE, Plan.AFTER_THE_END, Plan.FIRST_TO_END))

    async def _plain(self) -> None:
        await self._stream("plain", protocol.TO_PLAIN, self._plan(), *self._sizes())

    async def _named(self) -> None:
        origin = self.dice.randint(1, 4)
        hello = protocol.hello(protocol.fixed_name(origin))
        await self._stream("named", protocol.TO_NAMED, self._plan(), *self._sizes(), preamble=hello, route=origin)

    async def _headed(self) -> None:
        port, header, claimed = protocol.TO_HEADED_V1, b"", None
        if self.dice.random() < 0.6:
            port = protocol.TO_HEADED_V2
            claimed = (f"10.77.0.{self.dice.randint(1, 254)}", self.dice.randint(1, 65535))
            form = self.dice.choice(("v1", "v2", "v2 with fields"))
            if form == "v1":
                header = wire.v1(claimed[0], protocol.PROXY, claimed[1], 443)
            else:
                fields = wire.tlv(wire.TLV_NOOP, bytes(self.dice.randint(0, 300))) if "fields" in form else b""
                block = wire.addresses(claimed[0], protocol.PROXY, claimed[1], 443)
                header = wire.v2(wire.PROXY, wire.TCP4, block + fields)
        await self._stream("headed", port, self._plan(), *self._sizes(), preamble=header, claimed=claimed)

    async def _forward(self) -> None:
        origin = self.dice.randint(1, 4)
        hello = protocol.hello(protocol.forward_name(origin))
        await self._stream("forward", protocol.TO_FORWARD, self._plan(), *self._sizes(), preamble=hello, route=origin)

    async def _new_name(self) -> None:
        origin = self.dice.randint(1, 4)
        hello = protocol.hello(protocol.new_name(origin, self._number + 1))
        await self._stream("new name", protocol.TO_FORWARD, Plan.AT_ONCE, 200, 200, preamble=hello, route=origin)

    async def _idle(self) -> None:
        """Seldom a few bytes, for half a minute to a few."""
        port = self.dice.choice((protocol.TO_PLAIN, protocol.TO_HEADED_V1))
        count = self.dice.randint(5, 40) * 50
        await self._stream("idle", port, Plan.PINGS, count, count)

    async def _slow(self) -> None:
        if self.dice.random() < 0.5:
            await self._stream("slow", protocol.TO_PLAIN, Plan.AT_ONCE, 100, 3_000_000, slow=True)
        else:
            await self._stream("slow", protocol.TO_PLAIN, Plan.SLOW_ORIGIN, 3_000_000, 100)

    async def _reset(self) -> None:
        """Resets in the middle; the origin must see a reset, and a prefix."""
        await self._stream("reset", protocol.TO_PLAIN, Plan.AT_ONCE, 200_000, 200_000, reset_at=self.dice.randrange(150_000))

    async def _abort(self) -> None:
        """Leaves in the middle of a hello or a header."""
        port, whole = self.dice.choice(
            ((protocol.TO_NAMED, protocol.hello(protocol.fixed_name(1))), (protocol.TO_HEADED_V2, wire.v2_tcp4()))
        )
        await self._part("abort", port, whole[: self.dice.randrange(1, len(whole))], waits=False)

    async def _stall(self) -> None:
        """Says half a hello and nothing more: the proxy ends it."""
        hello = protocol.hello(protocol.fixed_name(1))
        await self._part("stall", protocol.TO_NAMED, hello[: self.dice.randrange(1, len(hello))], waits=True)

    # One stream

    def _begin(self, kind: str, port: int, route: int = 0) -> dict:
        self._number += 1
        return {
            "stream": self._number,
            "kind": kind,
            "listener": port,
            "route": route,
            "origin": 0,
            "stage": "connect",
            "start": time.monotonic(),
        }

    @contextlib.contextmanager
    def _told(self, told: dict):
        """What happens inside goes into the record of the stream, which is written at the end."""
        try:
            yield
            told["outcome"] = "complete"
        except Corrupted as found:
            told |= {"outcome": "corrupted", "text": str(found)}
        except ValueError as found:
            told |= {"outcome": "corrupted", "text": str(found)}
        except Early as found:
            told |= {"outcome": "fin", "text": str(found)}
        except TimeoutError:
            told["outcome"] = "timeout"
        except ConnectionRefusedError:
            told["outcome"] = "refused"
        except ConnectionError as found:
            told |= {"outcome": "reset", "text": str(found)}
        except ssl.SSLError as found:
            wrong = any(word in str(found) for word in ("RECORD_MAC", "DECRYPT", "WRONG_VERSION", "RECORD_LAYER"))
            told |= {"outcome": "corrupted" if wrong else "alert" if "ALERT" in str(found) else "fin"}
            told["text"] = str(found)
        except OSError as found:
            told |= {"outcome": "reset", "text": repr(found)}
        told["time"] = time.monotonic()
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()

    async def _connect(self, told: dict, port: int, slow: bool = False) -> socket.socket:
        client = socket.socket()
        client.setblocking(False)
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if slow:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            client.bind((self.dice.choice(protocol.CLIENTS), 0))
            async with asyncio.timeout(PATIENCE):
                await self._loop.sock_connect(client, (protocol.PROXY, port))
        except BaseException:
            client.close()
            raise
        told |= {"stage": "open", "client": client.getsockname()[1]}
        return client

    async def _part(self, kind: str, port: int, content: bytes, waits: bool) -> None:
        told = self._begin(kind, port)
        with self._told(told):
            client = await self._connect(told, port)
            with client:
                await self._loop.sock_sendall(client, content)
                if not waits:
                    _end_with_reset(client, self.dice.random() < 0.5)
                    return
                with contextlib.suppress(ConnectionError):
                    async with asyncio.timeout(PATIENCE):
                        while await self._loop.sock_recv(client, 100):
                            pass

    async def _stream(
        self,
        kind: str,
        port: int,
        plan: Plan,
        up: int,
        down: int,
        *,
        preamble: bytes = b"",
        route: int = 0,
        slow: bool = False,
        claimed: tuple[str, int] | None = None,
        reset_at: int | None = None,
    ) -> None:
        told = self._begin(kind, port, route)
        opening = Opening(told["stream"], up, down, plan)
        told |= {"up": up, "down": down, "plan": plan.name}
        with self._told(told):
            client = await self._connect(told, port, slow)
            try:
                await self._play(client, told, opening, preamble, slow, claimed or client.getsockname(), reset_at)
            except BaseException:
                _end_with_reset(client, True)
                raise
            client.close()

    async def _play(self, client, told, opening, preamble, slow, named, reset_at) -> None:
        loop = self._loop
        first = preamble + opening.pack()
        cut = self.dice.randrange(len(first))
        await loop.sock_sendall(client, first[:cut])
        if self.dice.random() < 0.3:
            await asyncio.sleep(0.01)
        await loop.sock_sendall(client, first[cut:])
        content = b""
        checked = Checked(self.streams, opening.stream, DOWN, opening.down)
        if opening.plan is not Plan.PINGS and reset_at is None:
            sending = asyncio.create_task(self._send(client, opening))
        else:
            sending = None
        try:
            while len(content) < Greeting.size:
                content += await self._more(client)
            greeting = Greeting.unpack(content[: Greeting.size])
            told |= {"stage": "live", "origin": greeting.origin, "proxy": greeting.proxy_port}
            if greeting.client_port and (socket.inet_ntoa(greeting.client), greeting.client_port) != named:
                raise Corrupted(f"stream {opening.stream}: the PROXY header named {greeting}, the client is {named}")
            checked.feed(content[Greeting.size :])
            if reset_at is not None:
                return await self._send_and_reset(client, opening, reset_at)
            if opening.plan is Plan.PINGS:
                await self._ping(client, opening, checked)
            while chunk := await self._read(client, 8192 if slow else CHUNK):
                checked.feed(chunk)
                told["received"] = checked.count
                if slow:
                    await asyncio.sleep(0.02)
            if not checked.is_complete:
                raise Early(f"after {checked.count} of {opening.down} bytes")
            if sending:
                async with asyncio.timeout(PATIENCE):
                    await sending
        except Early:
            # Linux tells one of the two of a reset, and the other of an end; the sender's task need not have come to it.
            has_ended = sending and sending.done() and not sending.exception()
            if not has_ended and _is_gone(client):
                raise ConnectionResetError("told as an end") from None
            raise
        finally:
            if sending and not sending.done():
                sending.cancel()
            if sending:
                # An error of the sender that the receiver did not have is the receiver's next one.
                await asyncio.gather(sending, return_exceptions=True)

    async def _read(self, client, count: int = CHUNK) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self._loop.sock_recv(client, count)

    async def _more(self, client) -> bytes:
        chunk = await self._read(client)
        if not chunk:
            raise Early("before the origin answered")
        return chunk

    async def _send(self, client, opening: Opening) -> None:
        offset = 0
        for length in protocol.pieces(self.dice, CHUNK):
            count = min(length, opening.up - offset)
            if count == 0:
                break
            content = self.streams.bytes(opening.stream, UP, offset, count)
            async with asyncio.timeout(PATIENCE):
                await self._loop.sock_sendall(client, content)
            offset += count
        client.shutdown(socket.SHUT_WR)

    async def _send_and_reset(self, client, opening: Opening, reset_at: int) -> None:
        content = self.streams.bytes(opening.stream, UP, 0, reset_at)
        async with asyncio.timeout(PATIENCE):
            await self._loop.sock_sendall(client, content)
        _end_with_reset(client, True)

    async def _ping(self, client, opening: Opening, checked: Checked) -> None:
        offset = 0
        while offset < opening.up and not self.stopping.is_set():
            count = min(50, opening.up - offset)
            await self._loop.sock_sendall(client, self.streams.bytes(opening.stream, UP, offset, count))
            offset += count
            while checked.count < offset:
                checked.feed(await self._more(client))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.dice.uniform(0.5, 8)):
                    await self.stopping.wait()
        if offset < opening.up:
            content = self.streams.bytes(opening.stream, UP, offset, opening.up - offset)
            await self._loop.sock_sendall(client, content)
        client.shutdown(socket.SHUT_WR)

    async def _secure(self) -> None:
        """A short TLS session with a certificate that is verified, as a browser's."""
        told = self._begin("secure", protocol.TO_SECURE)
        up, down = (self.dice.choice((1, 200, 5000, 20_000)) for _ in range(2))
        opening = Opening(told["stream"], up, down, Plan.AT_ONCE)
        told |= {"up": up, "down": down, "plan": opening.plan.name}
        with self._told(told):
            client = await self._connect(told, protocol.TO_SECURE)
            async with asyncio.timeout(PATIENCE):
                try:
                    reader, writer = await asyncio.open_connection(
                        sock=client, ssl=self.context, server_hostname=protocol.SECURE_NAME
                    )
                except BaseException:
                    client.close()
                    raise
            try:
                writer.write(opening.pack() + self.streams.bytes(opening.stream, UP, 0, up))
                content = b""
                checked = Checked(self.streams, opening.stream, DOWN, down)
                while checked.count < down or told["stage"] == "open":
                    async with asyncio.timeout(PATIENCE):
                        chunk = await reader.read(CHUNK)
                    if not chunk:
                        raise Early(f"after {checked.count} of {down} bytes")
                    content += chunk
                    if told["stage"] == "open":
                        if len(content) < Greeting.size:
                            continue
                        greeting = Greeting.unpack(content[: Greeting.size])
                        told |= {"stage": "live", "origin": greeting.origin, "proxy": greeting.proxy_port}
                        content = content[Greeting.size :]
                    checked.feed(content)
                    content = b""
            finally:
                writer.close()
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(PATIENCE):
                        await writer.wait_closed()


def _is_gone(client: socket.socket) -> bool:
    """Whether there is no connection any more. One that has had FIN, and has not sent its own, is there (CLOSE-WAIT)."""
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE


def _end_with_reset(client: socket.socket, resets: bool) -> None:
    if resets:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


async def main() -> None:
    await Traffic(int(sys.argv[1]), sys.argv[2]).run()


if __name__ == "__main__":
    asyncio.run(main())
