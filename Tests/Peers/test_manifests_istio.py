"""Istio's manifests from published descriptions of real installations run as they are.

`seeds/000-egress.yaml` leads one host through egress proxies (S0-2, S0-3), `seeds/003-apiserver.yaml` tells API servers
apart by the name in the hello (S3-1), `seeds/003-proxy-listener.yaml` and `003-chain.yaml` by the destination of a PROXY
header (S3-3, S3-4). The placeholders in angle brackets that they leave open are filled in. The resolver, and what the
guard wants said, are in a native file beside them.
"""

import pathlib
import signal
import socket
import ssl

import pytest
import yaml
from test_seed_configs import run

from harness import vocabulary, wire
from harness.endpoints import FIN, RST, Origin, answering, connect, exchange
from harness.network import Neighbour, add_address
from harness.peers import TLSOrigin
from harness.processes import eventually
from harness.setup import Setup
from harness.weir import Weir, check, guard

pytestmark = [pytest.mark.own_network, pytest.mark.weir]

SEEDS = pathlib.Path(__file__).parent / "seeds"
HERE, LEFT, RIGHT = "10.9.7.1", "10.9.7.9", "10.9.7.10"
BLOCK = "10.9.7.0/24"
SERVICE, OTHER_SERVICE = "10.1.2.3", "10.1.2.4"
# The gateway of the documents, of which there would be one process for each selector.
INGRESS = {"istio": "ingressgateway"}


@pytest.fixture(autouse=True)
def not_for_stand_ins(subject_name):
    if subject_name != "weir":
        pytest.skip("only Weir reads these files")


@pytest.fixture(scope="module")
def outside(stopping) -> Neighbour:
    """Another host, with two addresses."""
    return stopping(Neighbour(HERE, LEFT, RIGHT))


@pytest.fixture
def stopped():
    """Call with anything that has `stop()`; it is stopped after the test."""
    started = []
    yield lambda thing: started.append(thing) or thing
    for thing in reversed(started):
        thing.stop()


@pytest.fixture
def manifests(tmp_path, names, stopped):
    """Starts Weir with the texts in one file and, beside it, what no manifest says."""

    def start(*texts: str, ports: list[int], allowed: list[str] = (), labels=None, name: str = "weir") -> Weir:
        beside = guard(Setup([], resolver=(names.address, names.port), destinations=list(allowed)))
        if labels:
            beside["manifests"] = {"workload_labels": labels}
        first, second = tmp_path / f"{name}-manifests.yaml", tmp_path / f"{name}-beside.yaml"
        first.write_text("---\n".join(texts))
        second.write_text(yaml.safe_dump(beside))
        process = stopped(Weir(tmp_path, [first, second], ports, name=name))
        process.manifests = first
        return process

    return start


def standing(process) -> dict[str, str]:
    """The status of each endpoint by its host and port."""
    rows = [line.split() for line in process.admin("/endpoints")[1].splitlines()[1:]]
    return {row[1]: row[2] for row in rows}


# 000: egress --------------------------------------------------------------------------------------

EGRESS = (SEEDS / "000-egress.yaml").read_text()
MEMBERS = {"egress-1.mydomain.internal": LEFT, "egress-2.mydomain.internal": RIGHT}


@pytest.fixture
def members(tmp_path, authority, outside, names, stopped):
    """The egress proxies, each of which answers for the host itself and says which one it is."""
    found = {}
    for host, address in MEMBERS.items():
        names.set(host, address)
        tag = host.split(".")[0]
        found[tag] = stopped(
            TLSOrigin(
                tmp_path, authority, ["example.com"], address=address, port=443, tag=tag, inside=outside.inside
            )
        )
    return found


def member_asked(authority) -> str:
    """Which member answers a client that believes it speaks to the host."""
    options = ("-sS", "--cacert", authority.path, "-o", "/dev/null", "-D", "-", "--connect-to", "::127.0.0.1:443")
    headers = run("curl", *options, "https://example.com/").lower()
    assert "x-server-name: example.com" in headers
    return headers.split("x-origin: ")[1].split("\r")[0]


def test_s0_2_a_host_is_reached_through_its_egress_proxies(manifests, members, authority):
    """S0-2: the members share what comes, and the client verifies the host's certificate."""
    process = manifests(EGRESS, ports=[443], allowed=[BLOCK])
    assert [member_asked(authority) for _ in range(4)].count("egress-1") == 2
    record = process.record(0, server_name="example.com")
    assert record["route"] == "VirtualService/default/example/tls/0"
    assert record["cluster"] == "outbound|443||egress-proxies.mydomain.internal"


def test_s0_2_the_documents_ask_for_nothing_that_is_not_done(tmp_path):
    """S0-2, S3-1, S3-3: no field is reported as one without effect, so --strict takes them."""
    for text in (EGRESS, shoot("a"), PROXY_LISTENER + "---\n" + chain("a", SERVICE)):
        done = check(tmp_path, text)
        assert done.returncode == 0, done.stderr
        assert "unsupported" not in done.stdout + done.stderr


