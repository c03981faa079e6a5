"""The failover lab: gateways, names and segments are lost on a small network of its own, and what clients meet is
measured and held to what is promised. `tools/lab` is how to run it; docs/TESTING.md says what it shows.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "Tests/Peers"))

import stories
import verdicts
import yaml
from harness import network
from harness.weir import Weir, check
from topology import Lab, cluster, node

EPILOG = """stories, by name or by identifier (P-01 is all of its own):
""" + "\n".join(f"  {name:<18}{story.__doc__}" for name, story in stories.STORIES.items())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="lab", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stories", nargs="*", metavar="STORY", help="these only (default: all)")
    parser.add_argument("--runs", type=int, help="of each story (default: 20 of P-01, fewer of others)")
    parser.add_argument(
        "--weir",
        type=pathlib.Path,
        default=REPOSITORY / ".build/release/weir",
        help="this executable; nothing is built",
    )
    parser.add_argument("--io", choices=("auto", "uring", "epoll"), default="auto", help="the driver of every Weir")
    parser.add_argument(
        "--passive",
        action="store_true",
        help="without health_check and outlier_detection: failed connects alone (max_fails) tell of a lost gateway",
    )
    parser.add_argument("--plain", action="store_true", help="gateways that answer themselves, in place of Weirs")
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="every run's figures, as JSON")
    options = parser.parse_args()
    if options.runs is not None and options.runs < 1:
        parser.error("--runs is 1 at least")
    if not options.weir.exists():
        parser.error(f"{options.weir} does not exist")
    options.chosen = {}
    for word in options.stories or stories.STORIES:
        found = {name: one for name, one in stories.STORIES.items() if word in (name, stories.id_of(one))}
        if not found:
            parser.error(f"no story {word}; --help lists them")
        options.chosen |= found
    return options


def refusal(directory: pathlib.Path, active: bool) -> str:
    """What the executable has against the node's configuration; empty when nothing."""
    done = check(directory, yaml.safe_dump(node(cluster("http" if active else ""))))
    return done.stdout + done.stderr if done.returncode else ""


def told(options: argparse.Namespace, directory: pathlib.Path) -> list[verdicts.Outcome]:
    """Every chosen story, in its order. Everything that was started has ended afterwards."""
    outcomes = []
    with contextlib.ExitStack() as stack:
        lab = Lab(directory, stack, active=not options.passive, plain=options.plain)
        for name, story in options.chosen.items():
            started = time.monotonic()
            try:
                outcome = story(lab, stories.Pace(runs=options.runs))
            except AssertionError as failure:
                outcome = verdicts.Outcome(name, stories.id_of(story), name, "an end", str(failure), "", False, [])
            outcomes.append(outcome)
            took = time.monotonic() - started
            print(f"{outcome.id} {name}: {outcome.verdict}; {outcome.measured} ({took:.0f} s)", flush=True)
    return outcomes


def report(options: argparse.Namespace, outcomes: list[verdicts.Outcome]) -> dict:
    version = subprocess.run([options.weir, "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return {
        "weir": version,
        "driver": options.io,
        "detection": "passive" if options.passive else "active",
        "gateways": "plain" if options.plain else "weir",
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "stories": {
            one.key: {
                "id": one.id,
                "promise": one.promise,
                "bound": one.bound,
                "measured": one.measured,
                "published_by_others": one.peers,
                "held": one.held,
                "runs": one.runs,
            }
            for one in outcomes
        },
    }


def main() -> int:
    options = arguments()
    refused = network.enter_private_network()
    if refused:
        raise SystemExit(f"lab: no network namespace of its own ({refused})")
    Weir.binary, Weir.driver = options.weir.resolve(), options.io

    def interrupted(number, frame):
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="weir-lab-"))
    detection = "passive detection" if options.passive else "health checks and ejection"
    print(f"lab: driver {options.io}, {detection}", flush=True)
    if wrong := refusal(directory, not options.passive):
        shutil.rmtree(directory)
        advice = "" if options.passive else "; --passive does without health checks and ejection"
        raise SystemExit(f"{wrong}lab: this executable does not take the node's configuration{advice}")
    try:
        outcomes = told(options, directory)
    except KeyboardInterrupt:
        print(f"lab: interrupted; files in {directory}", flush=True)
        return 130
    print()
    for line in verdicts.table(outcomes):
        print(line)
    late = max((run.get("late_s", 0) for one in outcomes for run in one.runs), default=0)
    print(f"\nThe probes themselves began up to {late:.2f} s late: as much of a gap may be this machine's.")
    if options.out:
        options.out.write_text(json.dumps(report(options, outcomes), indent=2) + "\n")
    broken = [one.key for one in outcomes if one.held is False]
    if broken:
        print(f"lab: broken: {', '.join(broken)}; files in {directory}")
        return 1
    shutil.rmtree(directory)
    print("lab: good")
    return 0


if __name__ == "__main__":
    sys.exit(main())
