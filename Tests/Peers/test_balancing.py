"""How a cluster's endpoints share the clients."""

import collections

import pytest

from harness.endpoints import Origin, connect, read_to_end
from harness.network import free_port
from harness.processes import eventually
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


def test_s2_6_a_client_keeps_its_endpoint(hashing):
    """S2-6."""
    _, served, _ = hashing
    first = served()
    assert served() == first
    # By chance fewer than six of a hundred clients have the same one of four once in 10^6 times.
    assert all(count >= 6 for count in collections.Counter(first.values()).values())
    assert set(first.values()) == {b"a", b"b", b"c", b"d"}


def test_s2_6_when_an_endpoint_dies_only_its_clients_move_and_none_is_lost(hashing):
    """S2-6, UP-01."""
    origins, served, _ = hashing
    before = served()
    origins[b"b"].stop()
    after = served()
    assert {client: name for client, name in after.items() if before[client] != b"b"} == {
        client: name for client, name in before.items() if name != b"b"
    }
    assert {after[client] for client, name in before.items() if name == b"b"} == {b"a", b"c", b"d"}


def test_the_addresses_of_a_name_take_turns_and_follow_what_the_name_server_says(native, names, stopping):
    """UP-08: several addresses share the sessions; one that dies costs nobody; a changed answer is followed after its TTL."""
    port = free_port()
    origins = {
        address: stopping(Origin(naming(address.encode()), address=address, port=port))
        for address in ("127.0.0.51", "127.0.0.52", "127.0.0.53")
    }
    names.set("shared.test", *origins, ttl=1)
    here = free_port()
    native(
        {
            "listeners": [{"address": f"127.0.0.1:{here}", "detect": "none", "routes": [{"to": {"cluster": "c"}}]}],
            "clusters": [{"name": "c", "endpoints": [f"shared.test:{port}"]}],
            "destinations": {"allow": ["127.0.0.0/8"]},
            "resolver": {"servers": [f"127.0.0.1:{names.port}"]},
            "workers": 1,
        }
    )

    def served(count: int) -> collections.Counter:
        found = collections.Counter()
        for _ in range(count):
            with connect(("127.0.0.1", here)) as client:
                found[read_to_end(client)[0].decode()] += 1
        return found

    assert served(30) == dict.fromkeys(origins, 10)
    origins["127.0.0.52"].stop()
    after = served(30)
    assert after["127.0.0.52"] == 0 and after.total() == 30 and min(after["127.0.0.51"], after["127.0.0.53"]) >= 10
    names.set("shared.test", "127.0.0.53", ttl=1)
    eventually(lambda: served(4) == {"127.0.0.53": 4}, 10, "the new answer")
