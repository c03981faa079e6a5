"""What `weir explain` says of connections, and what becomes of them."""

import contextlib
import json
import pathlib
import re
import shlex
import subprocess

import pytest

from harness import vocabulary, wire
from harness.endpoints import Origin, answering, connect, exchange, read_to_end
from harness.network import free_port
from harness.processes import eventually
from harness.weir import Weir

pytestmark = pytest.mark.weir

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs/EXPLAIN.md"
REFUSED = 5


def explain(*arguments: str, directory: pathlib.Path | None = None) -> subprocess.CompletedProcess:
    command = [str(Weir.binary), "explain", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=directory)


def decisions(file: pathlib.Path, *arguments: str) -> list[dict]:
    done = explain("--config", str(file), "--json", *arguments)
    assert done.returncode in (0, REFUSED), done.stderr
    found = json.loads(done.stdout)["decisions"]
    assert done.returncode == (0 if all(one["verdict"]["forwarded"] for one in found) else REFUSED)
    return found


@pytest.fixture
def documented(tmp_path) -> list[str]:
    """The blocks of the document: its configuration is `weir.yaml` in the test's directory."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "weir.yaml").write_text(blocks[0])
    return blocks


# What it prints -----------------------------------------------------------------------------------


def test_the_sample_of_the_document_is_what_it_prints(documented, tmp_path):
    command, _, expected = documented[1].partition("\n")
    words = shlex.split(command.removeprefix("$ weir explain "))
    assert explain(*words, directory=tmp_path).stdout == expected


def test_every_key_is_in_the_document(documented, tmp_path):
    keys: set[str] = set()

    def collect(value):
        if isinstance(value, dict):
            keys.update(value)
        for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            collect(one)

    file = tmp_path / "weir.yaml"
    for name in ("api.partner.com", "www.example.org", "a.internal.example"):
        collect(decisions(file, "--client", "10.1.2.3", "--server-name", name, "--no-resolve"))
    policies = {
        "policies": [
            {"name": "others", "match": {"clients": ["192.0.2.0/24"]}, "source": "public"},
            {"name": "all", "source": "public"},
        ]
    }
    more = tmp_path / "policies.yaml"
    more.write_text(json.dumps(policies))
    arguments = ("--config", str(more), "--client", "10.1.2.3", "--server-name", "www.example.org", "--no-resolve")
    collect(decisions(file, *arguments))
    table = DOCUMENT.read_text().partition("## JSON")[2]
    assert keys - set(re.findall(r"`(\w+)`", table)) == set()


def test_the_same_question_gets_the_same_bytes(documented, tmp_path):
    arguments = ("--config", "weir.yaml", "--client", "10.1.2.3", "--server-name", "api.partner.com", "--json")
    answers = {explain(*arguments, directory=tmp_path).stdout for _ in range(5)}
    assert len(answers) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--client", "nobody"),
        ("--client", "10.1.2.3", "--server-name", "a\x1b[2J"),
        ("--client", "10.1.2.3", "--server-name", "10.0.0.1"),
        ("--client", "10.1.2.3", "--listener", "no\x1bbody"),
        ("--client", "10.1.2.3", "--destination", "10.0.0.1"),
        ("--client", "10.1.2.3", "--admin", "https://127.0.0.1:1"),
        (),
    ],
)
def test_arguments_that_mean_nothing_end_with_2(documented, tmp_path, arguments):
    """T-15: nor do their bytes reach the terminal."""
    done = explain("--config", "weir.yaml", *arguments, directory=tmp_path)
    assert done.returncode == 2
    assert done.stdout == "" and "\x1b" not in done.stderr


def test_a_configuration_that_cannot_be_used_ends_with_1(tmp_path):
    file = tmp_path / "weir.yaml"
    file.write_text("listeners: [ { adress: 1 } ]")
    done = explain("--config", str(file), "--client", "10.1.2.3")
    assert done.returncode == 1
    assert 'unknown key "adress"' in done.stderr


def test_an_instance_that_cannot_be_asked_ends_with_3(documented, tmp_path):
    admin = f"http://127.0.0.1:{free_port()}"
    done = explain("--config", "weir.yaml", "--client", "10.1.2.3", "--admin", admin, directory=tmp_path)
    assert done.returncode == 3
    assert "cannot be asked" in done.stderr


# What it says comes true --------------------------------------------------------------------------

CLIENTS = ["10.1.2.3", "10.20.0.7", "192.168.4.4", "203.0.113.99", "2001:db8::7", "fd00::9"]
NAMES = [
    "api.partner.test",
    "www.partner.test",
    "partner.test",
    "a.b.partner.test",
    "denied.test",
    "reset.test",
    "forward.test",
    "private.test",
    "mixed.test",
    "missing.test",
    "down.test",
    "asked.test",
    "proxied.test",
    None,
]
PROTOCOLS = [(), ("h2", "http/1.1"), ("acme-tls/1",)]


@pytest.fixture
def everything(native, names, stopping):
    """A process behind a PROXY, whose routes ask for all that routes can ask for; and the port of its listener."""
    origin = stopping(Origin(answering(b"good"), address="127.0.0.61"))
    target = origin.endpoint[1]
    names.set("forward.test", "127.0.0.61")
    names.set("private.test", "10.1.1.1")
    names.set("mixed.test", "10.1.1.1", "127.0.0.61")
    port = free_port()
    process = native(
        {
            "workers": 1,
            "resolver": {"servers": [f"127.0.0.1:{names.port}"]},
            "destinations": {"allow": ["127.0.0.61/32"]},
            "listeners": [
                {
                    "name": "main",
                    "address": f"127.0.0.1:{port}",
                    "accept_proxy": {"from": ["127.0.0.1/32"]},
                    "clients": {"allow": ["10.0.0.0/8", "2001:db8::/32", "192.168.0.0/16", "127.0.0.0/8"]},
                    "routes": [
                        {
                            "name": "office",
                            "match": {"server_names": ["api.partner.test"], "clients": ["10.20.0.0/16"]},
                            "to": {"cluster": "good"},
                        },
                        {
                            "name": "grpc",
                            "match": {"server_names": ["*.partner.test"], "alpn": ["h2"]},
                            "to": {"cluster": "good"},
                        },
                        {
                            "name": "partner",
                            "match": {"server_names": ["*.partner.test"], "clients": ["10.0.0.0/8"]},
                            "to": {"cluster": "good"},
                        },
                        {"name": "denied", "match": {"server_names": ["denied.test"]}, "deny": "access_denied"},
                        {"name": "reset", "match": {"server_names": ["reset.test"]}, "deny": "reset"},
                        {"name": "down", "match": {"server_names": ["down.test"]}, "to": {"cluster": "down"}},
                        {
                            "name": "elsewhere",
                            "match": {"server_names": ["asked.test"], "destinations": ["198.51.100.0/24"]},
                            "to": {"cluster": "good"},
                        },
                        {
                            "name": "there",
                            "match": {
                                "server_names": ["asked.test"],
                                "destinations": ["192.0.2.0/24", "2001:db8::/64"],
                                "destination_ports": [443],
                            },
                            "to": {"clusters": [{"name": "good", "weight": 1}, {"name": "down", "weight": 0}]},
                        },
                        {
                            "name": "proxied",
                            "match": {"server_names": ["proxied.test"]},
                            "to": {"proxy_destination": {}},
                        },
                        {
                            "name": "v6",
                            "match": {"server_names": ["*"], "clients": ["2001:db8::/32"]},
                            "deny": "unrecognized_name",
                        },
                        {"name": "any", "match": {"server_names": ["*"]}, "to": {"server_name": {"port": target}}},
                        {"name": "rest", "match": {"clients": ["10.1.0.0/16"]}, "to": {"cluster": "good"}},
                    ],
                }
            ],
            "clusters": [
                {"name": "good", "endpoints": [f"127.0.0.61:{target}"]},
                {"name": "down", "endpoints": [{"address": f"127.0.0.61:{target}", "down": True}]},
            ],
        }
    )
    process.port = port
    return process


@pytest.mark.own_network
def test_what_it_says_is_what_a_running_process_does(everything, tmp_path):
    """Every client, name and offer: forwarded or not, by which route and cluster, for which reason."""
    differing, seen = [], set()
    source_port = 20_000
    for client in CLIENTS:
        family = "TCP6" if ":" in client else "TCP4"
        local = "2001:db8::1" if ":" in client else "192.0.2.1"
        for name in NAMES:
            for protocols in PROTOCOLS:
                source_port += 1
                header = f"PROXY {family} {client} {local} {source_port} 443"
                extra = wire.alpn(*(one.encode() for one in protocols)) if protocols else b""
                hello = wire.hello(*([name.encode()] if name else []), extra=extra)
                exchange(("127.0.0.1", everything.port), header.encode() + b"\r\n" + hello)
                address = f"[{client}]:{source_port}" if ":" in client else f"{client}:{source_port}"
                record = everything.record(client=address)
                arguments = ["--client", "127.0.0.1", "--proxy-header", header]
                arguments += ["--server-name", name] if name else []
                arguments += ["--alpn", *protocols] if protocols else []
                (decision,) = decisions(tmp_path / "weir.yaml", *arguments)
                verdict = decision["verdict"]
                clusters = [one["name"] for one in decision["target"]["clusters"]] if decision["target"] else []
                said = (verdict["reason"], verdict["route"], clusters[0] if clusters else None)
                # A session ends as its sides do, once it is forwarded.
                is_forwarded = record["status"] == 200
                done = (
                    None if is_forwarded else record[vocabulary.REASON],
                    record.get("route"),
                    record.get("cluster"),
                )
                seen.add(done)
                if said != done:
                    differing.append((client, name, protocols, said, done))
    assert differing == []
    assert len(seen) > 10


@pytest.mark.own_network
@pytest.mark.parametrize("peer, reason", [("127.0.0.1", "pp_missing"), ("127.0.0.9", "pp_untrusted")])
def test_who_must_send_a_header_and_does_not_is_refused(everything, tmp_path, peer, reason):
    # An untrusted peer may hear of it before its connect has returned.
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        with connect(("127.0.0.1", everything.port), source=peer) as client:
            client.sendall(wire.hello(b"forward.test"))
            read_to_end(client)
    assert everything.record(reason=reason)[vocabulary.CLIENT].startswith(peer)
    (decision,) = decisions(tmp_path / "weir.yaml", "--client", peer, "--server-name", "forward.test")
    assert decision["verdict"]["reason"] == reason


@pytest.mark.own_network
def test_each_address_is_told_with_the_guards_rule(everything, tmp_path):
    """T-02: the ones that a name has, and what the guard says of each."""
    header = "PROXY TCP4 10.1.2.3 192.0.2.1 1000 443"
    arguments = ("--client", "127.0.0.1", "--proxy-header", header, "--server-name", "mixed.test")
    (decision,) = decisions(tmp_path / "weir.yaml", *arguments)
    addresses = decision["target"]["destination"]["addresses"]
    found = [(one["address"], one["allowed"], one["rule"], one["block"]) for one in addresses]
    assert found == [
        ("10.1.1.1", False, "private", None),
        ("127.0.0.61", True, "destinations.allow", "127.0.0.61/32"),
    ]


@pytest.mark.own_network
def test_a_running_process_says_how_its_endpoints_stand(native, stopping, tmp_path):
    origin = stopping(Origin(answering(b"good")))
    dead = free_port()
    port = free_port()
    process = native(
        {
            "workers": 1,
            "listeners": [{"address": f"127.0.0.1:{port}", "name": "main", "routes": [{"to": {"cluster": "two"}}]}],
            "clusters": [
                {
                    "name": "two",
                    "endpoints": [f"127.0.0.1:{origin.endpoint[1]}", f"127.0.0.1:{dead}"],
                    "outlier_detection": {"consecutive_local_origin_failures": 1, "max_ejection_percent": 50},
                }
            ],
        }
    )

    def standing() -> dict:
        admin = f"http://127.0.0.1:{process.admin_port}"
        (decision,) = decisions(tmp_path / "weir.yaml", "--client", "127.0.0.1", "--admin", admin)
        return {one["name"]: one["health"] for one in decision["target"]["clusters"][0]["endpoints"]}

    assert standing() == {f"127.0.0.1:{origin.endpoint[1]}": "HEALTHY", f"127.0.0.1:{dead}": "HEALTHY"}

    def is_ejected():
        exchange(("127.0.0.1", port), wire.hello(b"a.test"))
        return standing()[f"127.0.0.1:{dead}"].startswith("FAILED_OUTLIER_CHECK for ")

    eventually(is_ejected, 10, "the dead endpoint is ejected")
