"""Reloads, measured: what clients meet while the configuration is exchanged a thousand times under load, and what the
process keeps after ten thousand reloads of a large file. `tools/reloads` is how to run it; docs/TESTING.md says more.
"""

import argparse
import dataclasses
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "Tests/Peers"))

import reload_stories as stories
from harness import network
from harness.weir import Weir

EPILOG = "stories, by name or by identifier:\n" + "\n".join(
    f"  {name:<12}{story.__doc__}" for name, story in stories.STORIES.items()
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="reloads", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stories", nargs="*", metavar="STORY", help="these only (default: all)")
    parser.add_argument("--io", choices=("uring", "epoll"), action="append", help="one driver (default: both)")
    parser.add_argument("--reloads", type=int, help="under load (default: 1,000, one every 100 ms)")
    parser.add_argument("--large-reloads", type=int, help="of the large file (default: 10,000)")
    parser.add_argument("--routes", type=int, help="in the large file (default: 10,000)")
    parser.add_argument(
        "--weir",
        type=pathlib.Path,
        default=REPOSITORY / ".build/release/weir",
        help="this executable; nothing is built",
    )
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="the table as JSON")
    options = parser.parse_args()
    if not options.weir.exists():
        parser.error(f"{options.weir} does not exist")
    options.chosen = [
        story
        for name, story in stories.STORIES.items()
        if not options.stories or {name, stories.id_of(story)} & set(options.stories)
    ]
    if not options.chosen:
        parser.error("no such story; --help lists them")
    given = {key: getattr(options, key) for key in ("reloads", "large_reloads", "routes")}
    if any(value is not None and value < 1 for value in given.values()):
        parser.error("a number is 1 at least")
    options.pace = dataclasses.replace(stories.Pace(), **{key: value for key, value in given.items() if value})
    return options


def table(rows: list[tuple[str, stories.Row]]) -> list[str]:
    cells = [("id", "driver", "promised", "aim", "verdict", "here")]
    words = {True: "held", False: "BROKEN", None: "-"}
    cells += [(row.id, driver, row.promise, row.aim, words[row.held], row.measured) for driver, row in rows]
    widths = [max(len(cell[column]) for cell in cells) for column in range(5)]
    return ["  ".join([*(f"{text:<{width}}" for text, width in zip(cell, widths)), cell[5]]) for cell in cells]


def main() -> int:
    options = arguments()
    refused = network.enter_private_network()
    if refused:
        raise SystemExit(f"reloads: no network namespace of its own ({refused})")
    Weir.binary = options.weir.resolve()

    def interrupted(number, frame):
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="weir-reloads-"))
    rows: list[tuple[str, stories.Row]] = []
    try:
        for driver in options.io or ("uring", "epoll"):
            Weir.driver = driver
            (directory / driver).mkdir()
            for story in options.chosen:
                print(f"reloads: {driver}, {story.__doc__}", flush=True)
                rows += [(driver, row) for row in story(directory / driver, options.pace)]
    except KeyboardInterrupt:
        print(f"reloads: interrupted; files in {directory}", flush=True)
        return 130
    except AssertionError as failure:
        print(f"reloads: {failure}; files in {directory}")
        return 1
    print()
    for line in table(rows):
        print(line)
    if options.out:
        version = subprocess.run([options.weir, "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
        found = [{"driver": driver, **row._asdict()} for driver, row in rows]
        options.out.write_text(json.dumps({"weir": version.strip(), "rows": found}, indent=2) + "\n")
    if any(row.held is False for _, row in rows):
        print(f"\nreloads: broken; files in {directory}")
        return 1
    shutil.rmtree(directory)
    print("\nreloads: good")
    return 0


if __name__ == "__main__":
    sys.exit(main())
