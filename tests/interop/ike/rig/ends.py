"""Ends of calls that are protected by IKE: each of the ordinary ones, with a charon on its host."""

from pathlib import Path

from interop.ike.rig import debian
from interop.ike.rig.charon import QUICK, Charon
from interop.ike.rig.ways import CLIENT, SERVER, Authority, Way
from interop.rig import xl2tpd
from interop.rig.terms import Terms
from kernel.rig.net import Host


class DebianLns(xl2tpd.Lns):
    """strongSwan, xl2tpd and pppd that take calls."""

    def __init__(
        self, host: Host, directory: Path, terms: Terms, way: Way, authority: Authority, *, more: str = QUICK
    ) -> None:
        super().__init__(host, directory, terms)
        own = authority.credentials(SERVER) if way.auth == "cert" else None
        self.charon = Charon(host, directory, debian.server(way, self.address, own), more=more)

    def start(self, *, ready: bool = True) -> None:
        """charon first."""
        self.charon.start()
        super().start(ready=ready)

    def log(self) -> str:
        return super().log() + self.charon.log()

    def close(self) -> None:
        super().close()
        self.charon.close()


class DebianLac(xl2tpd.Lac):
    """strongSwan, xl2tpd and pppd that call."""

    def __init__(
        self,
        host: Host,
        directory: Path,
        terms: Terms,
        server: Host,
        way: Way,
        authority: Authority,
        number: int = 1,
        *,
        address: str = "",
        more: str = QUICK,
        auto: str = "",
    ) -> None:
        """`address` is its own where that is not the one on the wire; `auto` as in ipsec.conf."""
        super().__init__(host, directory, terms, server, number)
        self.address = address or self.address
        self._told = way.version == 1 and not auto
        own = authority.credentials(CLIENT) if way.auth == "cert" else None
        self.charon = Charon(host, directory, debian.client(way, self.server_address, own, auto=auto), more=more)

    def start(self, *, ready: bool = True) -> None:
        """charon first; then `ipsec up` where that is what users do."""
        self.charon.start()
        if self._told:
            self.charon.stroke("up", debian.CONNECTION)
        super().start(ready=ready)

    def log(self) -> str:
        return super().log() + self.charon.log()

    def close(self) -> None:
        super().close()
        self.charon.close()
