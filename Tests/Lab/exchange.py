"""One checked exchange: what a probe sends, what it has to be answered, and what became of it."""

import asyncio
import hashlib
import os
import socket
import time
from typing import NamedTuple

# Bytes.
REQUEST = 32
_DIGEST = 16
ANSWER = _DIGEST + 4

# Why an exchange failed, besides errors of the system, which are called by their own names.
NO_CONNECTION, NO_ANSWER = "timed out connecting", "timed out waiting for the answer"
REFUSED, RESET, ENDED, WRONG = "refused", "reset", "ended without the answer", "another answer"


class Exchange(NamedTuple):
    """Times are those of CLOCK_MONOTONIC in seconds, the same in every process of the machine."""

    # When it should have begun; what lies between it and `start` is this machine's fault.
    due: float
    start: float
    end: float
    # The address that served, from the answer; None where it failed.
    served_by: str | None
    # None where it succeeded.
    reason: str | None

    @property
    def is_good(self) -> bool:
        return self.reason is None

    @property
    def seconds(self) -> float:
        return self.end - self.start


def answer(request: bytes, address: str) -> bytes:
    """What an origin says to `request`: that it had these bytes, and an address."""
    return hashlib.sha256(request).digest()[:_DIGEST] + socket.inet_aton(address)


def without_hello(received: bytes) -> bytes:
    """What came behind the record of a ClientHello, where there is one; a request never begins as one does."""
    if received[:1] != b"\x16":
        return received
    return received[5 + int.from_bytes(received[3:5], "big") :] if len(received) >= 5 else b""


async def exchanged(
    endpoint: tuple[str, int], patience: float, *, hello: bytes = b"", due: float | None = None
) -> Exchange:
    """Connects, sends `hello` and a request, and reads the answer to its end; gives up after `patience` seconds."""
    loop = asyncio.get_running_loop()
    start = time.monotonic()
    served_by, reason, waiting_for = None, None, NO_CONNECTION
    request = b"probe" + os.urandom(REQUEST - 5)
    with socket.socket() as client:
        client.setblocking(False)
        try:
            async with asyncio.timeout(patience):
                await loop.sock_connect(client, endpoint)
                waiting_for = NO_ANSWER
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.sock_sendall(client, hello + request)
                received = b""
                while chunk := await loop.sock_recv(client, 4096):
                    received += chunk
            if len(received) < ANSWER:
                reason = ENDED
            elif received[:_DIGEST] != answer(request, "0.0.0.0")[:_DIGEST] or len(received) > ANSWER:
                reason = WRONG
            else:
                served_by = socket.inet_ntoa(received[_DIGEST:])
        except TimeoutError:
            reason = waiting_for
        except ConnectionRefusedError:
            reason = REFUSED
        except (ConnectionResetError, BrokenPipeError):
            reason = RESET
        except OSError as failure:
            reason = repr(failure)
    return Exchange(start if due is None else due, start, time.monotonic(), served_by, reason)
