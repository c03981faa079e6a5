"""PROXY headers from curl, haproxy and nginx, and to haproxy and nginx.

A receiver answers HTTP with the addresses and values it took from the header, so that what arrived is read where it
counts. Senders connect from 127.0.0.7 or another loopback address that nothing else uses.
"""

import socket
import subprocess

import pytest

from harness import vocabulary, wire
from harness.endpoints import FIN, OPEN, RST, Origin, connect, exchange, read_to_end
from harness.network import add_address, free_port
from harness.peers import Haproxy, Nginx
from harness.processes import eventually
from harness.setup import Listen, SendProxy, Setup

CLIENT = "127.0.0.7"


def haproxy_receiver(directory, name):
    """Answers with what it made of the header: source, destination, authority, unique id; `-` where there is none."""
    port = free_port()
    process = Haproxy(
        directory,
        f"""
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 1s
frontend receiver
    bind 127.0.0.1:{port} accept-proxy
    http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port] %[fc_pp_authority] %[fc_pp_unique_id,hex]\\n"
""",
        [port],
        name=name,
    )
    return process, ("127.0.0.1", port)


def nginx_receiver(directory, name):
    port = free_port()
    process = Nginx(
        directory,
        f"""user root;
http {{
    access_log off;
    server {{
        listen 127.0.0.1:{port} proxy_protocol;
        set_real_ip_from 127.0.0.0/8;
        real_ip_header proxy_protocol;
        location / {{
            return 200 "$remote_addr $remote_port $proxy_protocol_server_addr $proxy_protocol_server_port\\n";
        }}
    }}
}}
""",
        [port],
        name=name,
    )
    return process, ("127.0.0.1", port)


