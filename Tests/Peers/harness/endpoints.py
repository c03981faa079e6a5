"""Both ends of a proxied connection: origins that record what reaches them, and clients that say how it ended.

How a connection ends is told apart: `FIN` (end of stream) or `RST` (ECONNRESET).
"""

import asyncio
import contextlib
import errno
import hashlib
import itertools
import socket
import struct
import threading
import time

FIN, RST, OPEN = "FIN", "RST", "open"


def connect(endpoint: tuple[str, int], *, source: str | None = None, seconds: float = 5.0) -> socket.socket:
    """A connected socket that sends each write at once; every blocking call on it is bounded by `seconds`."""
    found = socket.create_connection(endpoint, timeout=seconds, source_address=(source, 0) if source else None)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


# Below the range that a proxy's connects come from, here and in most containers.
_outside_ports = itertools.cycle(range(10_000, 20_000))


def connect_from_outside(endpoint: tuple[str, int], *, seconds: float = 5.0) -> socket.socket:
    """A connected socket whose own port is none that a proxy's connect may get.

    A port that a socket was bound to on purpose is not given to a connect, whatever its addresses, so who counts
    ports keeps clear of them. Ports that somebody else has are passed over.
    """
    for port in itertools.islice(_outside_ports, 10_000):
        found = socket.socket()
        found.settimeout(seconds)
        try:
            found.bind(("127.0.0.1", port))
        except OSError as error:
            found.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        found.connect(endpoint)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return found
    raise AssertionError("every port from 10000 to 19999 is taken")


def reset(connection: socket.socket) -> None:
    """Closes with RST in place of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def read_to_end(connection: socket.socket, *, seconds: float = 5.0) -> tuple[bytes, str]:
    """Everything that still comes, and how it ended: `FIN`, `RST`, or `open` if it did not within `seconds`."""
    received = bytearray()
    deadline = time.monotonic() + seconds
    try:
        while True:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            chunk = connection.recv(1 << 16)
            if not chunk:
                return bytes(received), FIN
            received += chunk
    except ConnectionError:
        return bytes(received), RST
    except TimeoutError:
        return bytes(received), OPEN


def read_exactly(connection: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        chunk = connection.recv(count - len(received))
        assert chunk, f"the stream ended after {len(received)} of {count} bytes"
        received += chunk
    return bytes(received)


def exchange(endpoint: tuple[str, int], request: bytes, **options) -> tuple[bytes, str]:
    """Connects, sends, ends the sending side, and reads to the end.

    A connection that is taken and reset at once may be over before connect(2) is looked at: RST, too.
    """
    try:
        client = connect(endpoint, **options)
    except ConnectionResetError:
        return b"", RST
    with client:
        with contextlib.suppress(OSError):  # refused while we were sending: the reading says how
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
        return read_to_end(client)


class Seen:
    """One connection as an origin saw it."""

    def __init__(self, connection: socket.socket, peer):
        self.connection = connection
        self.peer = peer
        self.received = bytearray()
        # None while it lasts.
        self.end: str | None = None
        self.ended_at: float | None = None
        # The last step of the origin's script has been done.
        self.done = threading.Event()

    def read(self) -> bytes:
        """The next bytes, recorded; empty at the end, which is recorded too."""
        try:
            chunk = self.connection.recv(1 << 16)
        except ConnectionError:
            self._ended(RST)
            return b""
        if chunk:
            self.received += chunk
        else:
            self._ended(FIN)
        return chunk

    def read_all(self) -> None:
        while self.read():
            pass

    def _ended(self, how: str) -> None:
        self.ended_at = time.monotonic()
        self.end = how


class Origin:
    """Listens, and runs `script(seen)` on a thread of its own for each connection; closes when the script returns."""

    def __init__(self, script, *, address: str = "127.0.0.1", port: int = 0, backlog: int = 1024):
        if address == "*":  # every address of both families
            self._listener = socket.create_server(
                ("::", port), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=True
            )
        else:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            self._listener = socket.create_server((address, port), family=family, backlog=backlog)
        self.endpoint: tuple[str, int] = self._listener.getsockname()[:2]
        self.script = script
        self.seen: list[Seen] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, peer = self._listener.accept()
            except OSError:
                return
            connection.settimeout(60)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            seen = Seen(connection, peer)
            self.seen.append(seen)
            threading.Thread(target=self._run, args=(seen,), daemon=True).start()

    def _run(self, seen: Seen) -> None:
        try:
            self.script(seen)
        except OSError:
            pass  # the other side left; `seen` holds what was observed
        finally:
            seen.connection.close()
            seen.done.set()

    def forget(self) -> None:
        self.seen.clear()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def answering(tag: bytes):
    """A script: `tag` in reply to the first bytes, then everything is recorded to the end."""

    def script(seen: Seen) -> None:
        if seen.read():
            seen.connection.sendall(tag)
            seen.read_all()

    return script


def speaking_first(banner: bytes):
    """A script: the banner before anything was heard (SMTP, SSH, MySQL), then an echo."""

    def script(seen: Seen) -> None:
        seen.connection.sendall(banner)
        echo(seen)

    return script


def echo(seen: Seen) -> None:
    while chunk := seen.read():
        seen.connection.sendall(chunk)


class EchoOrigin:
    """Echoes thousands of connections at once, and keeps only counts of them."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0):
        self.connection_count = 0
        self.byte_count = 0
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server((address, port), backlog=4096)
        self.endpoint: tuple[str, int] = self._listener.getsockname()[:2]
        ready = threading.Event()

        origin = self

        class Echo(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport
                origin.connection_count += 1

            def data_received(self, data):
                origin.byte_count += len(data)
                self.transport.write(data)

        async def serve():
            self._server = await self._loop.create_server(Echo, sock=self._listener, backlog=4096)
            ready.set()

        def run():
            asyncio.set_event_loop(self._loop)
            self._loop.create_task(serve())
            self._loop.run_forever()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        ready.wait(5)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


class Digest(threading.Thread):
    """Reads a connection to its end on a thread of its own; afterwards says how much came and its SHA-256."""

    def __init__(self, connection: socket.socket):
        super().__init__(daemon=True)
        self._connection = connection
        self._hash = hashlib.sha256()
        self.byte_count = 0
        self.end = OPEN
        self.start()

    def run(self) -> None:
        buffer = bytearray(1 << 20)
        view = memoryview(buffer)
        try:
            while count := self._connection.recv_into(buffer):
                self._hash.update(view[:count])
                self.byte_count += count
            self.end = FIN
        except ConnectionError:
            self.end = RST
        except TimeoutError:
            self.end = OPEN

    def hexdigest(self) -> str:
        self.join()
        return self._hash.hexdigest()
