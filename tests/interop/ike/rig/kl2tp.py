"""kl2tp on a host, with a charon that it configures: as LNS, as LAC, as an end of tunnels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interop.ike.rig.charon import QUICK, Charon
from interop.ike.rig.ways import CLIENT, PSK, SERVER, Authority, Way
from interop.rig import kl2tp
from interop.rig.process import PATIENCE_S, pids_of
from interop.rig.terms import Terms
from kernel.rig.conf import Tree
from kernel.rig.keeper import Keeper
from kernel.rig.net import Host
from kernel.rig.run import until
from kl2tp.kernel import precedence, xfrm

CHILD = "l2tp"
"""How kl2tp calls the SAs of all its connections."""


class Protected(kl2tp.Kl2tp):
    """A kl2tp and its charon, either of which may end and be started again; with a keeper, calls outlive it."""

    def _join(self, directory: Path, authority: Authority, more: str, *, keeper: bool) -> None:
        """To be called by all constructors."""
        self.charon = Charon(self.host, directory, more=more)
        self._authority = authority
        self._with_keeper = keeper
        self._keeper: Keeper | None = None

    # -- its files -------------------------------------------------------------------------------------------------

    def service(self) -> Tree:
        """The part of the configuration that is about the daemon."""
        return {"daemon": {"charon": f"unix://{self.charon.vici}"}}

    def ike(self, way: Way, own: str, peer: str = "", **more: Any) -> Tree:
        """What is to be negotiated; `own` and `peer` are names in certificates."""
        found: Tree = {"version": way.version, "auth": way.auth}
        if way.auth == "psk":
            return found | {"psk_file": self.secret_file("ike.psk", f"{PSK}\n")} | more
        given = self._authority.credentials(own)
        found |= {"certificate_file": str(given.certificate), "private_key_file": str(given.key)}
        found |= {"ca_file": str(given.ca), "local_id": own}
        return found | ({"remote_id": peer} if peer else {}) | more

    # -- its life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """charon first."""
        if not self.charon.runs:
            self.charon.start()
        if self._with_keeper and not self._keeper:
            self._start_keeper()
        super().start()

    def _start_keeper(self) -> None:
        self.unit.run_dir.mkdir()
        with self.host.entered():
            self._keeper = Keeper(self.unit.run_dir)

    def kill_daemon(self) -> None:
        """SIGKILL to the daemon alone."""
        print(self.daemon.log())
        self.daemon.close()

    def wait_settled(self, pairs: int = 1) -> None:
        """Until so many pairs of SAs of IKEv2 are used until their end, whatever comes beside them."""
        sock = self.host.netlink(xfrm.NETLINK_XFRM)
        until(lambda: len(list(precedence.preferred(sock))) >= pairs, self.daemon, PATIENCE_S)

    def dropped(self, what: str) -> int:
        """Packets that the kernel did not let in, as kl2tp shows them: `in_clear`, or `of_another` client's tunnel."""
        return int(self.daemon.call("status")["calls"]["counters"][what])

    def log(self) -> str:
        return super().log() + self.charon.log()

    def close(self) -> None:
        super().close()
        if self._keeper:
            self._keeper.process.wait()
        self.charon.close()


class IkeLns(Protected, kl2tp.Lns):
    """An LNS that takes every caller who knows the secret, or has a certificate."""

    def __init__(
        self,
        host: Host,
        directory: Path,
        terms: Terms,
        way: Way,
        authority: Authority,
        *,
        more: str = QUICK,
        keeper: bool = False,
        **ike: Any,
    ) -> None:
        kl2tp.Lns.__init__(self, host, directory, terms)
        self._join(directory, authority, more, keeper=keeper)
        self._way, self._ike = way, ike

    def tree(self) -> Tree:
        """As without IPsec, with it."""
        found = super().tree() | self.service()
        found["lns"][kl2tp.PROFILE]["ipsec"] = {"ike": self.ike(self._way, SERVER, **self._ike)}
        return found


class IkeLac(Protected, kl2tp.Lac):
    """A client of one LNS."""

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
        more: str = QUICK,
        keeper: bool = False,
        **ike: Any,
    ) -> None:
        kl2tp.Lac.__init__(self, host, directory, terms, server, number)
        self._join(directory, authority, more, keeper=keeper)
        self._way, self._ike = way, ike

    def tree(self) -> Tree:
        """As without IPsec, with it."""
        found = super().tree() | self.service()
        for call in found["lac"].values():
            call["ipsec"] = {"ike": self.ike(self._way, CLIENT, SERVER, **self._ike)}
        return found


class Site(Protected):
    """An end of declared tunnels."""

    def __init__(self, host: Host, directory: Path, authority: Authority, *, more: str = QUICK) -> None:
        super().__init__(host, directory, Terms())
        self._join(directory, authority, more, keeper=False)
        self.tunnels: Mapping[str, Tree] = {}

    def tree(self) -> Tree:
        """The tunnels."""
        return self.service() | {"tunnels": dict(self.tunnels)}


def daemons(host: Host) -> list[int]:
    """Processes of kl2tp on a host."""
    return pids_of(host, "kl2tp")
