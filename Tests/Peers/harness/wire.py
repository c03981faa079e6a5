"""Bytes as clients send them: ClientHellos and PROXY headers, well-formed and not.

Nothing here parses. The hellos come from a builder whose every length can be wrong on purpose, and from OpenSSL.
"""

import ipaddress
import ssl
import struct

HANDSHAKE = 0x16
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"

# PROXY v2, section 2.2 of its specification.
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, UDP4, TCP6, UNIX_STREAM = 0x00, 0x11, 0x12, 0x21, 0x31
TLV_ALPN, TLV_AUTHORITY, TLV_CRC32C, TLV_NOOP, TLV_UNIQUE_ID, TLV_NETNS = 0x01, 0x02, 0x03, 0x04, 0x05, 0x30


def u16(value: int) -> bytes:
    return struct.pack("!H", value)


def vector8(content: bytes) -> bytes:
    return bytes([len(content)]) + content


def vector16(content: bytes) -> bytes:
    return u16(len(content)) + content


# ClientHello --------------------------------------------------------------------------------------


def extension(kind: int, body: bytes) -> bytes:
    return u16(kind) + vector16(body)


def name_entry(name: bytes, kind: int = 0) -> bytes:
    return bytes([kind]) + vector16(name)


def server_name(*names: bytes) -> bytes:
    return server_name_entries(*(name_entry(name) for name in names))


def server_name_entries(*entries: bytes) -> bytes:
    return extension(0, vector16(b"".join(entries)))


def alpn(*protocols: bytes) -> bytes:
    return extension(16, vector16(b"".join(vector8(protocol) for protocol in protocols)))


def key_share(group: int = 0x001D, byte_count: int = 32) -> bytes:
    return extension(51, vector16(u16(group) + vector16(bytes(byte_count))))


def padding(byte_count: int) -> bytes:
    return extension(21, bytes(byte_count))


# What a TLS 1.3 client of today also says: groups, signature algorithms, versions, PSK modes.
COMMON = (
    extension(10, vector16(bytes.fromhex("001d00170018")))
    + extension(13, vector16(bytes.fromhex("0403080404010503080505010806060102010804")))
    + extension(43, vector8(bytes.fromhex("03040303")))
    + extension(45, vector8(b"\x01"))
)


def client_hello(extensions: bytes, *, kind: int = 1, version: int = 0x0303) -> bytes:
    """A handshake message of type `kind` with these extensions."""
    body = (
        u16(version)
        + bytes(range(32))
        + vector8(bytes(32))
        + vector16(bytes.fromhex("130113021303c02bc02fc02cc030"))
        + vector8(b"\x00")
        + vector16(extensions)
    )
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def record(content: bytes, *, kind: int = HANDSHAKE, version: int = 0x0301) -> bytes:
    return bytes([kind]) + u16(version) + vector16(content)


def records(message: bytes, *cuts: int, version: int = 0x0301) -> bytes:
    """`message` in one record per stretch between `cuts`."""
    edges = [0, *cuts, len(message)]
    return b"".join(record(message[a:b], version=version) for a, b in zip(edges, edges[1:]))


def hello(*names: bytes, extra: bytes = b"") -> bytes:
    """One record with a hello that asks for `names`; without names it has no server_name extension."""
    return record(message(*names, extra=extra))


def message(*names: bytes, extra: bytes = b"") -> bytes:
    return client_hello((server_name(*names) if names else b"") + COMMON + key_share() + extra)


def openssl_hello(name: str, *, protocols: tuple[str, ...] = ("h2", "http/1.1")) -> bytes:
    """The first flight of the OpenSSL behind this Python."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    session = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def alert(description: int) -> bytes:
    """A fatal alert as Weir sends it (RFC 8446 §6)."""
    return bytes([0x15, 3, 1, 0, 2, 2, description])


# PROXY protocol -----------------------------------------------------------------------------------


def v1(
    source: str, destination: str, source_port: int | str, destination_port: int | str, family: str = "TCP4"
) -> bytes:
    return f"PROXY {family} {source} {destination} {source_port} {destination_port}\r\n".encode()


def v2(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + vector16(body)


def addresses(source: str, destination: str, source_port: int, destination_port: int) -> bytes:
    """The address block of TCP4 or TCP6."""
    packed = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    return packed + u16(source_port) + u16(destination_port)


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + vector16(value)


def v2_tcp4(*tlvs: bytes, source: str = "10.77.0.7", port: int = 7007) -> bytes:
    return v2(PROXY, TCP4, addresses(source, "10.77.0.1", port, 443) + b"".join(tlvs))


def with_crc32c(*tlvs: bytes, error: int = 0) -> bytes:
    """A TCP4 header whose last TLV is its CRC32C, computed with that field zero; `error` is added to make it wrong."""
    zeroed = v2_tcp4(*tlvs, tlv(TLV_CRC32C, bytes(4)))
    return zeroed[:-4] + struct.pack("!I", (crc32c(zeroed) + error) & 0xFFFFFFFF)


def _crc32c_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # RFC 3720 B.4, reflected
        table.append(value)
    return table


_CRC32C = _crc32c_table()


def crc32c(content: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283  # RFC 3720 B.4's check value, as published with the polynomial
