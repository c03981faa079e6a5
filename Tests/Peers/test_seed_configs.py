"""Configuration files from published descriptions of real installations run as they are.

`seeds/000-egress.conf` replaces a cloud NAT: it listens on port 443 and connects to the name in the hello (S0-1).
`seeds/003-node.conf` stands on every node of a cluster in front of its API server and sends a PROXY header (S3-5).
Both are used byte for byte, but for `<external-domain>`, which the second one leaves open. What nginx takes from its
surroundings, and what Weir's guard wants said, is in a second file.
"""

import pathlib
import re
import subprocess

import pytest
import yaml

from harness.network import Neighbour, add_address, free_port, with_file
from harness.peers import Nginx, TLSOrigin, listens
from harness.processes import Process, eventually
from harness.setup import Setup
from harness.weir import Weir, guard

pytestmark = pytest.mark.own_network

SEEDS = pathlib.Path(__file__).parent / "seeds"
HERE, LEFT, RIGHT = "10.9.9.1", "10.9.9.9", "10.9.9.10"


@pytest.fixture(scope="module")
def outside(stopping) -> Neighbour:
    """Another host, with two addresses."""
    return stopping(Neighbour(HERE, LEFT, RIGHT))


@pytest.fixture(scope="module")
def dns(directory, stopping):
    """dnsmasq, so that not only this suite's own name server is asked."""
    port = free_port()
    records = {"partner.test": LEFT, "www.partner.test": LEFT, "other.test": RIGHT}
    process = Process(
        [
            "dnsmasq",
            "--no-daemon",
            "--no-resolv",
            "--no-hosts",
            "--local=/test/",
            "--conf-file=/dev/null",
            f"--port={port}",
            "--listen-address=127.0.0.1",
            "--bind-interfaces",
            "--pid-file=",
            "--user=root",
            *(f"--host-record={name},{address}" for name, address in records.items()),
        ],
        directory,
        "dnsmasq",
    )
    stopping(process)
    eventually(lambda: listens(port, process), 5, "dnsmasq listens")
    return ("127.0.0.1", port)


