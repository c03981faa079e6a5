"""Manifests of Kubernetes, ingress-nginx and the Gateway API run as they are given.

The files `seeds/002-*.yaml` are byte for byte those of a published description of traffic steering at the service
layer, but for the `<...>` that it leaves open. Beside them stand the services that they name, whose endpoints are ours,
and native YAML that says where to listen: everything else is the manifests' own.
"""

import json
import pathlib
import subprocess
import time

import pytest

from harness.endpoints import EchoOrigin, connect, read_exactly, read_to_end
from harness.network import add_address, free_port
from harness.peers import TLSOrigin
from harness.processes import eventually
from harness.weir import Weir, check

pytestmark = [pytest.mark.weir, pytest.mark.own_network]

SEEDS = pathlib.Path(__file__).parent / "seeds"
DOMAIN = "c1.k8s.gigantic.io"
SHOP, NEWS = f"shop.{DOMAIN}", f"news.{DOMAIN}"


def seed(name: str, **values) -> str:
    """The text of a seed with its `<...>` filled in; `<service1-port>` is `service1_port`."""
    text = (SEEDS / f"002-{name}.yaml").read_text()
    values = {
        "ingress_name": "shop",
        "cluster_id": "c1",
        "yourchoice": "shop",
        "yourchoice1": "shop",
        "yourchoice2": "news",
        **values,
    }
    for key, value in values.items():
        text = text.replace(f"<{key.replace('_', '-')}>", str(value))
    return text


def service(name: str, *endpoints, port: int = 443, cluster_ip: str = "10.96.0.9", namespace: str = "default") -> str:
    """A Service and its EndpointSlices, one for each endpoint because each has a port of its own."""
    documents = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"clusterIP": cluster_ip, "ports": [{"name": "main", "port": port}]},
        }
    ]
    for index, (address, number) in enumerate(endpoints):
        labels = {"kubernetes.io/service-name": name}
        documents.append(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": f"{name}-{index}", "namespace": namespace, "labels": labels},
                "addressType": "IPv4",
                "ports": [{"name": "main", "port": number}],
                "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            }
        )
    # JSON is YAML.
    return "---\n" + "\n---\n".join(json.dumps(document) for document in documents) + "\n"


@pytest.fixture
def run(tmp_path, stopping):
    """`run(texts, ports)`: a process whose listeners of `ports` take over the manifests' ports; `beside` is added."""

    def start(texts: list[str], ports: dict[int, int], **beside) -> Weir:
        native = {
            "listeners": [
                {"address": f"127.0.0.1:{own}", "manifest_port": manifest, "routes": []}
                for manifest, own in ports.items()
            ],
            **beside,
        }
        files = []
        for index, text in enumerate([json.dumps(native), *texts] if native["listeners"] or beside else texts):
            files.append(tmp_path / f"{index}.yaml")
            files[-1].write_text(text)
        return stopping(Weir(tmp_path, files, list(ports.values())))

    return start


def echoes(endpoint, data: bytes = b"ping", source: str | None = None) -> bool:
    """Whether what is sent comes back; False where the connection is ended instead."""
    try:
        with connect(endpoint, source=source) as client:
            client.sendall(data)
            return read_exactly(client, len(data)) == data
    except (OSError, AssertionError):
        return False


def head(host: str) -> bytes:
    return f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def annotated(text: str, **annotations: str) -> str:
    """An Ingress with these annotations added, as one would write them."""
    lines = ["metadata:", "  annotations:"]
    for key, value in annotations.items():
        lines.append(f"    nginx.ingress.kubernetes.io/{key.replace('_', '-')}: {json.dumps(value)}")
    return text.replace("metadata:\n", "\n".join(lines) + "\n", 1)


# S2-1: tcp-services -------------------------------------------------------------------------------


def test_s2_1_the_tcp_services_map_leads_its_port_to_the_service(run, stopping):
    """S2-1: as given, on the port of the map itself; the HelmRelease beside it is for others."""
    origin = stopping(EchoOrigin())
    process = run([seed("tcp-services"), service("tcp-svc", origin.endpoint, port=27017)], {})
    eventually(lambda: echoes(("127.0.0.1", 27017)), 5, "an answer")
    record = process.record(listener="port-27017", reason="finished")
    assert record["route"] == "ConfigMap/default/tcp-services/27017"
    assert record["cluster"] == "outbound|27017||tcp-svc.default.svc.cluster.local"
    # It has the port on every address, which others want.
    process.stop()


