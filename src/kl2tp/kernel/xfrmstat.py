"""What the kernel counts of packets that IPsec did not let through: /proc/net/xfrm_stat, for each namespace."""

from collections.abc import Mapping

from kl2tp.kernel import netns

_PATH = "/proc/thread-self/net/xfrm_stat"


def read(name: str = "") -> dict[str, int]:
    """The counters of a namespace by name (XfrmInNoStates...); {} where the kernel has none. Raises NoNamespace."""
    with netns.entered(name):
        try:
            with open(_PATH, encoding="ascii") as file:
                lines = [line.split() for line in file]
        except FileNotFoundError:
            return {}
    return {fields[0]: int(fields[1]) for fields in lines if len(fields) == 2 and fields[1].isdecimal()}


def grown(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """By how much counters have grown, of those that have."""
    return {name: value - before.get(name, 0) for name, value in now.items() if value > before.get(name, 0)}
