"""One origin of the soak, a process of its own in its host's namespace: checks what comes, sends what is due.

Writes a line of JSON for each stream that it saw to the end, and at once for bytes that are wrong.
"""

import asyncio
import json
import pathlib
import socket
import ssl
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Peers"))

import protocol
from harness.endpoints import FIN, RST
from harness.streams import DOWN, UP, Checked, Corrupted, Streams
from protocol import Greeting, Opening, Plan

CHUNK = 1 << 16
# Without a byte in either direction. Longer than anything that the proxy waits for.
PATIENCE = 90


def tell(**fields) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


class Ended(Exception):
    """The stream ended before it could be told which one it is: a client that left early."""


class Raw:
    """A plain socket, with the loop's own calls: a reset stays a reset."""

    def __init__(self, connection: socket.socket):
        self.connection = connection
        self._loop = asyncio.get_running_loop()

    async def read(self, count: int = CHUNK) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self._loop.sock_recv(self.connection, count)

    async def write(self, content: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._loop.sock_sendall(self.connection, content)

    async def end(self) -> None:
        self.connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.connection.close()


class Secure:
    """The same over TLS, where one side's end is not passed on alone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader, self._writer = reader, writer

    async def read(self, count: int = CHUNK) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self._reader.read(count)

    async def write(self, content: bytes) -> None:
        self._writer.write(content)
        async with asyncio.timeout(PATIENCE):
            await self._writer.drain()

    async def end(self) -> None:
        pass

    def close(self) -> None:
        self._writer.close()


class Origin:
    def __init__(self, number: int, seed: int, certificate: str):
        self.number = number
        self.streams = Streams(seed)
        self.certificate = certificate
        self._accepting: list[asyncio.Task] = []
        self.hellos = {protocol.hello(protocol.fixed_name(number)), protocol.hello(protocol.forward_name(number))}

    async def serve(self) -> None:
        address = protocol.ORIGINS[self.number]
        for port in (protocol.PLAIN, protocol.NAMED, protocol.HEADED):
            listener = socket.create_server((address, port), backlog=4096)
            listener.setblocking(False)
            # Kept, because the loop itself keeps no task alive.
            self._accepting.append(asyncio.create_task(self._accept(listener, port)))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate)
        await asyncio.start_server(self._secure, address, protocol.SECURE, ssl=context, backlog=4096)
        tell(ready=self.number)
        await asyncio.Event().wait()

    async def _accept(self, listener: socket.socket, port: int) -> None:
        loop = asyncio.get_running_loop()
        running = set()
        while True:
            connection, peer = await loop.sock_accept(listener)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = asyncio.create_task(self._run(Raw(connection), peer, port))
            running.add(task)
            task.add_done_callback(running.discard)

    async def _secure(self, reader, writer) -> None:
        await self._run(Secure(reader, writer), writer.get_extra_info("peername"), protocol.SECURE)

    async def _run(self, connection, peer, port: int) -> None:
        seen = {"origin": self.number, "port": port, "peer": peer[1], "start": time.monotonic(), "up": 0}
        try:
            rest, client = await self._preamble(connection, port)
            while len(rest) < Opening.size:
                rest += await self._more(connection)
            opening = Opening.unpack(rest[: Opening.size])
            seen |= {"stream": opening.stream}
            greeting = Greeting(self.number, peer[1], *client)
            up = Checked(self.streams, opening.stream, UP, opening.up)
            try:
                seen["end"] = await self._play(connection, opening, greeting, up, rest[Opening.size :])
            finally:
                seen |= {"up": up.count, "whole": up.is_complete}
        except Corrupted as found:
            tell(corrupted=str(found), origin=self.number, time=time.monotonic())
            return
        except ValueError as found:
            tell(corrupted=f"origin {self.number}, port {port}: {found}", origin=self.number, time=time.monotonic())
            return
        except ConnectionError:
            seen["end"] = RST
        except TimeoutError:
            seen["end"] = "timeout"
        except Ended:
            seen["end"] = FIN
        except ssl.SSLError as failure:
            if "RECORD" in str(failure) or "DECRYPT" in str(failure):
                tell(corrupted=f"origin {self.number}, TLS: {failure}", origin=self.number, time=time.monotonic())
            seen["end"] = RST
        except OSError as failure:
            seen["end"] = repr(failure)
        finally:
            connection.close()
        if "stream" in seen:
            tell(**seen, time=time.monotonic())

    async def _more(self, connection) -> bytes:
        chunk = await connection.read()
        if not chunk:
            raise Ended
        return chunk

    async def _preamble(self, connection, port: int) -> tuple[bytes, tuple[bytes, int]]:
        """Takes the hello or the PROXY header off; returns what came behind it and the client that a header named."""
        nobody = (bytes(4), 0)
        if port in (protocol.PLAIN, protocol.SECURE):
            return b"", nobody
        content = await self._more(connection)
        if port == protocol.NAMED:
            while len(content) < 5 or len(content) < 5 + int.from_bytes(content[3:5], "big"):
                content += await self._more(connection)
            length = 5 + int.from_bytes(content[3:5], "big")
            if content[:length] not in self.hellos and b".new.test" not in content[:length]:
                raise ValueError(f"not the hello that was sent: {content[:64].hex()}")
            return content[length:], nobody
        while len(content) < 16 or (content[:1] == b"P" and b"\r\n" not in content[:107]):
            content += await self._more(connection)
        if content[:6] == b"PROXY ":
            line, _, rest = content.partition(b"\r\n")
            _, family, source, destination, source_port, _ = line.decode().split(" ")
            if family != "TCP4" or destination != protocol.PROXY:
                raise ValueError(f"PROXY header {line!r}")
            return rest, (socket.inet_aton(source), int(source_port))
        length = 16 + int.from_bytes(content[14:16], "big")
        while len(content) < length:
            content += await self._more(connection)
        if content[:14] != b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" or content[20:24] != socket.inet_aton(protocol.PROXY):
            raise ValueError(f"PROXY header {content[:28].hex()}")
        return content[length:], (content[16:20], struct.unpack("!H", content[24:26])[0])

    async def _play(self, connection, opening: Opening, greeting: Greeting, up: Checked, rest: bytes) -> str:
        """Both directions to their end; returns how the client's side ended."""
        up.feed(rest)
        await connection.write(greeting.pack())
        if opening.plan is Plan.PINGS:
            await self._answer(connection, opening, len(rest), 0)
            while chunk := await connection.read():
                before = up.count
                up.feed(chunk)
                await self._answer(connection, opening, len(chunk), before)
            await connection.end()
            return FIN
        receiving = self._receive(connection, opening, up)
        if opening.plan is Plan.AFTER_THE_END:
            end = await receiving
            await self._send(connection, opening)
            return end
        async with asyncio.TaskGroup() as both:
            sending = both.create_task(self._guarded(self._send(connection, opening)))
            received = both.create_task(self._guarded(receiving))
        for done in (received.result(), sending.result()):
            if isinstance(done, BaseException):
                raise done
        return received.result()

    @staticmethod
    async def _guarded(work):
        """Its result or its failure: one direction does not cut the other short, which decides by itself."""
        try:
            return await work
        except (OSError, TimeoutError, Corrupted, ValueError) as failure:
            return failure

    async def _answer(self, connection, opening: Opening, count: int, before: int) -> None:
        if count:
            await connection.write(self.streams.bytes(opening.stream, DOWN, before, count))

    async def _send(self, connection, opening: Opening) -> None:
        for offset in range(0, opening.down, CHUNK):
            count = min(CHUNK, opening.down - offset)
            await connection.write(self.streams.bytes(opening.stream, DOWN, offset, count))
        await connection.end()

    async def _receive(self, connection, opening: Opening, up: Checked) -> str:
        while True:
            if isinstance(connection, Secure) and up.is_complete:
                return FIN  # the end of a TLS session ends both ways, and the answer may still be under way
            chunk = await connection.read(8192 if opening.plan is Plan.SLOW_ORIGIN else CHUNK)
            if not chunk:
                return FIN
            up.feed(chunk)
            if opening.plan is Plan.SLOW_ORIGIN:
                await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(Origin(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]).serve())
