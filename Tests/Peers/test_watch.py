"""Configuration as it changes on disk while Weir runs on it: files and directories, swapped, broken, emptied; and what
a reload leaves alone."""

import json
import pathlib
import re
import signal
import socket
import subprocess

import pytest
from harness import wire
from harness.endpoints import FIN, Origin, answering, connect, echo, exchange, read_exactly, read_to_end, reset
from harness.names import NameServer
from harness.network import free_port, with_file
from harness.peers import listens
from harness.processes import eventually
from harness.setup import Listen, Setup
from harness.weir import Weir, native

pytestmark = pytest.mark.weir


@pytest.fixture(scope="module")
def origins(stopping):
    """`A` and `B` answer with their letter; `echo` echoes."""
    return {
        "A": stopping(Origin(answering(b"A"))),
        "B": stopping(Origin(answering(b"B"))),
        "echo": stopping(Origin(echo)),
    }


@pytest.fixture
def weir(tmp_path):
    """Starts Weir on paths, and stops it after the test."""
    started = []

    def start(*paths: pathlib.Path, ports: list[int]) -> Weir:
        started.append(Weir(tmp_path, list(paths), ports, name=f"weir{len(started)}"))
        return started[-1]

    yield start
    for process in started:
        process.stop(signal.SIGINT)


def asks(listen: Listen, sent: bytes = b"who") -> bytes:
    return exchange(listen.endpoint, sent)[0]


def write(path: pathlib.Path, *listens: Listen, **more) -> None:
    """The listeners and what they lead to, and no other setting: files of a directory add up. By a rename."""
    document = native(Setup(list(listens)))
    document = {key: document[key] for key in ("listeners", "clusters")} | more
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(document))
    new.rename(path)


@pytest.mark.own_network
def test_a_file_that_is_mounted_by_itself_may_be_written_in_place(tmp_path, origins, stopping):
    """As `docker run -v ./weir.yaml:/etc/weir/weir.yaml` has it: the directory inside hears nothing."""
    one = Listen("one", free_port(), default=origins["A"].endpoint)
    outside, inside = tmp_path / "outside.yaml", tmp_path / "inside" / "weir.yaml"
    inside.parent.mkdir()
    inside.touch()
    write(outside, one)
    prefix = with_file(inside, outside)
    process = stopping(Weir(tmp_path, [inside], [one.port], name="mounted", prefix=prefix))
    assert asks(one) == b"A"
    one.default = origins["B"].endpoint
    write(tmp_path / "next.yaml", one)
    outside.write_text((tmp_path / "next.yaml").read_text())
    eventually(lambda: asks(one) == b"B", 10, "the new origin")
    assert process.reload_count("failed") == 0


def becomes(listen: Listen, letter: bytes) -> None:
    eventually(lambda: listens(listen.port) and asks(listen) == letter, 10, f"{listen.name} leads to {letter}")


# What is watched ----------------------------------------------------------------------------------


def test_files_and_directories_may_come_change_and_go_in_a_directory(weir, origins, tmp_path):
    conf = tmp_path / "conf"
    conf.mkdir()
    one = Listen("one", free_port(), default=origins["A"].endpoint)
    two = Listen("two", free_port(), default=origins["B"].endpoint)
    write(conf / "one.yaml", one)
    process = weir(conf, ports=[one.port])
    assert asks(one) == b"A"
    (conf / "more").mkdir()
    write(conf / "more" / "two.json", two)
    becomes(two, b"B")
    two.default = origins["A"].endpoint
    write(conf / "more" / "two.json", two)
    becomes(two, b"A")
    (conf / "more" / "two.json").unlink()
    (conf / "more").rmdir()
    eventually(lambda: not listens(two.port), 10, "the listener of the file that went")
    assert asks(one) == b"A"
    assert process.reload_count("failed") == 0