def curl(endpoint, *options) -> str:
    host, port = endpoint
    done = subprocess.run(
        ["curl", "-sS", "-m", "5", "--interface", CLIENT, *options, f"http://{host}:{port}/"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def receivers(directory, stopping):
    found = {}
    for name, start in (("haproxy", haproxy_receiver), ("nginx", nginx_receiver)):
        process, found[name] = start(directory, f"receiver-{name}")
        stopping(process)
    return found


@pytest.fixture(scope="module")
def recorder(stopping):
    """Answers a request of HTTP/1.x with `ok` and keeps the bytes."""

    def script(seen):
        while b"\r\n\r\n" not in seen.received and seen.read():
            pass
        seen.connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
        seen.connection.shutdown(socket.SHUT_WR)
        seen.read_all()

    return stopping(Origin(script))


SENDING = {
    "v1": SendProxy("v1"),
    "v2": SendProxy("v2"),
    "v2-all": SendProxy("v2", authority=True, crc32c=True, unique_id=True),
}


@pytest.fixture(scope="module")
def listeners(proxy, receivers, recorder, subject_name):
    """`send-VERSION-RECEIVER` sends only, `accept` and `acl` accept only, `pass-…` do both."""
    # nginx sends v1 alone.
    versions = ["v1"] if subject_name == "nginx" else list(SENDING)
    every = [Listen("accept", free_port(), proxy_from=["127.0.0.0/8"], default=recorder.endpoint)]
    for version in versions:
        for receiver, endpoint in receivers.items():
            every.append(
                Listen(f"send-{version}-{receiver}", free_port(), default=endpoint, send_proxy=SENDING[version])
            )
            every.append(
                Listen(
                    f"pass-{version}-{receiver}",
                    free_port(),
                    proxy_from=["127.0.0.0/8"],
                    default=endpoint,
                    send_proxy=SENDING[version],
                )
            )
        every.append(Listen(f"record-{version}", free_port(), default=recorder.endpoint, send_proxy=SENDING[version]))
    if subject_name == "weir":
        every += [
            Listen("untrusted", free_port(), proxy_from=["127.0.0.9/32"], default=recorder.endpoint),
            Listen("acl", free_port(), proxy_from=["127.0.0.0/8"], clients=["10.77.0.0/16"], default=recorder.endpoint),
            Listen("named", free_port(), routes={"sent.test": recorder.endpoint}, send_proxy=SENDING["v2-all"]),
        ]
    process = proxy(Setup(every))
    found = {listen.name: listen for listen in every}
    found["process"] = process
    return found


def listener(listeners, name: str) -> Listen:
    if name not in listeners:
        pytest.skip("nginx sends v1 alone")
    return listeners[name]


# Sending ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", SENDING)
@pytest.mark.parametrize("receiver", ["haproxy", "nginx"])
def test_the_receiver_learns_the_client_and_the_address_it_connected_to(listeners, version, receiver):
    """PO-03, PO-04."""
    listen = listener(listeners, f"send-{version}-{receiver}")
    source, source_port, destination, destination_port, *_ = curl(listen.endpoint).split()
    assert (source, destination, int(destination_port)) == (CLIENT, "127.0.0.1", listen.port)
    assert 1024 < int(source_port) < 65536


@pytest.mark.weir
def test_the_receiver_gets_a_unique_id_for_each_session(listeners):
    """PO-04."""
    listen = listeners["send-v2-all-haproxy"]
    found = {curl(listen.endpoint).split()[-1] for _ in range(5)}
    assert len(found) == 5 and "-" not in found


@pytest.mark.parametrize("version", SENDING)
def test_the_header_comes_before_any_byte_of_the_client(listeners, recorder, version):
    """PO-01: an upstream that waits for it, or speaks first, has it although the client is silent."""
    listen = listener(listeners, f"record-{version}")
    recorder.forget()
    with connect(listen.endpoint, source=CLIENT) as client:
        eventually(lambda: recorder.seen and len(recorder.seen[0].received) >= 16, 5, "a header of a silent client")
        [seen] = recorder.seen
        source_port = client.getsockname()[1]
    if version == "v1":
        assert bytes(seen.received) == wire.v1(CLIENT, "127.0.0.1", source_port, listen.port)
    else:
        body = wire.addresses(CLIENT, "127.0.0.1", source_port, listen.port)
        assert bytes(seen.received[:28])[:14] == wire.v2(wire.PROXY, wire.TCP4, b"")[:14]
        assert bytes(seen.received[16:28]) == body
        assert len(seen.received) == 16 + int.from_bytes(seen.received[14:16], "big")


@pytest.mark.weir
def test_authority_and_crc32c_are_what_the_client_and_the_header_say(listeners, recorder):
    """PO-04: AUTHORITY is the name as it was sent, CRC32C covers the whole header with its own field zero."""
    recorder.forget()
    hello = wire.hello(b"Sent.Test")
    with connect(listeners["named"].endpoint) as client:
        client.sendall(hello)
        eventually(lambda: recorder.seen and bytes(recorder.seen[0].received).endswith(hello), 5, "header and hello")
    header = bytes(recorder.seen[0].received[: -len(hello)])
    assert len(header) == 16 + int.from_bytes(header[14:16], "big")
    found, at = {}, 28
    while at < len(header):
        length = int.from_bytes(header[at + 1 : at + 3], "big")
        found[header[at]] = (at + 3, header[at + 3 : at + 3 + length])
        at += 3 + length
    assert at == len(header)
    assert found[wire.TLV_AUTHORITY][1] == b"Sent.Test"
    assert len(found[wire.TLV_UNIQUE_ID][1]) <= 128
    where, value = found[wire.TLV_CRC32C]
    assert int.from_bytes(value, "big") == wire.crc32c(header[:where] + bytes(4) + header[where + 4 :])


@pytest.mark.weir
@pytest.mark.parametrize(
    "header",
    [
        pytest.param(wire.v2(wire.LOCAL, wire.UNSPEC, b""), id="v2 LOCAL"),
        pytest.param(wire.v2(wire.PROXY, wire.UNSPEC, b""), id="v2 UNSPEC"),
        pytest.param(b"PROXY UNKNOWN\r\n", id="v1 UNKNOWN"),
    ],
)
@pytest.mark.parametrize("version", SENDING)
def test_a_header_without_an_address_is_passed_on_as_one_that_haproxy_takes(listeners, header, version):
    """PO-05."""
    request = b"GET / HTTP/1.0\r\n\r\n"
    answer, end = exchange(listeners[f"pass-{version}-haproxy"].endpoint, header + request)
    assert (answer.split()[1], end) == (b"200", FIN)


# Accepting ----------------------------------------------------------------------------------------


def test_curl_s_header_is_taken_off(listeners, recorder):
    """PP-06."""
    recorder.forget()
    assert curl(listeners["accept"].endpoint, "--haproxy-protocol") == "ok\n"
    assert bytes(recorder.seen[0].received).startswith(b"GET / HTTP/1.1\r\n")


SENDERS = {
    "haproxy v1": "server s 127.0.0.1:{port} send-proxy",
    "haproxy v2": "server s 127.0.0.1:{port} send-proxy-v2",
    "haproxy v2 with options": "server s 127.0.0.1:{port} send-proxy-v2 proxy-v2-options crc32c,authority,unique-id",
}


@pytest.fixture(scope="module")
def senders(directory, stopping, listeners):
    """Real senders in front of `pass-v1-nginx`, which says whom it thinks the client is."""
    behind = listeners["pass-v1-nginx"].port
    found = {name: ("127.0.0.1", free_port()) for name in (*SENDERS, "nginx v1")}
    text = "defaults\n    mode tcp\n    timeout client 5s\n    timeout server 5s\n    timeout connect 1s\n"
    for name, line in SENDERS.items():
        label = name.replace(" ", "-")
        text += f"""
frontend {label}
    bind 127.0.0.1:{found[name][1]}
    unique-id-format %{{+X}}o%ci:%cp:%Ts:%rt
    default_backend {label}
backend {label}
    {line.format(port=behind)}
"""
    stopping(Haproxy(directory, text, [found[name][1] for name in SENDERS], name="sender-haproxy"))
    stopping(
        Nginx(
            directory,
            f"""user root;
stream {{
    server {{
        listen 127.0.0.1:{found["nginx v1"][1]};
        proxy_pass 127.0.0.1:{behind};
        proxy_protocol on;
    }}
}}
""",
            [found["nginx v1"][1]],
            name="sender-nginx",
        )
    )
    return found


@pytest.mark.parametrize("sender", [*SENDERS, "nginx v1"])
def test_a_peer_s_header_is_taken_and_passed_on(senders, listeners, subject_name, sender):
    """PP-06, PP-22, PP-23, PO-07: the receiver behind sees the client of the sender in front, and what it connected to.

    nginx keeps the client, but writes its own address as the destination.
    """
    source, _, destination, port = curl(senders[sender]).split()
    expected = listeners["pass-v1-nginx"].port if subject_name == "nginx" else senders[sender][1]
    assert (source, destination, int(port)) == (CLIENT, "127.0.0.1", expected)


@pytest.mark.weir
@pytest.mark.parametrize("sender", ["curl", "v1", "v2"])
def test_an_untrusted_peer_is_refused_unheard(listeners, recorder, sender):
    """PP-25: before a byte of it is read, whatever it would say."""
    recorder.forget()
    process = listeners["process"]
    before = len(process.records())
    endpoint = listeners["untrusted"].endpoint
    if sender == "curl":
        host, port = endpoint
        done = subprocess.run(
            ["curl", "-sS", "-m", "5", "--haproxy-protocol", f"http://{host}:{port}/"], capture_output=True
        )
        assert done.returncode in (7, 52, 55, 56)  # a reset while connecting, sending or receiving; an empty reply
    else:
        header = wire.v1("10.77.0.7", "10.77.0.1", 7007, 443) if sender == "v1" else wire.v2_tcp4()
        answer, end = exchange(endpoint, header + b"GET / HTTP/1.0\r\n\r\n", seconds=2)
        assert (answer, end in (FIN, RST)) == (b"", True)
    assert process.record(before, **{vocabulary.REASON: vocabulary.PROXY_UNTRUSTED})
    assert recorder.seen == []


@pytest.mark.weir
def test_the_trusted_peer_of_the_same_listener_is_served(listeners):
    """PP-25, the other side of it."""
    request = wire.v1("10.77.0.7", "10.77.0.1", 7007, 443) + b"GET / HTTP/1.0\r\n\r\n"
    answer, _ = exchange(listeners["untrusted"].endpoint, request, source="127.0.0.9")
    assert answer.endswith(b"ok\n")


@pytest.mark.weir
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_clients_are_allowed_by_the_header_s_address(listeners, recorder, version):
    """PP-27: trust is about the socket's address, the client list about the header's; the log has both."""
    recorder.forget()
    process = listeners["process"]
    request = b"GET / HTTP/1.0\r\n\r\n"

    def header(source):
        return wire.v1(source, "10.0.0.1", 7007, 443) if version == "v1" else wire.v2_tcp4(source=source)

    before = len(process.records())
    answer, _ = exchange(listeners["acl"].endpoint, header("10.77.3.4") + request, source=CLIENT)
    assert answer.endswith(b"ok\n")
    record = process.record(before, **{vocabulary.LISTENER: "acl", vocabulary.REASON: vocabulary.FINISHED})
    assert record[vocabulary.CLIENT] == "10.77.3.4:7007"
    assert record[vocabulary.PEER].startswith(f"{CLIENT}:")

    before = len(process.records())
    answer, end = exchange(listeners["acl"].endpoint, header("10.78.3.4") + request, source=CLIENT)
    assert (answer, end in (FIN, RST)) == (b"", True)
    record = process.record(before, **{vocabulary.LISTENER: "acl", vocabulary.REASON: vocabulary.CLIENT_DENIED})
    assert record[vocabulary.CLIENT] == "10.78.3.4:7007"
    assert len(recorder.seen) == 1


@pytest.mark.weir
def test_a_stalled_header_is_refused_at_the_deadline(proxy, recorder):
    """PP-05: the deadline is the listener's, and a drip does not move it."""
    listen = Listen("stalled", free_port(), proxy_from=["127.0.0.0/8"], default=recorder.endpoint, hello_timeout=1)
    proxy(Setup([listen]), name="stalled")
    header = wire.v2_tcp4()
    with connect(listen.endpoint) as client:
        for index in range(8):
            client.sendall(header[index : index + 1])
            client.settimeout(0.1)
            with pytest.raises(TimeoutError):
                client.recv(1)
        answer, end = read_to_end(client, seconds=3)
    assert (answer, end != OPEN) == (b"", True)


# A chain ------------------------------------------------------------------------------------------


def test_four_hops_keep_the_first_client(directory, proxy, receivers, stopping, subject_name):
    """PO-08: curl → subject → haproxy → subject → nginx, which says who the client is."""
    last = Listen(
        "chain-last", free_port(), proxy_from=["127.0.0.0/8"], default=receivers["nginx"], send_proxy=SendProxy("v1")
    )
    middle = ("127.0.0.1", free_port())
    first = Listen("chain-first", free_port(), proxy_from=["127.0.0.0/8"], default=middle, send_proxy=SendProxy("v1"))
    proxy(Setup([first, last]), name="chain")
    stopping(
        Haproxy(
            directory,
            f"""
defaults
    mode tcp
    timeout client 5s
    timeout server 5s
    timeout connect 1s
frontend middle
    bind 127.0.0.1:{middle[1]} accept-proxy
    default_backend middle
backend middle
    server s 127.0.0.1:{last.port} send-proxy-v2 proxy-v2-options crc32c
""",
            [middle[1]],
            name="chain-haproxy",
        )
    )
    source, _, destination, port = curl(first.endpoint, "--haproxy-protocol").split()
    expected = last.port if subject_name == "nginx" else first.port
    assert (source, destination, int(port)) == (CLIENT, "127.0.0.1", expected)


@pytest.mark.weir
@pytest.mark.own_network
def test_mixed_families_are_both_sent_as_ipv6(proxy, recorder):
    """PO-03: an IPv6 client in the header of a chain, an IPv4 address behind."""
    add_address("2001:470::7")
    listen = Listen(
        "six",
        free_port(),
        address="::1",
        default=recorder.endpoint,
        send_proxy=SendProxy("v1"),
        clients=["2001:470::/32"],
    )
    proxy(Setup([listen]), name="six")
    recorder.forget()
    answer, _ = exchange(listen.endpoint, b"GET / HTTP/1.0\r\n\r\n", source="2001:470::7")
    assert answer.endswith(b"ok\n")
    assert bytes(recorder.seen[0].received).startswith(b"PROXY TCP6 2001:470::7 ::1 ")
