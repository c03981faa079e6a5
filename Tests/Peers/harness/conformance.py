"""The conformance table: what each vector came to, a column for every run of the suite that is on file."""

import dataclasses
import json
import pathlib

DRIVERS = ("uring", "epoll")


@dataclasses.dataclass
class Line:
    # The reactions of haproxy, nginx and weir; `-`: not compared.
    expected: str
    observed: str

    def verdict(self, subject: str) -> str:
        wanted = dict(zip(("haproxy", "nginx", "weir"), self.expected.split()))[subject.partition("-")[0]]
        return "not compared" if wanted == "-" else "" if wanted == self.observed else "DIFFERS"


def table(directory: pathlib.Path, run: str, lines: dict[str, Line]) -> list[str]:
    """The lines of this run, beside those of an earlier run on another driver (P-22); puts this run on file."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"conformance-{run}.json").write_text(json.dumps({key: line.observed for key, line in lines.items()}))
    columns = {run: {key: line.observed for key, line in lines.items()}}
    for other in (f"weir-{driver}" for driver in DRIVERS):
        path = directory / f"conformance-{other}.json"
        if run.startswith("weir") and other != run and path.exists():
            columns[other] = json.loads(path.read_text())

    def row(vector: str, expected: str, observed: list[str]) -> str:
        widths = [10] * 3 + [max(len(name), 10) for name in columns]
        words = [f"{word:<{width}}" for word, width in zip((*expected.split(), *observed), widths)]
        return " ".join([f"{vector:<60}", *words]).rstrip()

    found = [row("vector", "haproxy nginx weir", list(columns))]
    for vector, line in lines.items():
        observed = [column.get(vector, "not run") for column in columns.values()]
        notes = {line.verdict(run), "DRIVERS DIFFER" if len(set(observed) - {"not run"}) > 1 else ""} - {""}
        found.append(row(vector, line.expected, observed) + "".join(f"  <-- {note}" for note in sorted(notes)))
    return found
