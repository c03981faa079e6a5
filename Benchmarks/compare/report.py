"""The table, the rows and the charts."""

import csv
import pathlib
import statistics
from dataclasses import dataclass

from compare.figures import Figure


@dataclass
class Series:
    """One figure of one load: by subject, the values of the rounds in order; None where a round has none."""

    load_key: str
    load_title: str
    figure: Figure
    values: dict[str, list[float | None]]

    def median(self, subject: str) -> float | None:
        found = [value for value in self.values.get(subject, []) if value is not None]
        return statistics.median(found) if found else None

    def ratios(self, ours: str, theirs: str) -> list[float]:
        """Ours over theirs, round by round."""
        pairs = zip(self.values.get(ours, []), self.values.get(theirs, []), strict=False)
        return [a / b for a, b in pairs if a is not None and b]

    def best_peer(self, peers: list[str]) -> str | None:
        known = [(self.median(peer), peer) for peer in peers if self.median(peer) is not None]
        if not known:
            return None
        return (min(known) if self.figure.is_cost else max(known))[1]


def number(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def spread(values: list[float | None]) -> str:
    found = [value for value in values if value is not None]
    if not found:
        return "-"
    return f"{number(statistics.median(found))} ({number(min(found))}-{number(max(found))})"


def table(all_series: list[Series], ours: str, peers: list[str], subjects: list[str]) -> str:
    """Markdown: what was measured, then how it compares with what is aimed at."""
    lines = []
    for key in dict.fromkeys(series.load_key for series in all_series):
        group = [series for series in all_series if series.load_key == key]
        lines += ["", f"### {group[0].load_title}", ""]
        shown = [name for name in subjects if any(name in series.values for series in group)]
        heads = [f"{series.figure.title}, {series.figure.unit}" for series in group]
        lines.append("| | " + " | ".join(heads) + " |")
        lines.append("|---|" + "---|" * len(heads))
        for name in shown:
            cells = [spread(series.values.get(name, [])) for series in group]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", f"### {ours} over its peers, round by round", ""]
    lines += ["| load | figure | peer | median | rounds | aim |", "|---|---|---|---|---|---|"]
    for series in all_series:
        for peer in peers:
            ratios = series.ratios(ours, peer)
            if not ratios:
                continue
            lines.append(_ratio_row(series, peer, peer, ratios, dict(series.figure.aims).get(peer)))
        best = series.best_peer(peers)
        aim = dict(series.figure.aims).get("best peer")
        if best and aim and series.ratios(ours, best):
            lines.append(_ratio_row(series, best, f"best peer ({best})", series.ratios(ours, best), aim))
    return "\n".join(lines).lstrip("\n") + "\n"


def _ratio_row(series: Series, peer: str, shown: str, ratios: list[float], aim: float | None) -> str:
    middle = statistics.median(ratios)
    verdict = ""
    if aim is not None:
        is_met = middle <= aim if series.figure.is_cost else middle >= aim
        verdict = f"{'at most' if series.figure.is_cost else 'at least'} {aim:.2f}: {'met' if is_met else 'missed'}"
    return (
        f"| {series.load_key} | {series.figure.title} | {shown} | {middle:.2f} | "
        f"{min(ratios):.2f}-{max(ratios):.2f} | {verdict} |"
    )


def write_rows(path: pathlib.Path, all_series: list[Series]) -> None:
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["load", "figure", "unit", "subject", "round", "value"])
        for series in all_series:
            for subject, values in series.values.items():
                for index, value in enumerate(values):
                    shown = "" if value is None else f"{value:.6g}"
                    rows.writerow([series.load_key, series.figure.key, series.figure.unit, subject, index + 1, shown])


def write_charts(directory: pathlib.Path, all_series: list[Series], subjects: list[str], footer: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plot

    directory.mkdir(parents=True, exist_ok=True)
    for series in all_series:
        names = [name for name in subjects if series.median(name) is not None]
        if not names:
            continue
        middles = [series.median(name) for name in names]
        low = [middle - min(v for v in series.values[name] if v is not None) for name, middle in zip(names, middles)]
        high = [max(v for v in series.values[name] if v is not None) - middle for name, middle in zip(names, middles)]
        figure, axes = plot.subplots(figsize=(7, 0.9 + 0.38 * len(names)))
        colors = ["#1f6feb" if name.startswith("weir") else "#9aa4b2" for name in names]
        axes.barh(names, middles, xerr=[low, high], color=colors, error_kw={"ecolor": "#555", "capsize": 3})
        axes.invert_yaxis()
        direction = "less is better" if series.figure.is_cost else "more is better"
        axes.set_title(f"{series.load_title}: {series.figure.title}", fontsize=10, loc="left")
        axes.set_xlabel(f"{series.figure.unit}; median, least and most of the rounds; {direction}\n{footer}", fontsize=7)
        axes.tick_params(labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.tight_layout()
        figure.savefig(directory / f"{series.load_key}-{series.figure.key}.svg")
        plot.close(figure)