def test_a_kubernetes_volume_is_followed_as_a_directory(weir, origins, tmp_path):
    """`..data` is exchanged as a whole, then the visible links are made and removed."""
    mount = tmp_path / "mount"
    mount.mkdir()
    one = Listen("one", free_port(), default=origins["A"].endpoint)
    two = Listen("two", free_port(), default=origins["B"].endpoint)

    def publish(version: int, **files: Listen) -> None:
        folder = mount / f"..{version}"
        folder.mkdir()
        for name, listen in files.items():
            write(folder / f"{name}.yaml", listen)
        (mount / "..data_tmp").symlink_to(folder.name)
        (mount / "..data_tmp").rename(mount / "..data")
        for name in files:
            if not (mount / f"{name}.yaml").is_symlink():
                (mount / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
        for link in mount.glob("[!.]*"):
            if link.stem not in files:
                link.unlink()

    publish(1, one=one)
    weir(mount, ports=[one.port])
    one.default = origins["B"].endpoint
    publish(2, one=one)
    becomes(one, b"B")
    publish(3, one=one, two=two)
    becomes(two, b"B")
    publish(4, two=two)
    eventually(lambda: not listens(one.port), 10, "the listener of the key that went")
    assert asks(two) == b"B"


def test_a_file_that_an_nginx_pattern_finds_later_is_read(weir, origins, tmp_path):
    ports = [free_port(), free_port()]

    def server(port: int, letter: str) -> str:
        host, target = origins[letter].endpoint
        return f"server {{ listen 127.0.0.1:{port}; proxy_pass {host}:{target}; }}\n"

    main = tmp_path / "nginx.conf"
    main.write_text("stream {\n" + server(ports[0], "A") + "include conf.d/*.conf;\n}\n")
    weir(main, ports=ports[:1])
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "late.conf").write_text(server(ports[1], "B"))
    becomes(Listen("late", ports[1]), b"B")
    (tmp_path / "conf.d" / "late.conf").write_text(server(ports[1], "A"))
    becomes(Listen("late", ports[1]), b"A")


def test_a_directory_that_vanishes_and_comes_back_is_read_again(weir, origins, tmp_path):
    conf = tmp_path / "etc" / "weir"
    conf.mkdir(parents=True)
    listen = Listen("one", free_port(), default=origins["A"].endpoint)
    write(conf / "one.yaml", listen)
    process = weir(conf, ports=[listen.port])
    (tmp_path / "etc").rename(tmp_path / "gone")
    eventually(lambda: process.reload_count("failed") > 0, 10, "a failed reload")
    assert process.metrics().sum("weir_config_reload_failures_total", reason="unreadable") > 0
    assert asks(listen) == b"A"
    listen.default = origins["B"].endpoint
    conf.mkdir(parents=True)
    write(conf / "one.yaml", listen)
    becomes(listen, b"B")


def test_check_takes_a_directory_and_an_empty_one_is_an_error(origins, tmp_path):
    def check(path: pathlib.Path) -> subprocess.CompletedProcess:
        return subprocess.run([Weir.binary, "check", "--config", path], capture_output=True, text=True, timeout=10)

    (tmp_path / "conf" / "deep").mkdir(parents=True)
    done = check(tmp_path / "conf")
    assert done.returncode == 1
    assert f"{tmp_path}/conf: error: the directory holds no configuration" in done.stderr
    write(tmp_path / "conf" / "deep" / "one.yaml", Listen("one", 1, default=origins["A"].endpoint))
    done = check(tmp_path / "conf")
    assert (done.returncode, done.stdout) == (0, "ok: 1 listener, 1 route, 1 cluster\n")


# A bad document -----------------------------------------------------------------------------------


def test_one_bad_file_of_a_directory_keeps_all_of_them_from_being_taken_over(weir, origins, tmp_path):
    """T-22: the reason is in the log with its place, and in the metric."""
    conf = tmp_path / "conf"
    conf.mkdir()
    one = Listen("one", free_port(), default=origins["A"].endpoint)
    two = Listen("two", free_port(), default=origins["A"].endpoint)
    write(conf / "1.yaml", one)
    write(conf / "2.yaml", two)
    process = weir(conf, ports=[one.port, two.port])
    taken_over = process.metrics().sum("weir_config_last_success_timestamp_seconds")
    (conf / "2.yaml").write_text("listeners: 1\n")
    eventually(lambda: process.reload_count("failed") == 1, 10, "a failed reload")
    one.default = origins["B"].endpoint
    write(conf / "1.yaml", one)
    process.send(signal.SIGHUP)
    eventually(lambda: process.reload_count("failed") >= 2, 10, "another failed reload")
    assert (asks(one), asks(two)) == (b"A", b"A")
    assert f"{conf}/2.yaml:1:12: error: " in process.output()
    metrics = process.metrics()
    assert metrics.sum("weir_config_reload_failures_total", reason="invalid") == process.reload_count("failed")
    assert metrics.sum("weir_config_last_reload_successful") == 0
    assert metrics.sum("weir_config_last_success_timestamp_seconds") == taken_over
    write(conf / "2.yaml", two)
    becomes(one, b"B")
    metrics = process.metrics()
    assert metrics.sum("weir_config_last_reload_successful") == 1
    assert metrics.sum("weir_config_last_success_timestamp_seconds") > taken_over
    assert metrics.lint() == ""


