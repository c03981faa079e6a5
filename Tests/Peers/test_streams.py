"""Whether the checker itself sees what it is there for: every kind of damage, named with its place."""

import pytest

from harness.streams import DOWN, UP, Checked, Corrupted, Streams

STREAMS = Streams(seed=1)
WHOLE = STREAMS.bytes(7, UP, 0, 100_000)


def verdict(*chunks: bytes, length: int = 100_000) -> str:
    checked = Checked(STREAMS, 7, UP, length)
    try:
        for chunk in chunks:
            checked.feed(chunk)
    except Corrupted as found:
        return str(found)
    return f"{checked.count} good"


def test_a_stream_is_the_same_however_it_is_cut():
    assert STREAMS.bytes(7, UP, 1001, 999) == WHOLE[1001:2000]
    assert verdict(*(WHOLE[at : at + 777] for at in range(0, len(WHOLE), 777))) == "100000 good"


@pytest.mark.parametrize(
    "chunks, said",
    [
        ((WHOLE[:5000], WHOLE[5001:]), "stream 7 up, offset 5000 of 100000: 1 bytes are lost"),
        ((WHOLE[:5000], WHOLE[4096:]), "stream 7 up, offset 5000 of 100000: bytes are repeated from offset 4096"),
        ((WHOLE[:33], WHOLE[97:161], WHOLE[33:97]), "stream 7 up, offset 33 of 100000: 64 bytes are lost"),
        (
            (WHOLE[:8192] + STREAMS.bytes(9, DOWN, 70_001, 500),),
            "stream 7 up, offset 8192 of 100000: bytes of stream 9 down, offset 70001",
        ),
        ((STREAMS.bytes(7, DOWN, 0, 64),), "stream 7 up, offset 0 of 100000: bytes of stream 7 down, offset 0"),
        (
            (WHOLE, STREAMS.bytes(7, UP, 100_000, 40)),
            "stream 7 up, offset 100000 of 100000: bytes behind the end",
        ),
        ((WHOLE[:100] + bytes(40),), f"stream 7 up, offset 100 of 100000: 40 bytes of no stream: {bytes(32).hex()}"),
    ],
    ids=["lost", "repeated", "moved", "foreign", "other direction", "too many", "nonsense"],
)
def test_damage_is_named_with_its_place(chunks, said):
    assert verdict(*chunks) == said
