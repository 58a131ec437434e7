"""Results as a table for people and as JSON for programs."""

from collections.abc import Callable, Sequence
from typing import Any

Values = dict[str, Any]

_MS, _S = 1000.0, 1.0


def ratio(values: Values, name: str, other: str) -> float | None:
    """One time in terms of another; None where one was not measured."""
    if name not in values or not values.get(other):
        return None
    return float(values[name] / values[other])


def _without_load(values: Values) -> float | None:
    """Apply without reading the configuration, in terms of the floor, which reads nothing either."""
    if not {"apply_s", "load_set_s", "floor_apply_s"} <= values.keys():
        return None
    return float((values["apply_s"] - values["load_set_s"]) / values["floor_apply_s"])


def document(results: Sequence[Values], kernel: Values) -> Values:
    """The figures that others ask for by name, and everything else by size."""
    by_size = {(r["size"], r["encap"]): r for r in results}
    chosen = by_size.get((1000, "ip")) or results[-1]
    largest = max((r for r in results if r["encap"] == "ip"), key=lambda r: r["size"])
    whole = by_size.get((10000, "ip"), {})
    summary = {
        "apply_1000_ratio_to_floor": ratio(chosen, "apply_s", "floor_apply_s"),
        "apply_1000_ratio_to_ip_batch": ratio(chosen, "apply_s", "ip_apply_s"),
        "apply_1000_ratio_to_floor_without_load": _without_load(chosen),
        "second_apply_changes": max((r["second_apply_changes"] for r in results if "apply_s" in r), default=None),
        "second_apply_cpu_ms": chosen["second_apply_cpu_s"] * _MS if "apply_s" in chosen else None,
        "drift_injected": largest.get("drift_injected"),
        "drift_repaired": largest.get("drift_repaired"),
        "drift_repair_max_s": largest.get("drift_repair_max_s"),
        "rss_10000_mb": whole.get("rss_mb"),
        "rss_peak_10000_mb": whole.get("rss_peak_mb"),
        "loop_stall_max_ms": max((r["loop_stall_max_ms"] for r in results if "start_s" in r), default=None),
        "load_10000_cpu_s": whole.get("load_cpu_s"),
    }
    return {"kernel": kernel, **summary, "measured_at": chosen["size"], "sizes": list(results)}


_Cell = Callable[[Values], str]


def _time(name: str) -> _Cell:
    """A time with its CPU share, in milliseconds or seconds."""

    def cell(values: Values) -> str:
        if f"{name}_s" not in values:
            return "-"
        wall, cpu = values[f"{name}_s"], values.get(f"{name}_cpu_s")
        text = _duration(wall)
        return f"{text} ({_duration(cpu)})" if cpu is not None else text

    return cell


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * _MS:.0f} ms"


def _ratio(name: str, other: str) -> _Cell:
    def cell(values: Values) -> str:
        found = ratio(values, name, other)
        return "-" if found is None else f"{found:.2f}"

    return cell


def _number(name: str, unit: str = "", digits: int = 0) -> _Cell:
    def cell(values: Values) -> str:
        return "-" if values.get(name) is None else f"{values[name]:,.{digits}f}{unit}"

    return cell


def _drift(values: Values) -> str:
    if "drift_injected" not in values:
        return "-"
    return f"{values['drift_repaired']} of {values['drift_injected']}"


_ROWS: tuple[tuple[str, _Cell], ...] = (
    ("read the configuration: a set", _time("load_set")),
    ("read the configuration: written out", _time("load")),
    ("kl2tp apply", _time("apply")),
    ("  changes sent", _number("apply_sent")),
    ("ip -batch, nft -f", _time("ip_apply")),
    ("floor", _time("floor_apply")),
    ("  kl2tp / floor", _ratio("apply_s", "floor_apply_s")),
    ("  kl2tp without reading / floor", lambda v: "-" if (r := _without_load(v)) is None else f"{r:.2f}"),
    ("  kl2tp / ip -batch", _ratio("apply_s", "ip_apply_s")),
    ("second apply", _time("second_apply")),
    ("  changes", _number("second_apply_changes")),
    ("kl2tp down", _time("down")),
    ("ip -batch, nft -f", _time("ip_down")),
    ("floor", _time("floor_down")),
    ("  kl2tp / floor", _ratio("down_s", "floor_down_s")),
    ("daemon: start until all is up", _time("start")),
    ("daemon: second apply", _time("daemon_second_apply")),
    ("  changes", _number("daemon_second_apply_changes")),
    ("daemon: drifts repaired", _drift),
    ("  slowest, from change to repair", _time("drift_repair_max")),
    ("daemon: reload of 1 %", _time("reload")),
    ("daemon: status of all", _time("status")),
    ("daemon: down", _time("daemon_down")),
    ("daemon: RSS", _number("rss_mb", " MB", 1)),
    ("daemon: peak RSS", _number("rss_peak_mb", " MB", 1)),
    ("event loop's longest stall: start", _number("stall_start_ms", " ms", 1)),
    ("  start, drift, reload, status", _number("loop_stall_max_ms", " ms", 1)),
    ("  down", _number("stall_down_ms", " ms", 1)),
)


def table(results: Sequence[Values], kernel: Values) -> str:
    """Aligned columns, one for each size; CPU time in parentheses."""
    head = ["", *(f"{r['size']:,} {r['encap']}" for r in results)]
    rows = [[label, *(cell(r) for r in results)] for label, cell in _ROWS]
    rows = [head, *(row for row in rows if any(cell != "-" for cell in row[1:]))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    where = f"kernel {kernel['release']} ({kernel['kind']}, {kernel['processors']} processor)"
    return "\n".join([f"tunnels on {where}; wall time (CPU time)", "", *lines])
