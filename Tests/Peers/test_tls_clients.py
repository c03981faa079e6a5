"""TLS stays end to end: real clients verify the origin's own certificate through the proxy.

Two HTTPS origins on one port of two addresses; which one answers is seen in the certificate and in a header. By
`routes` the proxy knows their addresses, by `forward` it asks DNS for the name in the hello.
"""

import hashlib
import subprocess

import pytest
from curl_cffi import CurlOpt, requests

from harness import wire
from harness.endpoints import exchange
from harness.network import free_port
from harness.peers import TLSOrigin
from harness.setup import Listen, Setup


@pytest.fixture(scope="module")
def origins(directory, authority, stopping):
    port = free_port()
    return {
        tag: stopping(TLSOrigin(directory, authority, names, address=address, port=port, tag=tag))
        for tag, address, names in (("left", "127.0.0.2", ["a.test", "www.a.test"]), ("right", "127.0.0.3", ["b.test"]))
    }


@pytest.fixture(scope="module")
def listeners(proxy, origins, names, subject_name):
    routes = {
        "a.test": origins["left"].endpoint,
        "www.a.test": origins["left"].endpoint,
        "b.test": origins["right"].endpoint,
    }
    for name, (address, port) in routes.items():
        names.set(name, address)
    found = {
        "routes": Listen("routes", free_port(), routes=routes),
        "routes-v6": Listen("routes-v6", free_port(), address="::1", routes=routes),
    }
    if subject_name != "haproxy":
        found["forward"] = Listen("forward", free_port(), forward_port=port)
    proxy(Setup(list(found.values()), resolver=(names.address, names.port)))
    return found


@pytest.fixture(params=["routes", "routes-v6", "forward"])
def endpoint(request, listeners):
    if request.param not in listeners:
        pytest.skip("HAProxy stands in for routes only")
    return listeners[request.param].endpoint


def run(*command: str, stdin: bytes = b"", status: int = 0) -> str:
    """The output of a client, both streams; its exit status must be `status`."""
    done = subprocess.run(
        [str(word) for word in command], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20
    )
    text = done.stdout.decode(errors="replace")
    assert done.returncode == status, f"{command[0]} ended with {done.returncode}\n{text[-3000:]}"
    return text


def through(endpoint) -> str:
    host, port = endpoint
    return f"::[{host}]:{port}" if ":" in host else f"::{host}:{port}"


def request(name: str) -> bytes:
    return f"GET / HTTP/1.0\r\nHost: {name}\r\n\r\n".encode()


ORIGIN = {"a.test": "left", "www.a.test": "left", "b.test": "right"}


# curl ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("name", ["a.test", "b.test"])
def test_curl_reaches_the_origin_that_it_names(endpoint, authority, directory, name, tls, version):
    body = directory / "curl-body"
    headers = run(
        "curl",
        "-sS",
        "--cacert",
        authority.path,
        "--connect-to",
        through(endpoint),
        version,
        f"--tlsv{tls}",
        "--tls-max",
        tls,
        "-o",
        body,
        "-D",
        "-",
        f"https://{name}/body",
    )
    expected = {
        "x-origin": ORIGIN[name],
        "x-server-name": name,
        "x-tls": f"TLSv{tls}",
        "x-protocol": "HTTP/1.1" if version == "--http1.1" else "HTTP/2.0",
    }
    seen = dict(line.lower().split(": ", 1) for line in headers.splitlines() if ": " in line)
    assert {key: seen.get(key) for key in expected} == {key: value.lower() for key, value in expected.items()}
    assert hashlib.sha256(body.read_bytes()).hexdigest() == TLSOrigin.BODY_DIGEST


def test_a_client_certificate_reaches_the_origin(endpoint, authority):
    """S3-1: TLS ends at the origin, so it can ask for a certificate."""
    headers = run(
        "curl",
        "-sS",
        "--cacert",
        authority.path,
        "--cert",
        authority.leaf("client.test"),
        "--connect-to",
        through(endpoint),
        "-o",
        "/dev/null",
        "-D",
        "-",
        "https://a.test/body",
    )
    assert "x-client: cn=client.test" in headers.lower()


@pytest.mark.weir
def test_curl_is_told_that_a_name_is_not_routed(listeners, authority):
    """CH-38: alert 112, not a silent close."""
    text = run(
        "curl",
        "-sS",
        "--cacert",
        authority.path,
        "--connect-to",
        through(listeners["routes"].endpoint),
        "https://elsewhere.test/",
        status=35,
    )
    assert "unrecognized name" in text