def test_s2_1_without_its_documents_the_service_is_asked_of_the_name_servers(run, stopping, names):
    """S2-1: names of the cluster may be private ones, which nobody has to exempt from the guard."""
    add_address("10.96.0.7")
    stopping(EchoOrigin("10.96.0.7", 27017))
    names.set("tcp-svc.default.svc.cluster.local", "10.96.0.7")
    port = free_port()
    run([seed("tcp-services")], {27017: port}, resolver={"servers": [f"{names.address}:{names.port}"]})
    assert echoes(("127.0.0.1", port))


def test_s2_1_the_proxy_header_is_taken_and_sent_as_the_map_says(run, stopping):
    """S2-1: `:PROXY` and `::PROXY`, as ingress-nginx has them."""
    origin = stopping(EchoOrigin())
    text = seed("tcp-services").replace(
        '  27017: "default/tcp-svc:27017"\n---',
        '  27017: "default/tcp-svc:27017:PROXY"\n  27018: "default/tcp-svc:27017::PROXY"\n---',
    )
    taking, sending = free_port(), free_port()
    run([text, service("tcp-svc", origin.endpoint, port=27017)], {27017: taking, 27018: sending})
    with connect(("127.0.0.1", taking)) as client:
        client.sendall(b"PROXY TCP4 10.1.2.3 10.1.2.4 1000 27017\r\nping")
        assert read_exactly(client, 4) == b"ping"
    with connect(("127.0.0.1", sending)) as client:
        client.sendall(b"ping")
        line = b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (client.getsockname()[1], sending)
        assert read_exactly(client, len(line) + 4) == line + b"ping"


def test_s2_1_udp_is_said_not_to_be_carried_yet(tmp_path):
    """S2-1."""
    text = seed("tcp-services").replace("name: tcp-services", "name: udp-services")
    native = "listeners: [ { address: 127.0.0.1:1, routes: [ { deny: reset } ] } ]\n"
    done = check(tmp_path, native, text)
    assert done.returncode == 0
    assert "ConfigMap default/udp-services: UDP is not carried yet" in done.stdout + done.stderr


# S2-2, S2-3: passthrough --------------------------------------------------------------------------


def fetch(port: int, name: str, authority) -> str:
    """The headers that the origin of `name` answers with; its certificate is verified."""
    done = subprocess.run(
        ["curl", "-sS", "-m", "5", "--cacert", authority.path, "--connect-to", f"::127.0.0.1:{port}", "-o", "/dev/null"]
        + ["-D", "-", f"https://{name}/"],
        capture_output=True,
        text=True,
    )
    return done.stdout.lower() if done.returncode == 0 else f"curl: {done.returncode}"


@pytest.fixture(scope="module")
def origins(directory, authority, stopping):
    """By tag: at the endpoint, and at the address of the service itself."""
    add_address("10.96.0.9")
    return {
        "endpoint": stopping(TLSOrigin(directory, authority, [SHOP], tag="endpoint", address="127.0.0.41")),
        "service": stopping(TLSOrigin(directory, authority, [SHOP], tag="service", address="10.96.0.9", port=443)),
    }


@pytest.mark.parametrize("written", ["443", "main"])
def test_s2_3_the_host_is_passed_through_to_its_service(run, origins, authority, written):
    """S2-3: the document as given, with its annotations out of place and two times `spec`; TLS ends at the origin."""
    port = free_port()
    text = seed("ssl-passthrough", service_name="web", service_port=written)
    process = run([text, service("web", origins["endpoint"].endpoint)], {443: port})
    answer = fetch(port, SHOP, authority)
    assert "x-origin: endpoint" in answer and f"x-server-name: {SHOP}" in answer
    assert process.record(server_name=SHOP)["route"] == f"Ingress/default/shop/{SHOP}"
    # Nobody asked for this one.
    assert fetch(port, NEWS, authority).startswith("curl: ")


