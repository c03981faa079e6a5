"""What a configuration would change for those whom a running process serves, before it does."""

import json
import pathlib
import re
import subprocess

import pytest

from harness import wire
from harness.endpoints import Origin, answering, connect, echo, exchange, read_exactly
from harness.network import free_port
from harness.processes import eventually
from harness.weir import Weir

pytestmark = pytest.mark.weir

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs/PREVIEW.md"
CHANGES = 6


def metric(process, line: str) -> int:
    """The value of the series that `line` is."""
    return int(next(one.rsplit(" ", 1)[1] for one in process.admin("/metrics")[1].splitlines() if one.startswith(line)))


def check(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([str(Weir.binary), "check", *arguments], capture_output=True, text=True, timeout=20)


@pytest.fixture
def serving(native, stopping):
    """A process with routes by name on one listener, and another listener. `ask(name)` makes a session."""
    origin = stopping(Origin(answering(b"good")))
    held = stopping(Origin(echo))
    port, other = free_port(), free_port()
    process = native(
        {
            "workers": 2,
            "listeners": [
                {
                    "name": "main",
                    "address": f"127.0.0.1:{port}",
                    "routes": [
                        {
                            "name": "first",
                            "match": {"server_names": ["first.test"]},
                            "to": {"cluster": "held"},
                            "on_removed": {"drain": "30s"},
                        },
                        {"name": "second", "match": {"server_names": ["second.test"]}, "to": {"cluster": "good"}},
                        {"name": "any", "match": {"server_names": ["*"]}, "to": {"cluster": "good"}},
                    ],
                },
                {"name": "other", "address": f"127.0.0.1:{other}", "routes": [{"to": {"cluster": "good"}}]},
            ],
            "clusters": [
                {"name": "good", "endpoints": [f"127.0.0.1:{origin.endpoint[1]}"]},
                {"name": "held", "endpoints": [f"127.0.0.1:{held.endpoint[1]}"]},
            ],
        }
    )
    process.port = port

    def ask(name: str) -> None:
        exchange(("127.0.0.1", port), wire.hello(name.encode()))

    process.ask = ask
    process.url = f"http://127.0.0.1:{process.admin_port}"
    return process


def seen(process) -> dict[str, dict]:
    return {one["server_name"]: one for one in json.loads(process.admin("/names")[1])["names"]}


def compared(process, tmp_path, change, status: int = CHANGES) -> dict:
    """What `check --against` says of the process's configuration after `change`."""
    document = json.loads(json.dumps(process.configuration))
    change(document)
    file = tmp_path / "next.yaml"
    file.write_text(json.dumps(document))
    done = check("--config", str(file), "--against", process.url, "--json")
    assert done.returncode == status, (done.stdout, done.stderr)
    return json.loads(done.stdout)


def test_the_same_configuration_changes_nothing(serving, tmp_path):
    serving.ask("first.test")
    eventually(lambda: "first.test" in seen(serving), 5, "the name is seen")
    found = compared(serving, tmp_path, lambda document: None, status=0)
    assert found["harmless"] is True and found["names_seen"] == 1


def test_listeners_that_open_and_close_are_told(serving, tmp_path):
    fresh = free_port()

    def change(document):
        document["listeners"][1]["address"] = f"127.0.0.1:{fresh}"

    before = serving.configuration["listeners"][1]["address"]
    found = compared(serving, tmp_path, change)["listeners"]
    assert found == {
        "opened": [{"name": "other", "address": f"127.0.0.1:{fresh}"}],
        "closed": [{"name": "other", "address": before}],
    }


def test_sessions_that_would_lose_their_route_are_counted(serving, tmp_path):
    """Those that are open, on every worker, and no more once they have ended."""
    clients = [connect(("127.0.0.1", serving.port)) for _ in range(5)]
    hello = wire.hello(b"first.test")
    for client in clients:
        client.sendall(hello)
        read_exactly(client, len(hello))

    def lost() -> list[dict]:
        def change(document):
            del document["listeners"][0]["routes"][0]

        status = CHANGES if clients or seen(serving) else 0
        return compared(serving, tmp_path, change, status)["sessions"]

    expected = {
        "listener": "main",
        "route": "first",
        "sessions": 5,
        "on_removed": "drain",
        "drain_milliseconds": 30_000,
    }
    assert lost() == [expected]
    active = 'weir_route_sessions_active{listener="main",route="first"}'
    assert f"{active} 5\n" in serving.admin("/metrics")[1]
    while clients:
        clients.pop().close()
    eventually(lambda: f"{active} 0\n" in serving.admin("/metrics")[1], 5, "the sessions have ended")
    eventually(lambda: "first.test" in seen(serving), 5, "the name is seen")
    assert lost() == []


def test_names_whose_decision_changes_are_told_with_both_verdicts(serving, tmp_path):
    for name in ("second.test", "second.test", "else.test"):
        serving.ask(name)
    eventually(lambda: seen(serving).get("second.test", {}).get("sessions") == 2, 5, "the name is seen twice")
    eventually(lambda: "else.test" in seen(serving), 5, "the other name is seen")

    def change(document):
        document["listeners"][0]["routes"][1] = {
            "name": "closed",
            "match": {"server_names": ["second.test"]},
            "deny": "access_denied",
        }

    (found,) = compared(serving, tmp_path, change)["names"]
    assert (found["listener"], found["server_name"], found["sessions"]) == ("main", "second.test", 2)
    assert (found["before"]["route"], found["before"]["target"]) == ("second", 'cluster "good"')
    assert (found["after"]["route"], found["after"]["reason"]) == ("closed", "local_route_denied")
    assert found["client"] == "127.0.0.1"


def test_what_it_says_of_a_name_comes_true(serving, tmp_path):
    """The verdicts are those that the process has after the reload."""
    serving.ask("second.test")
    eventually(lambda: "second.test" in seen(serving), 5, "the name is seen")

    def change(document):
        del document["listeners"][0]["routes"][1]

    (found,) = compared(serving, tmp_path, change)["names"]
    change(serving.configuration)
    serving.change()
    assert seen(serving)["second.test"]["verdict"] == found["after"]
    serving.ask("second.test")
    assert serving.record(server_name="second.test", route="any")["cluster"] == "good"


def test_names_outlive_a_reload(serving):
    serving.ask("second.test")
    eventually(lambda: "second.test" in seen(serving), 5, "the name is seen")
    serving.configuration["listeners"][0]["routes"].pop()
    serving.change()
    assert seen(serving)["second.test"]["sessions"] == 1


def test_hostile_names_stay_a_bounded_table(serving, tmp_path):
    """T-21: more names than it holds leave the latest, and it says that more were seen."""
    listener = ("127.0.0.1", serving.port)
    for number in range(4200):
        with connect(listener) as client:
            client.sendall(wire.hello(f"n{number}.test".encode()))
            client.recv(1)

    # Workers end their last sessions in any order.
    eventually(lambda: "n4199.test" in seen(serving), 10, "the last name is seen")
    assert len(seen(serving)) == 4096
    found = compared(serving, tmp_path, lambda document: None, status=0)
    assert (found["names_seen"], found["complete"]) == (4096, False)


def test_for_people_it_is_told_in_words(serving, tmp_path):
    file = tmp_path / "next.yaml"
    file.write_text(json.dumps(serving.configuration))
    done = check("--config", str(file), "--against", serving.url)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].startswith("ok: 2 listeners")
    assert done.stdout.splitlines()[1] == "nothing changes for anybody; server names of the last hour: 0"


