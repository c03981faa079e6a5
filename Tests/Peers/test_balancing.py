"""How a cluster's endpoints share the clients."""

import collections

import pytest

from harness.endpoints import Origin, connect, read_to_end
from harness.network import free_port
from harness.weir import Weir

pytestmark = pytest.mark.weir

CLIENTS = [f"127.1.0.{number}" for number in range(1, 101)]


def naming(name: bytes):
    """A script: says who it is, and that is all."""

    def script(seen):
        seen.connection.sendall(name)

    return script


@pytest.fixture
def hashing(tmp_path, stopping):
    """Four servers behind an `upstream` that hashes the client's address, from nginx's own form of configuration."""
    origins = {name: stopping(Origin(naming(name))) for name in (b"a", b"b", b"c", b"d")}
    port = free_port()
    servers = "".join(f"server 127.0.0.1:{origin.endpoint[1]};" for origin in origins.values())
    file = tmp_path / "stream.conf"
    file.write_text(
        f"stream {{ upstream servers {{ hash $remote_addr consistent; {servers} }}"
        f" server {{ listen 127.0.0.1:{port}; proxy_pass servers; }} }}"
    )
    process = stopping(Weir(tmp_path, [file], [port]))

    def served() -> dict[str, bytes]:
        found = {}
        for client in CLIENTS:
            with connect(("127.0.0.1", port), source=client) as connection:
                found[client] = read_to_end(connection)[0]
        return found

    return origins, served, process


def test_a_client_keeps_its_endpoint(hashing):
    """S2-6."""
    _, served, _ = hashing
    first = served()
    assert served() == first
    # By chance fewer than six of a hundred clients have the same one of four once in 10^6 times.
    assert all(count >= 6 for count in collections.Counter(first.values()).values())
    assert set(first.values()) == {b"a", b"b", b"c", b"d"}


def test_when_an_endpoint_dies_only_its_clients_move_and_none_is_lost(hashing):
    """S2-6, UP-01."""
    origins, served, _ = hashing
    before = served()
    origins[b"b"].stop()
    after = served()
    assert {client: name for client, name in after.items() if before[client] != b"b"} == {
        client: name for client, name in before.items() if name != b"b"
    }
    assert {after[client] for client, name in before.items() if name == b"b"} == {b"a", b"c", b"d"}