@pytest.mark.parametrize("annotation, tag", [("", "endpoint"), ('service-upstream: "true"', "service")])
def test_s2_2_straight_to_the_endpoint_or_through_the_address_of_the_service(run, origins, authority, annotation, tag):
    """S2-2."""
    port = free_port()
    text = seed("ssl-passthrough", service_name="web", service_port=443)
    if annotation:
        text = text.replace("annotations:\n", f"annotations:\n  nginx.ingress.kubernetes.io/{annotation}\n")
    run([text, service("web", origins["endpoint"].endpoint)], {443: port})
    assert f"x-origin: {tag}" in fetch(port, SHOP, authority)


# S2-4, S2-5: limits and lists ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def shops(stopping):
    return {name: stopping(EchoOrigin()) for name in ("shop", "news")}


def rules(shops) -> list[str]:
    """Two plain hosts and their services."""
    text = seed("rule-aggregation", service1_name="shop", service1_port=80, service2_name="news", service2_port=80)
    return [text, *(service(name, origin.endpoint, port=80) for name, origin in shops.items())]


def test_s2_4_a_client_has_so_many_connections_at_once_and_another_client_as_many(run, shops):
    """S2-4: limit-connections."""
    port = free_port()
    text, *services = rules(shops)
    process = run([annotated(text, limit_connections="2"), *services], {80: port})

    def opened(source: str):
        client = connect(("127.0.0.1", port), source=source)
        client.sendall(head(SHOP))
        return client

    first, second = opened("127.0.0.11"), opened("127.0.0.11")
    for client in (first, second):
        assert read_exactly(client, len(head(SHOP))) == head(SHOP)
    third = opened("127.0.0.11")
    assert read_to_end(third)[0].startswith(b"HTTP/1.1 503 ")
    assert process.record(reason="local_client_limit")["client"].startswith("127.0.0.11:")
    assert echoes(("127.0.0.1", port), head(SHOP), "127.0.0.12")
    first.close()
    eventually(lambda: echoes(("127.0.0.1", port), head(SHOP), "127.0.0.11"), 5, "the place that was given back")
    second.close()


def test_s2_4_a_client_comes_as_often_as_the_rate_and_its_burst_let_it(run, shops):
    """S2-4: limit-rps; the burst is five times the rate where nothing is said."""
    port = free_port()
    text, *services = rules(shops)
    run([annotated(text, limit_rps="1"), *services], {80: port})
    began = time.monotonic()
    count = sum(echoes(("127.0.0.1", port), head(SHOP), "127.0.0.13") for _ in range(40))
    assert 5 <= count <= 5 + (time.monotonic() - began) + 1
    assert count < 40
    assert echoes(("127.0.0.1", port), head(SHOP), "127.0.0.14")


def test_s2_5_only_clients_of_the_source_ranges_are_let_in(run, shops):
    """S2-5: the value of the document, a block and an address; the listener lets in more than private networks."""
    sources = {"10.0.0.200": True, "172.10.0.1": True, "172.10.0.2": False, "10.0.1.1": False}
    for source in sources:
        add_address(source)
    port = free_port()
    text, *services = rules(shops)
    listener = {"address": f"127.0.0.1:{port}", "manifest_port": 80, "clients": {"allow": "all"}, "routes": []}
    ingress = annotated(text, whitelist_source_range="10.0.0.0/24,172.10.0.1")
    process = run([ingress, *services], {}, listeners=[listener])
    eventually(lambda: echoes(("127.0.0.1", port), head(SHOP), "10.0.0.200"), 5, "it listens")
    assert {source: echoes(("127.0.0.1", port), head(SHOP), source) for source in sources} == sources
    with connect(("127.0.0.1", port), source="10.0.1.1") as client:
        client.sendall(head(SHOP))
        assert read_to_end(client)[0].startswith(b"HTTP/1.1 403 ")
    assert process.record(route=f"Ingress/default/shop/{SHOP}/others")


# What is HTTP's -----------------------------------------------------------------------------------


def test_s2_8_plain_hosts_are_told_apart_and_paths_are_not(run, shops, tmp_path):
    """S2-8: `Host` on port 80; the document with paths is said not to be done."""
    port = free_port()
    run(rules(shops), {80: port})
    for host, name in ((SHOP, "shop"), (NEWS, "news")):
        before = shops[name].connection_count
        assert echoes(("127.0.0.1", port), head(host))
        assert shops[name].connection_count == before + 1
    assert not echoes(("127.0.0.1", port), head(f"other.{DOMAIN}"))
    paths = seed("address-routing", service1_name="shop", service1_port=80, service2_name="news", service2_port=80)
    done = check(tmp_path, rules(shops)[1], rules(shops)[2], paths)
    reported = "Ingress default/shop: spec.rules[0].http.paths[0].path: paths are not looked at"
    assert reported in done.stdout + done.stderr


