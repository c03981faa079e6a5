"""What is measured: loads, and the figures that are read off each."""

from collections.abc import Callable
from dataclasses import dataclass

Report = dict


def cpu_seconds(report: Report) -> float:
    return sum(cost["cpu_seconds"] for cost in report["watched"])


def user_share(report: Report) -> float:
    """Of the CPU time, as the kernel splits it in ticks."""
    user = sum(cost["user_seconds"] for cost in report["watched"])
    system = sum(cost["system_seconds"] for cost in report["watched"])
    return user / (user + system) if user + system else 0


@dataclass(frozen=True)
class Figure:
    key: str
    title: str
    unit: str
    read: Callable[[Report], float | None]
    # Whether less is better.
    is_cost: bool = True
    # What the project aims at, as the ratio ours / theirs: at most for costs, at least otherwise.
    aims: tuple[tuple[str, float], ...] = ()
    # Only a proxy has it.
    is_of_proxy: bool = False


def latency(key: str) -> Callable[[Report], float | None]:
    def read(report: Report) -> float | None:
        found = report.get("latency_microseconds")
        return found[key] if found else None

    return read


def per_operation(scale: Callable[[Report], float]) -> Callable[[Report], float | None]:
    return lambda report: scale(report) * 1e6 / report["operations"] if report["operations"] else None


def cpu(aims: tuple[tuple[str, float], ...] = ()) -> Figure:
    return Figure("cpu", "CPU each", "us", per_operation(cpu_seconds), aims=aims, is_of_proxy=True)


def user_cpu() -> Figure:
    return Figure(
        "user", "of it in user space", "us", per_operation(lambda report: cpu_seconds(report) * user_share(report)),
        is_of_proxy=True,
    )


def rate(title: str) -> Figure:
    return Figure("rate", title, "/s", lambda report: report["operations_per_second"], is_cost=False)


def p50(best: bool = False) -> Figure:
    return Figure("p50", "p50", "us", latency("p50"), aims=(("best peer", 1.0),) if best else ())


def p99(best: bool = False) -> Figure:
    return Figure("p99", "p99", "us", latency("p99"), aims=(("best peer", 1.0),) if best else ())


P999 = Figure("p999", "p99.9", "us", latency("p999"))


def throughput() -> Figure:
    return Figure(
        "gbit", "throughput", "Gbit/s", lambda report: report["gigabits_per_second"], is_cost=False,
        aims=(("nginx", 3.5), ("haproxy", 3.5)),
    )


def cpu_per_gigabyte(aims: tuple[tuple[str, float], ...]) -> Figure:
    def read(report: Report) -> float | None:
        gigabytes = (report["bytes_down"] + report["bytes_up"]) / 1e9
        return cpu_seconds(report) / gigabytes if gigabytes else None

    return Figure("cpu_gb", "CPU seconds per GB", "s/GB", read, aims=aims, is_of_proxy=True)


@dataclass(frozen=True)
class Load:
    key: str
    title: str
    arguments: tuple[str, ...]
    figures: tuple[Figure, ...]
    is_bulk: bool = False
    # A tenth of what the first peer, or else we, reached in this load: its rate is added to the arguments.
    tenth_of: str | None = None
    seconds_more: float = 0


def loads(idle_count: int) -> list[Load]:
    short = (("nginx", 0.92), ("haproxy", 0.88), ("envoy", 0.57))
    few = (("nginx", 0.90), ("haproxy", 0.80), ("envoy", 0.70))
    many = (("nginx", 0.78), ("haproxy", 0.88), ("envoy", 0.50))
    one = (("nginx", 0.27), ("haproxy", 0.27), ("envoy", 0.55), ("haproxy-splice", 1.05))
    sixteen = (("nginx", 0.24), ("haproxy", 0.24), ("envoy", 0.35), ("haproxy-splice", 1.15))

    def messages(count: int, *figures: Figure) -> Load:
        return Load(
            f"messages-{count}", f"messages, {count} persistent connections",
            ("messages", "--concurrency", str(count)), figures)

    def bulk(count: int, direction: str, aims: tuple[tuple[str, float], ...]) -> Load:
        streams = "1 stream" if count == 1 else f"{count} streams"
        return Load(
            f"bulk-{count}-{direction}", f"bulk, {streams} {direction}",
            ("bulk", "--concurrency", str(count), "--direction", direction),
            (throughput(), cpu_per_gigabyte(aims)), is_bulk=True)

    return [
        Load("connections-128", "short connections, 128 at once", ("connections", "--concurrency", "128"),
             (rate("connections"), cpu(short), user_cpu(), p50(), p99(best=True))),
        Load("connections-1", "short connections, one after the other", ("connections", "--concurrency", "1"),
             (rate("connections"), cpu(), p50(best=True), p99())),
        Load("connections-tenth", "short connections at a tenth of the load", ("connections", "--concurrency", "2000"),
             (p50(), p99(best=True), P999), tenth_of="connections-128"),
        messages(1, rate("messages"), cpu(), p50(), p99(), P999),
        messages(64, rate("messages"), cpu(few), user_cpu(), p50(), p99(best=True), P999),
        messages(1000, rate("messages"), cpu(many), user_cpu(), p50(), p99(), P999),
        messages(idle_count, rate("messages"), cpu(), p50(), p99(), P999),
        Load("messages-tenth", "messages at a tenth of the load, 64 persistent connections",
             ("messages", "--concurrency", "64"), (p50(), p99(best=True), P999), tenth_of="messages-64"),
        bulk(1, "down", one),
        bulk(16, "down", sixteen),
        bulk(1, "up", one),
        bulk(16, "up", sixteen),
    ]