@pytest.mark.weir
def test_a_hello_without_a_name_is_refused_where_no_route_takes_it(listeners):
    """CH-14, CH-38."""
    for name in ("routes", "forward"):
        answer, _ = exchange(listeners[name].endpoint, wire.hello())
        assert answer == wire.alert(112)


# openssl ------------------------------------------------------------------------------------------


def s_client(endpoint, authority, name, *options, status=0) -> str:
    host, port = endpoint
    return run(
        "openssl",
        "s_client",
        "-connect",
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "-servername",
        name,
        "-verify_hostname",
        name,
        "-verify_return_error",
        "-CAfile",
        authority.path,
        "-ign_eof",
        *options,
        stdin=request(name),
        status=status,
    )


@pytest.mark.parametrize("tls", ["-tls1_2", "-tls1_3"])
def test_openssl_verifies_the_origin(endpoint, authority, tls):
    text = s_client(endpoint, authority, "b.test", tls)
    assert "Verify return code: 0 (ok)" in text
    assert "X-Origin: right" in text


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_openssl_negotiates_alpn_with_the_origin(endpoint, authority, protocol):
    host, port = endpoint
    text = run(
        "openssl",
        "s_client",
        "-connect",
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "-servername",
        "a.test",
        "-CAfile",
        authority.path,
        "-verify_return_error",
        "-alpn",
        protocol,
        stdin=b"",
    )
    assert f"ALPN protocol: {protocol}" in text


@pytest.mark.parametrize("tls", ["-tls1_2", "-tls1_3"])
def test_openssl_resumes_its_session(endpoint, authority, directory, tls):
    """CH-28: the second hello carries a ticket."""
    session = directory / "session.pem"
    assert "X-Resumed: ." in s_client(endpoint, authority, "a.test", tls, "-sess_out", session)
    text = s_client(endpoint, authority, "a.test", tls, "-sess_in", session)
    assert "Reused, TLSv1." in text
    assert "X-Resumed: r" in text


def test_openssl_sends_early_data(endpoint, authority, directory):
    """CH-27: bytes right behind the hello belong to it."""
    session, early = directory / "early.pem", directory / "early-request"
    early.write_bytes(request("a.test"))
    s_client(endpoint, authority, "a.test", "-tls1_3", "-sess_out", session)
    host, port = endpoint
    text = run(
        "openssl",
        "s_client",
        "-connect",
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "-servername",
        "a.test",
        "-CAfile",
        authority.path,
        "-tls1_3",
        "-ign_eof",
        "-sess_in",
        session,
        "-early_data",
        early,
    )
    assert "Early data was accepted" in text
    assert "X-Origin: left" in text


def test_openssl_splits_its_hello_over_records(endpoint, authority):
    """CH-04: fragments of 512 bytes cut the hello, too; behind the name, so that HAProxy finds it as well."""
    protocols = ",".join(["http/1.1", *(f"protocol-{n}" for n in range(20))])
    options = ("-max_send_frag", "512", "-split_send_frag", "512", "-alpn", protocols)
    assert "X-Origin: left" in s_client(endpoint, authority, "a.test", *options)


# GnuTLS -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["TLS1.2", "TLS1.3"])
def test_gnutls_verifies_the_origin(endpoint, authority, version):
    host, port = endpoint
    text = run(
        "gnutls-cli",
        "--x509cafile",
        authority.path,
        "--sni-hostname",
        "b.test",
        "--verify-hostname",
        "b.test",
        "--priority",
        f"NORMAL:-VERS-ALL:+VERS-{version}",
        "--port",
        port,
        host,
        stdin=request("b.test"),
    )
    assert "The certificate is trusted" in text
    assert f"X-TLS: {version.replace('TLS', 'TLSv')}" in text
    assert "X-Origin: right" in text


# Browsers' hellos ---------------------------------------------------------------------------------


@pytest.mark.parametrize("browser", ["chrome", "firefox", "safari", "edge", "chrome_android"])
@pytest.mark.parametrize("name", ["a.test", "b.test"])
def test_a_browser_reaches_the_origin(endpoint, authority, browser, name):
    """CH-02, CH-03, CH-24, CH-25: post-quantum key shares, shuffled extensions, GREASE, ECH GREASE."""
    host, port = endpoint
    resolve = {CurlOpt.RESOLVE: [f"{name}:{port}:{host}"]}
    with requests.Session(impersonate=browser, verify=str(authority.path), curl_options=resolve) as session:
        answer = session.get(f"https://{name}:{port}/body", timeout=10)
    assert answer.headers["X-Origin"] == ORIGIN[name]
    assert answer.headers["X-Server-Name"] == name
    assert hashlib.sha256(answer.content).hexdigest() == TLSOrigin.BODY_DIGEST
