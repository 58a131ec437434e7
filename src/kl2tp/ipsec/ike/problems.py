"""What is in the way of each connection, and who failed without being of one: bounded, whatever the world sends."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from kl2tp.ipsec.ike.causes import Finding
from kl2tp.ipsec.ike.connections import selector
from kl2tp.ipsec.ike.negotiation import Cause, CauseKind, ChildSa, Stranger
from kl2tp.ipsec.ike.wanted import PREFIX, Wanted
from kl2tp.model.addr import text
from kl2tp.model.spec import Mode

_log = logging.getLogger("kl2tp.ike")
STRANGERS = 100
HINT_S = 3.0
"""How long a hint may come before the end that it explains: charon's log and its events come by different ways."""


class Problems:
    """Causes by connection, and by address."""

    def __init__(self) -> None:
        self.loading: Mapping[str, Cause] = {}
        """Of connections that charon does not have as wanted."""
        self._wanted: Mapping[str, Wanted] = {}
        self._by_remote: dict[str, list[str]] = {}
        self._last: dict[str, tuple[Cause, bool]] = {}
        """Cause, and whether it was the end of an attempt, by connection."""
        self._hints: dict[str, Cause] = {}
        self._strangers: OrderedDict[str, Stranger] = OrderedDict()

    def want(self, wanted: Mapping[str, Wanted]) -> None:
        """These are the connections from now on."""
        self._wanted = wanted
        self._last = {name: known for name, known in self._last.items() if name in wanted}
        self._hints = {name: known for name, known in self._hints.items() if name in wanted}
        self._by_remote = {}
        for name, want in wanted.items():
            if want.remote:
                self._by_remote.setdefault(text(want.remote), []).append(name)

    def of(self, name: str, children: tuple[ChildSa, ...]) -> Cause | None:
        """What is in the way of a connection with these children."""
        if (cause := self.loading.get(name)) is not None:
            return cause
        want = self._wanted.get(name)
        live = [child for child in children if not child.orphaned]
        if want is not None and live:
            return _other_mode(want, live[0])
        return self._last[name][0] if name in self._last else None

    @property
    def strangers(self) -> tuple[Stranger, ...]:
        """The latest last."""
        return tuple(self._strangers.values())

    def up(self, name: str) -> None:
        """It works now."""
        self._last.pop(name, None)
        self._hints.pop(name, None)

    def known(self, address: str) -> None:
        """Somebody at this address has an IPsec SA now."""
        self._strangers.pop(address, None)

    def down(self, name: str, now: float) -> None:
        """It has ended; if a hint came just before, that was the reason."""
        hint = self._hints.pop(name, None)
        if hint is not None and now - hint.when <= HINT_S and name not in self._last:
            self._set(name, hint, final=False)

    def found(self, finding: Finding, is_live: Callable[[str], bool]) -> list[str]:
        """The connections that a finding is about."""
        concerned = list(self._concerned(finding))
        touched = [name for name in concerned if not self._wanted[name].many]
        for name in touched:
            cause = self._completed(name, finding.cause)
            if is_live(name):
                self._hints[name] = cause  # about an SA that others replace, or that ends in a moment
            elif self._weightier(name, finding):
                self._set(name, cause, final=finding.final)
        if not touched and (concerned or not finding.name):
            self._strange(finding)
        return touched

    def _concerned(self, finding: Finding) -> Iterator[str]:
        """By name, or by the peer's address."""
        if finding.name.startswith(PREFIX):
            if finding.name in self._wanted:
                yield finding.name
        elif not finding.name:
            yield from self._by_remote.get(finding.peer, ())

    def _weightier(self, name: str, finding: Finding) -> bool:
        """Whether it says more than what is known: a hint says less than the end of the same attempt."""
        known = self._last.get(name)
        return known is None or finding.final or not known[1]

    def _set(self, name: str, cause: Cause, *, final: bool) -> None:
        before = self._last.get(name)
        self._last[name] = (cause, final)
        if before is None or (before[0].kind, before[0].text) != (cause.kind, cause.text):
            _log.warning("%s: %s%s", name.removeprefix(PREFIX), cause.text, f"; {cause.cure}" if cause.cure else "")

    def fail(self, name: str, cause: Cause) -> None:
        """An attempt failed before charon could log anything of it."""
        self._set(name, cause, final=True)

    def _completed(self, name: str, cause: Cause) -> Cause:
        """With our side of it, where charon's log has only the peer's."""
        want = self._wanted[name]
        if cause.detail("ours"):
            return cause
        if cause.kind is CauseKind.NO_PROPOSAL:
            offered = want.spec.esp_proposals if cause.detail("layer") == "IPsec" else want.spec.proposals
            return replace(cause, details=(*cause.details, ("ours", ", ".join(offered))))
        if cause.kind is CauseKind.TS_UNACCEPTABLE:
            traffic = want.traffic
            ends = [selector(traffic.protocol, port) for port in (traffic.local_port, traffic.remote_port)]
            return replace(cause, details=(*cause.details, ("ours", " === ".join(ends))))
        return cause

    def _strange(self, finding: Finding) -> None:
        """A failure of somebody who is no one tunnel's peer."""
        address = finding.peer
        if not address or finding.cause.kind is CauseKind.CLOSED:
            return
        known = self._strangers.pop(address, None)
        if known is None or known.cause.text != finding.cause.text:
            _log.info("%s: %s", address, finding.cause.text)
        self._strangers[address] = Stranger(address, finding.cause, known.times + 1 if known else 1)
        if len(self._strangers) > STRANGERS:
            self._strangers.popitem(last=False)


def _other_mode(want: Wanted, child: ChildSa) -> Cause | None:
    """The peer may choose tunnel mode where transport mode was offered; then our policies don't take the SA."""
    if child.transport == (want.spec.mode is Mode.TRANSPORT):
        return None
    theirs, ours = ("transport", "tunnel") if child.transport else ("tunnel", "transport")
    return Cause(
        CauseKind.MODE,
        f"the IPsec SA is in {theirs} mode, as the peer wants it, not in {ours} mode",
        f"configure {ours} mode at the peer",
        (("ours", ours), ("theirs", theirs), ("peer", text(child.remote))),
        child.since,
        by_peer=True,
    )