def test_a_listener_that_cannot_be_bound_keeps_the_rest_from_being_taken_over(weir, origins, tmp_path):
    file = tmp_path / "weir.yaml"
    one = Listen("one", free_port(), default=origins["A"].endpoint)
    write(file, one)
    process = weir(file, ports=[one.port])
    one.default = origins["B"].endpoint
    write(file, one, Listen("taken", origins["A"].endpoint[1], default=origins["A"].endpoint))
    eventually(lambda: process.reload_count("failed") == 1, 10, "a failed reload")
    assert asks(one) == b"A"
    assert process.metrics().sum("weir_config_reload_failures_total", reason="bind") == 1


# What a reload leaves alone -----------------------------------------------------------------------


def listening_sockets(port: int) -> set[str]:
    """By inode."""
    found = subprocess.run(["ss", "-Htlne", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"ino:(\d+)", found))


def test_listeners_are_added_changed_and_removed_while_another_keeps_its_sockets(weir, origins, tmp_path):
    """UP-13."""
    file = tmp_path / "weir.yaml"
    stays = Listen("stays", free_port(), default=origins["echo"].endpoint)
    changes = Listen("changes", free_port(), default=origins["A"].endpoint)
    write(file, stays, changes)
    process = weir(file, ports=[stays.port, changes.port])
    before = listening_sockets(stays.port)
    assert before
    with connect(stays.endpoint) as live:
        live.sendall(b"x")
        assert read_exactly(live, 1) == b"x"
        old_port, changes.port = changes.port, free_port()
        added = Listen("added", free_port(), default=origins["B"].endpoint)
        write(file, stays, changes, added)
        becomes(added, b"B")
        assert asks(changes) == b"A"
        assert not listens(old_port)
        # The same address under other rules.
        changes.clients = ["192.0.2.0/24"]
        write(file, stays, changes, added)
        eventually(lambda: exchange(changes.endpoint, b"who")[0] == b"", 10, "the new rule")
        write(file, stays)
        eventually(lambda: not listens(changes.port) and not listens(added.port), 10, "two listeners have gone")
        assert listening_sockets(stays.port) == before
        live.sendall(b"y")
        assert read_exactly(live, 1) == b"y"
        live.shutdown(socket.SHUT_WR)
        assert read_to_end(live) == (b"", FIN)
    assert process.reload_count("failed") == 0


def test_an_ejected_endpoint_stays_ejected_over_a_reload(weir, origins, stopping, tmp_path):
    """UP-13: what is known of an endpoint is untouched, until the configuration leaves it out."""

    def slamming(seen):
        seen.read()
        reset(seen.connection)

    bad = stopping(Origin(slamming))
    port, extra = free_port(), Listen("extra", free_port(), default=origins["A"].endpoint)
    cluster = {
        "name": "pair",
        "endpoints": ["{}:{}".format(*bad.endpoint), "{}:{}".format(*origins["B"].endpoint)],
        "outlier_detection": {
            "consecutive_local_origin_failures": 1,
            "base_ejection_time": "1h",
            "max_ejection_time": "1h",
        },
    }
    file = tmp_path / "weir.json"
    document = {
        "listeners": [{"name": "in", "address": f"127.0.0.1:{port}", "routes": [{"to": {"cluster": "pair"}}]}],
        "clusters": [cluster],
        "workers": 2,
    }
    file.write_text(json.dumps(document))
    process = weir(file, ports=[port])

    def state() -> str:
        lines = process.admin("/endpoints")[1].splitlines()
        return next(line.split()[2] for line in lines if "{}:{}".format(*bad.endpoint) in line)

    bad.stop()

    def ejected() -> bool:
        assert exchange(("127.0.0.1", port), b"who")[0] == b"B"
        return state() == "FAILED_OUTLIER_CHECK"

    eventually(ejected, 10, "the ejection")
    more = native(Setup([extra]))
    document["listeners"] += more["listeners"]
    document["clusters"] += more["clusters"]
    file.write_text(json.dumps(document))
    becomes(extra, b"A")
    assert state() == "FAILED_OUTLIER_CHECK"


def test_names_keep_their_answers_over_a_reload(weir, origins, stopping, tmp_path):
    """UP-09: not a question more, and no cold start."""
    dns = stopping(NameServer(free_port()))
    dns.set("known.test", "127.0.0.1", ttl=600)
    forward = Listen("forward", free_port(), forward_port=origins["B"].endpoint[1])
    extra = Listen("extra", free_port(), default=origins["A"].endpoint)
    file = tmp_path / "weir.json"

    def write_all(*listens: Listen) -> None:
        file.write_text(json.dumps(native(Setup(list(listens), resolver=(dns.address, dns.port), workers=1))))

    write_all(forward)
    weir(file, ports=[forward.port])
    assert asks(forward, wire.hello(b"known.test")) == b"B"
    questions = dict(dns.questions)
    write_all(forward, extra)
    becomes(extra, b"A")
    assert asks(forward, wire.hello(b"known.test")) == b"B"
    assert dict(dns.questions) == questions