def test_s0_2_another_name_is_refused(manifests, members):
    """S0-2: what no VirtualService leads anywhere."""
    process = manifests(EGRESS, ports=[443], allowed=[BLOCK])
    received, end = exchange(("127.0.0.1", 443), wire.hello(b"other.example.com"))
    assert (received, end) == (wire.alert(112), FIN)
    assert process.record(0, server_name="other.example.com", reason="local_no_route")


def test_s0_3_a_member_that_fails_is_ejected_and_others_take_over(manifests, members, authority):
    """S0-3: nobody notices, and the endpoint table shows it live."""
    process = manifests(EGRESS, ports=[443], allowed=[BLOCK])
    endpoints = [f"{host}:443" for host in MEMBERS]
    assert standing(process) == {endpoints[0]: "HEALTHY", endpoints[1]: "HEALTHY"}
    members["egress-1"].stop()
    for _ in range(8):
        assert member_asked(authority) == "egress-2"
    assert standing(process) == {endpoints[0]: "FAILED_OUTLIER_CHECK", endpoints[1]: "HEALTHY"}
    metrics = process.metrics()
    assert metrics.sum("weir_endpoint_ejections_total") == 1
    assert metrics.sum("weir_endpoint_available", endpoint=endpoints[0]) == 0
    # The third failure in a row, as the document has it.
    assert metrics.sum("weir_endpoint_connect_attempts_total", endpoint=endpoints[0]) == 3


# 003: API servers behind one address --------------------------------------------------------------

SERVERS = (SEEDS / "003-apiserver.yaml").read_text()
PROXY_LISTENER = (SEEDS / "003-proxy-listener.yaml").read_text()
CHAIN = (SEEDS / "003-chain.yaml").read_text()


def shoot(name: str) -> str:
    """The documents of one cluster, with their placeholders filled in."""
    text = SERVERS
    for placeholder, value in {
        "<shoot-namespace>": f"shoot--project--{name}",
        "<external-domain>": f"{name}.ext.test",
        "<shoot>": name,
        "<project>": "project",
        "<internal-domain>": "int.test",
    }.items():
        text = text.replace(placeholder, value)
    assert "<" not in text
    return text


def chain(name: str, address: str) -> str:
    text = CHAIN.replace("<shoot-namespace>", f"shoot--project--{name}").replace("10.1.2.3 ", f"{address} ")
    assert "<" not in text
    return text


def service(name: str) -> str:
    return f"kube-apiserver.shoot--project--{name}.svc.cluster.local"


@pytest.fixture
def servers(tmp_path, authority, outside, names, stopped):
    """The API servers of two clusters, whose services have private addresses."""
    for name, address in {"a": LEFT, "b": RIGHT}.items():
        names.set(service(name), address)
        hosts = [f"api.{name}.ext.test", f"api.{name}.project.int.test", f"in-{name}.test"]
        stopped(
            TLSOrigin(tmp_path, authority, hosts, address=address, port=443, tag=f"shoot-{name}", inside=outside.inside)
        )


def asked(authority, host: str, *options) -> str:
    common = ("-sS", "-m", "5", "--cacert", authority.path, "-o", "/dev/null", "-D", "-")
    return run("curl", *common, *options, "--connect-to", "::127.0.0.1:443", f"https://{host}/").lower()


def test_s3_1_the_api_server_is_picked_by_the_name_in_the_hello(manifests, servers, authority):
    """S3-1: of two clusters each, by its outer and its inner name; a client certificate reaches the API server."""
    manifests(shoot("a"), shoot("b"), ports=[443], labels=INGRESS)
    for name in "ab":
        for host in (f"api.{name}.ext.test", f"api.{name}.project.int.test"):
            assert f"x-origin: shoot-{name}" in asked(authority, host)
    headers = asked(authority, "api.a.ext.test", "--cert", authority.leaf("client.test"))
    assert "x-client: cn=client.test" in headers


def test_s3_1_a_gateway_of_another_workload_is_not_served(manifests, servers):
    """S3-1: the selector, where the process knows its labels."""
    native = 'listeners: [ { address: "127.0.0.1:444", routes: [ { deny: reset } ] } ]\n'
    manifests(shoot("a"), native, ports=[444], labels={"istio": "egressgateway"})
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", 443)) != 0


def test_s3_2_a_cluster_that_is_added_is_served_without_a_lost_connection(manifests, servers, authority):
    """S3-2: the file is written anew and reloaded while a client of the other cluster is connected."""
    process = manifests(shoot("a"), ports=[443], labels=INGRESS)
    context = ssl.create_default_context(cafile=str(authority.path))
    with (
        connect(("127.0.0.1", 443)) as raw,
        context.wrap_socket(raw, server_hostname="api.a.ext.test") as client,
    ):
        process.manifests.write_text(shoot("a") + "---\n" + shoot("b"))
        process.reload()
        assert "x-origin: shoot-b" in asked(authority, "api.b.ext.test")
        client.sendall(b"GET / HTTP/1.0\r\nHost: api.a.ext.test\r\n\r\n")
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")


