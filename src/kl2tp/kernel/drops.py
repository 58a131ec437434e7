"""Rules of nftables that drop packets, whoever made them, and what they have counted: is a firewall in the way?"""

import errno
from collections.abc import Iterator, Mapping, Sequence

from kl2tp.kernel.netlink import KernelError, Netlink, attribute_list, attributes
from kl2tp.kernel.nftrules import GETCHAIN, GETRULE, TABLE
from kl2tp.model.value import dataclass

_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
_TABLE, _CHAIN, _RULE_CHAIN, _HANDLE, _EXPRESSIONS = 1, 3, 2, 3, 4
_HOOK, _POLICY, _COUNTERS = 4, 5, 6
_DROP = 0


@dataclass(frozen=True, slots=True)
class Dropping:
    """A rule, or the policy of a chain, that drops."""

    where: str
    """`inet filter input`: family, table, chain."""
    handle: int
    """0: the chain's policy."""
    hook: str
    """`input`...; "" for a chain that others jump to."""
    packets: int | None
    """None: it does not count."""
    ours: bool = False

    @property
    def show(self) -> str:
        """The command that shows it."""
        return f"nft -a list chain {self.where}"


def read(sock: Netlink) -> list[Dropping]:
    """All of them; [] where there is no nftables. The work is that of dumping the rules."""
    try:
        chains = list(_chains(sock))
        hooks = {where: hook for where, hook, _, _ in chains}
        found = [Dropping(where, 0, hook, packets, _is_ours(where)) for where, hook, drops, packets in chains if drops]
        found += list(_rules(sock, hooks))
    except KernelError as error:
        if error.code in (errno.ENOENT, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL):
            return []
        raise
    return found


def _is_ours(where: str) -> bool:
    return where.split()[1] == TABLE


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")


def _dump(sock: Netlink, kind: int) -> Iterator[tuple[str, dict[int, bytes]]]:
    """(family, attributes) of all chains or rules."""
    for reply in sock.dump(kind, bytes(4)):
        yield _FAMILIES.get(reply.payload[0], str(reply.payload[0])), attributes(reply.payload, 4)


def _chains(sock: Netlink) -> Iterator[tuple[str, str, bool, int | None]]:
    """(where, hook, whether it drops what no rule decides, packets that it counted)."""
    for family, fields in _dump(sock, GETCHAIN):
        hook = attributes(fields.get(_HOOK, b"")).get(1)
        number = int.from_bytes(hook) if hook is not None else -1
        name = _HOOKS[number] if 0 <= number < len(_HOOKS) else ""
        drops = _POLICY in fields and int.from_bytes(fields[_POLICY]) == _DROP and hook is not None
        counted = attributes(fields.get(_COUNTERS, b"")).get(2)
        where = f"{family} {_text(fields.get(_TABLE, b''))} {_text(fields.get(_CHAIN, b''))}"
        yield where, name, drops, int.from_bytes(counted) if counted is not None else None


def _rules(sock: Netlink, hooks: Mapping[str, str]) -> Iterator[Dropping]:
    for family, fields in _dump(sock, GETRULE):
        drops, packets = _verdict(fields.get(_EXPRESSIONS, b""))
        if drops:
            where = f"{family} {_text(fields.get(_TABLE, b''))} {_text(fields.get(_RULE_CHAIN, b''))}"
            handle = int.from_bytes(fields.get(_HANDLE, b""))
            yield Dropping(where, handle, hooks.get(where, ""), packets, _is_ours(where))


def _verdict(body: bytes) -> tuple[bool, int | None]:
    """Whether a rule drops or rejects, and what it has counted."""
    drops, packets = False, None
    for _, raw in attribute_list(body):
        fields = attributes(raw)
        name, data = _text(fields.get(1, b"")), attributes(fields.get(2, b""))
        if name == "reject":
            drops = True
        elif name == "immediate":
            verdict = attributes(attributes(data.get(2, b"")).get(2, b"")).get(1)
            drops = drops or (verdict is not None and int.from_bytes(verdict) == _DROP)
        elif name == "counter":
            packets = (packets or 0) + int.from_bytes(data.get(2, b""))
    return drops, packets


def grown(before: Sequence[Dropping], now: Sequence[Dropping]) -> list[tuple[Dropping, int]]:
    """Those that have dropped something between, and how much."""
    old = {(drop.where, drop.handle): drop.packets or 0 for drop in before}
    found = [(drop, (drop.packets or 0) - old.get((drop.where, drop.handle), 0)) for drop in now]
    return [(drop, count) for drop, count in found if count > 0]