def test_s2_8_a_path_that_one_ingress_guards_is_opened_by_no_other(run, shops):
    """S2-8: paths are not told apart, so the host of the guarded one is refused; the other host is served on."""
    port = free_port()
    text, *services = rules(shops)
    guarding = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": "admin",
            "annotations": {"nginx.ingress.kubernetes.io/whitelist-source-range": "10.0.0.0/24"},
        },
        "spec": {
            "tls": [{"hosts": [SHOP]}],
            "rules": [
                {
                    "host": SHOP,
                    "http": {
                        "paths": [
                            {
                                "path": "/admin",
                                "pathType": "Prefix",
                                "backend": {"service": {"name": "shop", "port": {"number": 80}}},
                            }
                        ]
                    },
                }
            ],
        },
    }
    process = run([text, json.dumps(guarding), *services], {80: port})
    assert echoes(("127.0.0.1", port), head(NEWS))
    with connect(("127.0.0.1", port)) as client:
        client.sendall(head(SHOP))
        assert read_to_end(client)[0].startswith(b"HTTP/1.1 403 ")
    assert process.record(route=f"Ingress/default/admin/{SHOP}/guarded")


def test_s2_8_tls_is_never_ended(tmp_path):
    """S2-8: an Ingress that asks for it is reported; Secrets are passed over unread."""
    native = "listeners: [ { address: 127.0.0.1:1, routes: [ { deny: reset } ] } ]\n"
    done = check(tmp_path, native, seed("ssl-termination", service_name="shop", service_port=80))
    text = done.stdout + done.stderr
    assert done.returncode == 0 and "Ingress default/shop: spec.tls[0]: TLS is never ended here" in text


# The Gateway API ----------------------------------------------------------------------------------


def test_a_tls_route_shares_its_connections_and_needs_a_grant_elsewhere(run, directory, authority, stopping):
    """Gateway, TLSRoute and ReferenceGrant: 3 of 4 to one service, the rest to another namespace, once granted."""
    tags = {"near": "default", "far": "other"}
    found = {tag: stopping(TLSOrigin(directory, authority, [SHOP], tag=tag)) for tag in tags}
    services = [service(tag, found[tag].endpoint, namespace=space) for tag, space in tags.items()]
    group = "gateway.networking.k8s.io"
    documents = [
        {
            "apiVersion": f"{group}/v1",
            "kind": "Gateway",
            "metadata": {"name": "edge"},
            "spec": {
                "gatewayClassName": "weir",
                "listeners": [{"name": "tls", "port": 443, "protocol": "TLS", "tls": {"mode": "Passthrough"}}],
            },
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "TLSRoute",
            "metadata": {"name": "shop"},
            "spec": {
                "parentRefs": [{"name": "edge"}],
                "hostnames": [f"*.{DOMAIN}"],
                "rules": [
                    {
                        "backendRefs": [
                            {"name": "near", "port": 443, "weight": 3},
                            {"name": "far", "namespace": "other", "port": 443, "weight": 1},
                        ]
                    }
                ],
            },
        },
    ]
    grant = {
        "apiVersion": f"{group}/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {"name": "edge", "namespace": "other"},
        "spec": {
            "from": [{"group": group, "kind": "TLSRoute", "namespace": "default"}],
            "to": [{"group": "", "kind": "Service"}],
        },
    }
    port = free_port()
    process = run([*services, "\n---\n".join(json.dumps(document) for document in documents)], {443: port})
    answers = [fetch(port, SHOP, authority) for _ in range(40)]
    assert all("x-origin: near" in answer or answer.startswith("curl: ") for answer in answers)
    assert any("x-origin: near" in answer for answer in answers)
    assert any(answer.startswith("curl: ") for answer in answers)
    (process.root.parent / "3.yaml").write_text("\n---\n".join(json.dumps(each) for each in [*documents, grant]))
    process.reload()
    seen = set()
    for _ in range(60):
        answer = fetch(port, SHOP, authority)
        assert "x-origin: " in answer
        seen.add("near" if "x-origin: near" in answer else "far")
    assert seen == {"near", "far"}