def test_s3_2_a_document_with_an_error_leaves_the_last_good_configuration(manifests, servers, authority):
    """S3-2: as a whole, and it is counted."""
    process = manifests(shoot("a"), ports=[443], labels=INGRESS)
    before = process.reload_count("failed")
    process.manifests.write_text(shoot("b").replace("number: 443", "number: https"))
    process.send(signal.SIGHUP)
    eventually(lambda: process.reload_count("failed") > before, 5, "a refused reload")
    assert "x-origin: shoot-a" in asked(authority, "api.a.ext.test")


HEADERS = (PROXY_LISTENER, chain("a", SERVICE), chain("b", OTHER_SERVICE))
GATEWAY = ("127.0.0.1", 8443)


@pytest.fixture
def recorded(outside, names, stopped):
    """The API servers of two clusters as sockets that record what reaches them."""
    found = {}
    for name, address in {"a": LEFT, "b": RIGHT}.items():
        names.set(service(name), address)
        with outside.entered():
            found[name] = stopped(Origin(answering(name.encode()), address=address, port=443))
    return found


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_s3_3_the_destination_of_the_proxy_header_picks_the_api_server(manifests, recorded, version):
    """S3-3: the client's hello names nobody, and is passed on as it came, without the header."""
    process = manifests(*HEADERS, ports=[8443], labels=INGRESS)
    hello = wire.hello()
    for name, address in {"a": SERVICE, "b": OTHER_SERVICE}.items():
        addresses = ("10.77.0.7", address, 7007, 443)
        header = (
            wire.v1(*addresses) if version == "v1" else wire.v2(wire.PROXY, wire.TCP4, wire.addresses(*addresses))
        )
        assert exchange(GATEWAY, header + hello) == (name.encode(), FIN)
        assert recorded[name].seen[-1].received == hello
        assert process.record(0, route=f"EnvoyFilter/istio-system/shoot--project--{name}/0")["client"].startswith(
            "10.77.0.7"
        )


@pytest.mark.parametrize(
    "destination, port", [("10.1.2.5", 443), (SERVICE, 444)], ids=["another address", "another port"]
)
def test_s3_4_a_connection_that_matches_no_chain_is_refused_and_counted(manifests, recorded, destination, port):
    """S3-4: the VirtualService that leads nowhere takes it."""
    process = manifests(*HEADERS, ports=[8443], labels=INGRESS)
    assert exchange(GATEWAY, wire.v1("10.77.0.7", destination, 7007, port) + wire.hello()) == (b"", RST)
    route = "VirtualService/istio-system/blackhole/tcp/0"
    assert process.record(0, route=route, reason="local_route_denied")
    eventually(lambda: process.metrics().sum("weir_route_sessions_total", route=route) == 1, 5, "one counted")
    assert not recorded["a"].seen and not recorded["b"].seen


def test_s3_3_a_header_from_a_public_address_is_not_believed(manifests, recorded, outside):
    """S3-3, T-08: only private networks' headers are believed where nobody says whose."""
    add_address("192.0.2.1")
    process = manifests(*HEADERS, ports=[8443], labels=INGRESS)
    request = wire.v1("10.77.0.7", SERVICE, 7007, 443) + wire.hello()
    assert exchange(GATEWAY, request, source="127.0.0.1") == (b"a", FIN)
    received, end = exchange(("192.0.2.1", 8443), request, source="192.0.2.1")
    assert (received, end) == (b"", RST)
    assert process.record(0, **{vocabulary.REASON: vocabulary.PROXY_UNTRUSTED})
    assert "PROXY headers at port 8443 are believed from private networks" in process.output()


def test_s3_3_a_native_listener_says_where_and_whose_headers(manifests, recorded):
    """S3-3: `manifest_port` takes the routes of the documents over."""
    native = """
listeners:
- address: 127.0.0.1:8444
  manifest_port: 8443
  accept_proxy: { from: [127.0.0.1] }
  routes: []
"""
    manifests(*HEADERS, native, ports=[8444], labels=INGRESS)
    request = wire.v1("10.77.0.7", SERVICE, 7007, 443) + wire.hello()
    assert exchange(("127.0.0.1", 8444), request) == (b"a", FIN)


def test_s3_5_the_node_and_the_gateway_of_the_document_work_together(
    manifests, servers, authority, names, tmp_path, stopped, outside
):
    """S3-3, S3-5: the document's nginx file on the node sends the PROXY header that its Istio documents route by."""
    add_address(SERVICE)
    names.set("api.ext.test", HERE)
    manifests(*HEADERS, ports=[8443], labels=INGRESS, name="gateway")
    node, beside = tmp_path / "node.conf", tmp_path / "node-beside.yaml"
    node.write_text((SEEDS / "003-node.conf").read_text().replace("<external-domain>", "ext.test"))
    beside.write_text(
        yaml.safe_dump(guard(Setup([], resolver=(names.address, names.port), destinations=[BLOCK])))
    )
    stopped(Weir(tmp_path, [node, beside], [443], name="node"))
    # The origin's certificate is for its names; the client of a cluster knows its own address only.
    text = run("curl", "-sS", "-m", "5", "-k", "-o", "/dev/null", "-D", "-", f"https://{SERVICE}/")
    assert "x-origin: shoot-a" in text.lower()
