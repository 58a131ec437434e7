"""What IKE, and policies by address and port, must be able to tell apart: places, calls and tunnels."""

import zlib
from typing import TypeAlias

from kl2tp.config.call_scalars import Socket
from kl2tp.config.conflicts import CHARON_PORTS, Claim, Claims
from kl2tp.model import addr
from kl2tp.model.ike import LAC_REQID_BITS, LAC_REQIDS, IkeSpec

Call: TypeAlias = tuple[Socket, Socket, IkeSpec | None, Claim]
"""(local, remote, ike, claim); an empty local address and the port 0: any."""


class Places:
    """Where calls come in and go out, with and without IPsec."""

    def __init__(self, claims: Claims) -> None:
        self.claims = claims
        self._lns: list[tuple[Socket, IkeSpec | None, Claim]] = []
        self._lac: dict[Socket, list[Call]] = {}
        """By remote end."""
        self._tunnels: dict[tuple[bytes, int], list[tuple[int, bool, Claim]]] | None = None

    def reqid(self, name: str, given: int | None, claim: Claim) -> int:
        """The reqid of a call that we place: made of its name, so that it stays what it is when others come and go."""
        number = given or 0
        if given is None:
            mask = (1 << LAC_REQID_BITS) - 1
            number = zlib.crc32(name.encode()) & mask
            while ("", LAC_REQIDS + number) in self.claims.reqids:
                number = number + 1 & mask
            number += LAC_REQIDS
        self.claims.reqid("", number, claim)
        return number

    def lns(self, sockets: tuple[Socket, ...], ike: IkeSpec | None, claim: Claim) -> None:
        """Where a profile listens."""
        for socket in sockets:
            for other, its, first in self._lns:
                if first[1] != claim[1] and _same_address(socket, other):
                    self._agree(socket, other[1], ike, its, claim, first)
            self._lns.append((socket, ike, claim))
        if ike is not None:
            self.claims.charon = self.claims.charon or claim

    def _agree(
        self, socket: Socket, port: int, mine: IkeSpec | None, yours: IkeSpec | None, claim: Claim, first: Claim
    ) -> None:
        """Protection is by place, and IKE knows addresses alone: ports are negotiated when it is up."""
        if (mine is None) != (yours is None) and socket[1] == port:
            words = ("in clear", "in IPsec only") if mine is None else ("in IPsec only", "in clear")
            what = f"calls to {_text(socket)} are taken {words[0]} here, and {words[1]} by"
            self.claims.refuse(claim, first, what, "let both have ike, or listen at different addresses", "place")
        elif mine is not None and yours is not None and mine != yours:
            what = f"IKE can't tell which profile a peer at {_text(socket)} means: it is configured differently in"
            self.claims.refuse(
                claim, first, what, "give both the same ike (defaults.lns.ipsec), or other addresses", "ike"
            )

    def lac(self, local: Socket, remotes: tuple[Socket, ...], ike: IkeSpec | None, claim: Claim) -> None:
        """A call that we place."""
        for remote in remotes:
            call = (local, remote, ike, claim)
            others = self._lac.setdefault(remote, [])
            for other in others:
                self._apart(call, other)
            others.append(call)
            self._beside_tunnels(call)
        if ike is None:
            self._beside_places(local, claim)
        else:
            self.claims.charon = self.claims.charon or claim

    def _apart(self, call: Call, other: Call) -> None:
        """Policies are by the ends of a call: where both have the same, one set of them would serve two."""
        (local, remote, ike, claim), (its_local, _, its, first) = call, other
        if first[1] == claim[1] or (ike is None and its is None) or not _may_be_one(local, its_local):
            return
        how = "both in IPsec" if ike is not None and its is not None else "one in IPsec and one in clear"
        what = f"two calls to {_text(remote)} from ports that may be the same, {how}: there is also"
        self.claims.refuse(
            claim, first, what, "give each of them a local_port of its own, as in local_port: 1702", "twice"
        )

    def _beside_tunnels(self, call: Call) -> None:
        local, remote, ike, claim = call
        for port, protected, first in self._over_udp().get(remote, ()):
            if (ike is None and not protected) or local[1] not in (0, port):
                continue
            mine, yours = (
                ("in clear", "protected") if ike is None else ("in IPsec", "protected" if protected else "clear")
            )
            what = f"this call is {mine}, and to the same peer {_text(remote)} there is the {yours}"
            self.claims.refuse(
                claim, first, f"{what} tunnel", "give the tunnel other ports, as in ports: 20001/20001", "mixed"
            )

    def _over_udp(self) -> dict[tuple[bytes, int], list[tuple[int, bool, Claim]]]:
        """The tunnels over UDP in the daemon's namespace, by the peer's end: our port, whether protected, claim."""
        if self._tunnels is None:
            self._tunnels = {}
            for table, protected in ((self.claims.protected, True), (self.claims.clear, False)):
                for (netns, remote, ports), claim in table.items():
                    if ports != (0, 0) and not netns:
                        self._tunnels.setdefault((remote, ports[1]), []).append((ports[0], protected, claim))
        return self._tunnels

    def _beside_places(self, local: Socket, claim: Claim) -> None:
        """What leaves from a place of an LNS in IPsec leaves in IPsec or not at all."""
        for socket, ike, first in self._lns:
            if ike is not None and local[1] == socket[1] and (not local[0] or _same_address(local, socket)):
                what = f"this call is in clear, and from the same port {local[1]} calls are taken in IPsec only by"
                self.claims.refuse(claim, first, what, "local_port: auto; or give the call an ike", "place")
                return

    def finish(self) -> None:
        """charon has two UDP ports of its own, at every address."""
        if self.claims.charon is None:
            return
        sockets = [(socket, claim) for socket, _, claim in self._lns]
        sockets += [(local, claim) for calls in self._lac.values() for local, _, _, claim in calls]
        for (_, port), claim in sockets:
            if port in CHARON_PORTS:
                self.claims.refuse(
                    claim,
                    self.claims.charon,
                    f"the UDP port {port} is charon's, which serves",
                    "1701 is free",
                    "charon",
                )


def _same_address(one: Socket, other: Socket) -> bool:
    """Whether a packet can be for both."""
    if len(one[0]) != len(other[0]):
        return False
    return one[0] == other[0] or not any(one[0]) or not any(other[0])


def _may_be_one(one: Socket, other: Socket) -> bool:
    """Whether two local ends can be the same; no address and no port: any."""
    address = not one[0] or not other[0] or one[0] == other[0]
    return address and (one[1] == other[1] or not one[1] or not other[1])


def _text(socket: Socket) -> str:
    address, port = socket
    return f"{addr.text(address)} port {port}" if any(address) else f"port {port} of every address"