def test_an_instance_that_cannot_be_asked_ends_with_3(serving, tmp_path):
    file = tmp_path / "weir.yaml"
    done = check("--config", str(file), "--against", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 3
    assert "cannot be asked" in done.stderr


def test_a_configuration_that_cannot_be_used_ends_with_1(serving, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("listeners: [ { adress: 1 } ]")
    done = check("--config", str(file), "--against", serving.url)
    assert done.returncode == 1
    assert 'unknown key "adress"' in done.stderr


@pytest.mark.parametrize("arguments", [("--against", "https://127.0.0.1:1"), ("--json",)])
def test_arguments_that_mean_nothing_end_with_2(serving, tmp_path, arguments):
    assert check("--config", str(tmp_path / "weir.yaml"), *arguments).returncode == 2


def test_every_key_is_in_the_document(serving, tmp_path):
    serving.ask("second.test")
    eventually(lambda: "second.test" in seen(serving), 5, "the name is seen")
    keys: set[str] = set()

    def collect(value):
        if isinstance(value, dict):
            keys.update(value)
        for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            collect(one)

    def change(document):
        del document["listeners"][1]
        del document["listeners"][0]["routes"][1]

    collect(compared(serving, tmp_path, change))
    for path in ("/config", "/names"):
        collect(json.loads(serving.admin(path)[1]))
    words = set(re.findall(r"`(\w+)`", DOCUMENT.read_text()))
    # Those of a verdict are in the document of `explain`.
    words |= set(re.findall(r"`(\w+)`", (DOCUMENT.parent / "EXPLAIN.md").read_text().partition("## JSON")[2]))
    assert keys - words == set()


# A shadow -----------------------------------------------------------------------------------------


def decided(process, result: str) -> int:
    return metric(process, f'weir_shadow_decisions_total{{result="{result}"}}')


@pytest.fixture
def shadowed(serving, tmp_path):
    """`serving` with a shadow that denies `second.test`; `cast(document)` writes it anew."""
    file = tmp_path / "shadow.yaml"

    def cast(document: dict) -> None:
        fresh = tmp_path / "shadow.new"
        fresh.write_text(json.dumps(document))
        fresh.rename(file)

    document = json.loads(json.dumps(serving.configuration))
    document["listeners"][0]["routes"][1] = {
        "name": "closed",
        "match": {"server_names": ["second.test"]},
        "deny": "access_denied",
    }
    cast(document)
    serving.configuration["shadow"] = {"config": [str(file)], "sample": "2/h"}
    serving.change()
    serving.cast, serving.shadow = cast, document
    assert metric(serving, "weir_shadow_in_force") == 1
    return serving


def test_a_shadow_is_asked_about_every_session_and_decides_about_none(shadowed):
    for name in ["second.test"] * 5 + ["else.test"] * 3:
        shadowed.ask(name)
    eventually(lambda: decided(shadowed, "different") + decided(shadowed, "same") == 8, 5, "all were asked about")
    assert (decided(shadowed, "different"), decided(shadowed, "same"), decided(shadowed, "unknown")) == (5, 3, 0)
    assert shadowed.record(server_name="second.test")["route"] == "second"


def test_differences_are_told_of_with_both_verdicts_and_not_all_of_them(shadowed):
    for _ in range(5):
        shadowed.ask("second.test")
    eventually(lambda: decided(shadowed, "different") == 5, 5, "all were asked about")
    lines = [line for line in shadowed.output().splitlines() if "shadow differs" in line]
    assert len(lines) == 2
    assert lines[0].endswith(
        'shadow differs: listener "main", client 127.0.0.1, "second.test": '
        'live: route "second", cluster "good"; shadow: route "closed", denied: access_denied'
    )


def test_a_shadow_is_watched_like_the_configuration(shadowed):
    shadowed.cast(shadowed.configuration)

    def is_the_other_one_asked():
        shadowed.ask("second.test")
        return decided(shadowed, "same") > 0

    eventually(is_the_other_one_asked, 5, "the shadow that denies nothing is asked")


def test_a_shadow_that_cannot_be_used_is_reported_and_nobody_minds(shadowed):
    """T-22: nor does what runs."""
    shadowed.cast({"listeners": [{"adress": 1}]})
    eventually(lambda: metric(shadowed, "weir_shadow_in_force") == 0, 5, "it is not asked any more")
    assert 'unknown key "adress"' in shadowed.output()
    shadowed.ask("second.test")
    assert shadowed.record(server_name="second.test")["route"] == "second"
    shadowed.cast(shadowed.shadow)
    eventually(lambda: metric(shadowed, "weir_shadow_in_force") == 1, 5, "it is asked again")
