"""Streams whose every byte says where it belongs, so that a lost, repeated, moved or foreign one is seen and named.

A stream is AES-128 in counter mode; the counter block holds a mark, the stream's number, its direction and the
position. Making and comparing goes at the speed of memory. And because a block can be decrypted, bytes that are
wrong tell whose they are: `Checked` says "offset 4096 of stream 7 up: bytes of stream 9 down, offset 65536".
"""

import asyncio
import socket
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_MARK = 0x7E12
_BLOCK = 16
UP, DOWN = 0, 1
WAYS = ("up", "down")


class Corrupted(Exception):
    """Bytes that are not those of the stream at this place."""


class Streams:
    """All streams of one run."""

    def __init__(self, seed: int):
        self._key = algorithms.AES(struct.pack("!QQ", 0x5EED, seed & (1 << 64) - 1))
        self._decryptor = Cipher(self._key, modes.ECB()).decryptor()

    def bytes(self, stream: int, way: int, offset: int, count: int) -> bytes:
        """`count` bytes of a direction of a stream, from `offset` on."""
        block, skipped = divmod(offset, _BLOCK)
        counter = struct.pack("!HIHQ", _MARK, stream, way, block)
        return Cipher(self._key, modes.CTR(counter)).encryptor().update(bytes(skipped + count))[skipped:]

    def owner(self, content: bytes) -> tuple[int, int, int] | None:
        """Stream, direction and offset of `content`'s first byte, where it is at least 31 bytes of any stream."""
        for shift in range(min(_BLOCK, len(content) - _BLOCK + 1)):
            mark, stream, way, block = struct.unpack(
                "!HIHQ", self._decryptor.update(content[shift : shift + _BLOCK])
            )
            if mark == _MARK and way in (UP, DOWN) and block < 1 << 40:
                return stream, way, block * _BLOCK - shift
        return None


class EndedEarly(Exception):
    """The peer's end came before its last byte: a cut stream that looks complete."""


class Checked:
    """Takes what arrives of one direction of one stream, and stops at the first byte that does not belong there."""

    def __init__(self, streams: Streams, stream: int, way: int, length: int):
        self._streams, self.stream, self.way, self.length = streams, stream, way, length
        self.count = 0

    @property
    def is_complete(self) -> bool:
        return self.count == self.length

    def feed(self, chunk: bytes) -> None:
        """Raises `Corrupted` for bytes that differ, or that come behind the stream's last one."""
        expected = self._streams.bytes(self.stream, self.way, self.count, len(chunk))
        end = self.length - self.count
        if chunk != expected or len(chunk) > end:
            same = next((at for at, pair in enumerate(zip(chunk, expected)) if pair[0] != pair[1]), len(chunk))
            raise Corrupted(self._describe(chunk[min(same, end) :], self.count + min(same, end)))
        self.count += len(chunk)

    def _describe(self, wrong: bytes, offset: int) -> str:
        place = f"stream {self.stream} {WAYS[self.way]}, offset {offset} of {self.length}"
        owner = self._streams.owner(wrong)
        if owner is None:
            return f"{place}: {len(wrong)} bytes of no stream: {wrong[:32].hex()}"
        stream, way, position = owner
        if (stream, way) != (self.stream, self.way):
            return f"{place}: bytes of stream {stream} {WAYS[way]}, offset {position}"
        if position > offset:
            return f"{place}: {position - offset} bytes are lost"
        if position < offset:
            return f"{place}: bytes are repeated from offset {position}"
        return f"{place}: bytes behind the end"


async def converse(
    connection: socket.socket, streams: Streams, stream: int, sends: tuple[int, int], receives: tuple[int, int]
) -> None:
    """Sends one direction and its end while it checks the other to its end; each is a way and a length."""
    loop = asyncio.get_running_loop()

    async def send() -> None:
        way, length = sends
        for offset in range(0, length, 1 << 16):
            await loop.sock_sendall(connection, streams.bytes(stream, way, offset, min(1 << 16, length - offset)))
        connection.shutdown(socket.SHUT_WR)

    checked = Checked(streams, stream, *receives)
    sending = asyncio.create_task(send())
    try:
        while chunk := await loop.sock_recv(connection, 1 << 16):
            checked.feed(chunk)
        if not checked.is_complete:
            raise EndedEarly(f"stream {stream} {WAYS[checked.way]}: {checked.count} of {checked.length} bytes")
        await sending
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