@pytest.fixture
def run_file(tmp_path, subject_name):
    """Runs the subject with a seed's text; the resolver and the allowed destinations come beside it."""
    started = []

    def start(text: str, port: int, resolver, hosts: dict[str, str] | None = None):
        if subject_name == "weir":
            first, second = tmp_path / "seed.conf", tmp_path / "beside.yaml"
            first.write_text(text)
            second.write_text(yaml.safe_dump(guard(Setup([], resolver=resolver, destinations=["10.9.9.0/24"]))))
            process = Weir(tmp_path, [first, second], [port])
        else:
            # Where Weir reads a second file, nginx has the resolver in `stream`, and /etc/hosts at its start.
            (tmp_path / "hosts").write_text("".join(f"{address} {name}\n" for name, address in (hosts or {}).items()))
            text = text.replace("stream {\n", f"stream {{\nresolver {resolver[0]}:{resolver[1]} ipv6=off;\n")
            process = Nginx(
                tmp_path,
                text + "\nuser root;\n",
                [port],
                inside=lambda *command: [*with_file("/etc/hosts", tmp_path / "hosts"), *command],
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop()


@pytest.fixture(autouse=True)
def not_for_haproxy(subject_name):
    if subject_name == "haproxy":
        pytest.skip("HAProxy does not read nginx files")


def run(*command, stdin: bytes = b"") -> str:
    done = subprocess.run(
        [str(word) for word in command], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20
    )
    text = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{command}\n{text[-2000:]}"
    return text


# 000: egress --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def origins(directory, authority, outside, stopping):
    """On port 443 of the other host's addresses, because the file connects to the port that it listens on."""
    return [
        stopping(TLSOrigin(directory, authority, names, address=address, port=443, tag=tag, inside=outside.inside))
        for tag, address, names in (
            ("left", LEFT, ["partner.test", "www.partner.test"]),
            ("right", RIGHT, ["other.test"]),
        )
    ]


EGRESS = (SEEDS / "000-egress.conf").read_text()
EXPECTED = {"partner.test": "left", "www.partner.test": "left", "other.test": "right"}


def test_s0_1_the_egress_file_carries_tls_to_the_name_in_the_hello(run_file, dns, origins, authority, outside):
    """S0-1, S0-4: clients on this host and on another one; curl, openssl and GnuTLS verify the certificate."""
    run_file(EGRESS, 443, dns)
    for name, tag in EXPECTED.items():
        for version in ("--http1.1", "--http2"):
            options = ("-sS", "--cacert", authority.path, version, "-o", "/dev/null", "-D", "-", f"https://{name}/body")
            here = run("curl", "--connect-to", "::127.0.0.1:443", *options)
            # As the document does it: the name points to the proxy, the application's URL stays as it is.
            there = run(*outside.inside("curl"), "--resolve", f"{name}:443:{HERE}", *options)
            for headers in (here, there):
                assert f"x-origin: {tag}" in headers.lower()
                assert f"x-server-name: {name}" in headers.lower()
        request = f"GET / HTTP/1.0\r\nHost: {name}\r\n\r\n".encode()
        text = run(
            "openssl",
            "s_client",
            "-connect",
            "127.0.0.1:443",
            "-servername",
            name,
            "-verify_hostname",
            name,
            "-verify_return_error",
            "-CAfile",
            authority.path,
            "-ign_eof",
            stdin=request,
        )
        assert f"X-Origin: {tag}" in text and "Verify return code: 0 (ok)" in text
        text = run(
            "gnutls-cli",
            "--x509cafile",
            authority.path,
            "--sni-hostname",
            name,
            "--verify-hostname",
            name,
            "--port",
            "443",
            "127.0.0.1",
            stdin=request,
        )
        assert f"X-Origin: {tag}" in text and "The certificate is trusted" in text


def test_s0_6_the_egress_file_connects_from_the_proxy_s_own_address(run_file, dns, origins, authority, outside):
    """S0-6: the partner sees the proxy, whoever the client was."""
    run_file(EGRESS, 443, dns)
    headers = run(
        *outside.inside("curl"),
        "-sS",
        "--cacert",
        authority.path,
        "--resolve",
        f"partner.test:443:{HERE}",
        "--interface",
        RIGHT,
        "-o",
        "/dev/null",
        "-D",
        "-",
        "https://partner.test/body",
    )
    assert f"x-peer: {HERE}" in headers.lower()


@pytest.mark.weir
def test_a_name_that_dns_does_not_know_ends_that_session_only(run_file, dns, origins, authority):
    process = run_file(EGRESS, 443, dns)
    done = subprocess.run(
        [
            "curl",
            "-sS",
            "-m",
            "5",
            "--cacert",
            authority.path,
            "--connect-to",
            "::127.0.0.1:443",
            "https://nobody.test/",
        ],
        capture_output=True,
    )
    assert done.returncode in (35, 56)  # refused in the TLS handshake
    assert process.record(0, server_name="nobody.test", reason="upstream_dns_no_such_name")
    run(
        "curl",
        "-sS",
        "--cacert",
        authority.path,
        "--connect-to",
        "::127.0.0.1:443",
        "-o",
        "/dev/null",
        "https://partner.test/body",
    )


# 003: a node of a cluster -------------------------------------------------------------------------


SERVICE, POD = "10.1.2.3", "10.1.2.77"


@pytest.fixture(scope="module", params=["haproxy", "nginx"])
def gateway(request, directory, authority, outside, stopping):
    """The ingress gateway: takes the PROXY header on port 8443, ends TLS as the API server would, says who came."""
    certificate = authority.leaf(SERVICE)
    if request.param == "haproxy":
        text = f"""
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 1s
frontend gateway
    bind {LEFT}:8443 accept-proxy ssl crt {certificate}
    http-request return status 200 content-type text/plain lf-string "%[src] %[dst] %[dst_port]\\n"
"""
        path = directory / "gateway.cfg"
        path.write_text(text)
        process = Process(outside.inside("haproxy", "-db", "-f", str(path)), directory, "gateway")
        eventually(lambda: listens(8443, process), 5, "the gateway listens")
    else:
        process = Nginx(
            directory,
            f"""user root;
http {{
    access_log off;
    server {{
        listen {RIGHT}:8443 ssl proxy_protocol;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        set_real_ip_from {HERE}/24;
        real_ip_header proxy_protocol;
        location / {{ return 200 "$remote_addr $proxy_protocol_server_addr $proxy_protocol_server_port\\n"; }}
    }}
}}
""",
            [8443],
            name="gateway-nginx",
            inside=outside.inside,
        )
    stopping(process)
    return LEFT if request.param == "haproxy" else RIGHT


def test_s3_5_the_node_file_sends_the_client_s_address_to_the_gateway(run_file, gateway, names, authority):
    """S3-5: the client speaks to the service address without a server name; the gateway learns both addresses."""
    for address in (SERVICE, POD):
        add_address(address)
    text = (SEEDS / "003-node.conf").read_text()
    assert len(re.findall("<external-domain>", text)) == 1
    names.set("api.ext.test", gateway)
    run_file(
        text.replace("<external-domain>", "ext.test"), 443, (names.address, names.port), hosts={"api.ext.test": gateway}
    )
    for _ in range(3):
        answer = run("curl", "-sS", "-m", "5", "--cacert", authority.path, "--interface", POD, f"https://{SERVICE}/")
        assert answer == f"{POD} {SERVICE} 443\n"
