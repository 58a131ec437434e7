"""How calls are, in words: a part of `kl2tp status`."""

from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any

from kl2tp.cli import table
from kl2tp.cli.table import Cell, Column
from kl2tp.cli.terminal import Paint, printable
from kl2tp.cli.units import counted, number

STATES = {
    "up": "green",
    "network": "cyan",
    "attaching": "cyan",
    "setup": "yellow",
    "dialing": "yellow",
    "waiting for IKE": "yellow",
    "stopped": "red",
    "closing": "dim",
}
"""Of sessions and of calls that we place."""
_COLUMNS = (
    Column("CALL", shrink=True),
    Column("STATE"),
    Column("SERVER"),
    Column("PROBLEM", shrink=True),
)
_NO_KEEPER = "none: calls end with the daemon; see: kl2tp doctor"
_STRANGERS = 5
"""The latest of those who tried in vain."""
_POOLS = 8
"""How many are shown: the fullest."""
_FULL = 0.9
"""Share of a pool from which on somebody should look at it."""
_WORRIES = {
    "refused": ("sccrq_refused", "unauthorized"),
    "dropped": ("malformed", "malformed_data", "unknown_tunnel", "strangers", "delayed", "evicted", "expired"),
    "kept out": ("in_clear", "of_another", "other_clients", "unknown_clients"),
    "errors": ("send_errors",),
}
"""Counters that say something when they are not 0, by what they have in common."""
_NAMES = {
    "sccrq_refused": "tunnels",
    "unauthorized": "without the secret",
    "send_errors": "packets not sent",
    "in_clear": "in clear",
    "of_another": "from another client's SA (by the kernel)",
    "other_clients": "from another client's SA",
    "unknown_clients": "from an SA that is nobody's",
}


def text(calls: Mapping[str, Any], paint: Paint, width: int | None) -> Iterator[str]:
    """Everything about calls but each session."""
    yield _sessions(calls, paint)
    yield from (f"  {label:11} {value}" for label, value in _facts(calls, paint))
    yield from (paint(f"  {printable(str(problem))}", "red") for problem in calls.get("problems") or ())
    if rows := calls.get("lac"):
        yield ""
        yield from table.render(_COLUMNS, [_row(row) for row in rows], paint, width)


def _sessions(calls: Mapping[str, Any], paint: Paint) -> str:
    counts = {state: int(count) for state, count in (calls.get("sessions") or {}).items()}
    total = sum(count for state, count in counts.items() if state != "dialing")  # which have no session yet
    where = f"Calls: {counted(total, 'session')} in {counted(int(calls.get('tunnels') or 0), 'tunnel')}"
    parts = [paint(f"{number(n)} {printable(s)}", STATES.get(s, "bold")) for s, n in counts.items() if n]
    if suspended := int(calls.get("suspended") or 0):
        parts.append(paint(f"{counted(suspended, 'tunnel')} without IPsec for now", "yellow"))
    return where + (f": {', '.join(parts)}" if parts else "")


def _facts(calls: Mapping[str, Any], paint: Paint) -> Iterator[tuple[str, str]]:
    if listening := calls.get("listening"):
        yield "listening", printable(", ".join(map(str, listening)))
    keeper = calls.get("keeper")
    yield "keeper", printable(str(keeper)) if keeper else paint(_NO_KEEPER, "yellow")
    if pools := calls.get("pools"):
        yield "pools", _pools(pools, paint)
    if mended := calls.get("mended"):
        yield "repaired", counted(int(mended), "session")
    counters = calls.get("counters") or {}
    for label, names in _WORRIES.items():
        parts = [f"{number(counters[n])} {_NAMES.get(n, n.replace('_', ' '))}" for n in names if counters.get(n)]
        if parts:
            yield label, ", ".join(parts)


def _pools(pools: Mapping[str, Mapping[str, Any]], paint: Paint) -> str:
    """The fullest pools, with how many of their addresses are taken."""
    shares = {name: pool["used"] / max(1, pool["size"]) for name, pool in pools.items()}
    fullest = sorted(shares, key=lambda name: (-shares[name], name))
    parts = [_pool(name, pools[name], shares[name], paint) for name in fullest[:_POOLS]]
    more = [f"{len(pools) - _POOLS} more"] if len(pools) > _POOLS else []
    return ", ".join(parts + more)


def _pool(name: str, pool: Mapping[str, Any], share: float, paint: Paint) -> str:
    words = f"{printable(name)} {number(pool['used'])} of {number(pool['size'])}"
    return paint(words, "red" if share >= 1 else "yellow") if share >= _FULL else words


def _row(row: Mapping[str, Any]) -> list[str | Cell]:
    state = str(row.get("state") or "-")
    return [
        str(row.get("name", "")),
        Cell(state, (STATES.get(state, "bold"),)),
        str(row.get("server") or ""),
        Cell(str(row.get("problem") or ""), ("red",)),
    ]


def not_negotiated(tunnels: Sized) -> str:
    """That there is no daemon to have IKE negotiated."""
    return f"IKE for {counted(len(tunnels), 'tunnel')} is the daemon's, which does not run; nothing passes in clear"


def ike(found: Mapping[str, Any], paint: Paint) -> Iterator[str]:
    """How strongSwan is, and who tries in vain."""
    version = printable(str(found.get("version") or "strongSwan"))
    if not found.get("alive"):
        yield paint(f"IKE: {version} does not answer: what it negotiated stays until it expires", "red")
        return
    yield f"IKE: {version}" + (f", {counted(n, 'client')}" if (n := int(found.get("clients") or 0)) else "")
    strangers = list(found.get("strangers") or ())[-_STRANGERS:]
    for stranger in strangers:
        times = f" ({number(stranger['times'])} times)" if int(stranger.get("times") or 0) > 1 else ""
        words = f"  refused {stranger.get('address')}: {stranger.get('problem')}{times}"
        yield paint(printable(words), "yellow")


def not_served(unserved: Mapping[str, Iterable[Any]]) -> str:
    """That there is no daemon to serve calls."""
    counts = [(len(list(unserved.get(kind) or ())), noun) for kind, noun in (("lns", "LNS profile"), ("lac", "call"))]
    which = " and ".join(counted(count, noun) for count, noun in counts if count)
    return f"Calls ({which}) are served by the daemon, which does not run"
