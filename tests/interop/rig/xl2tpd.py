"""xl2tpd with pppd on a host, as LNS or as LAC. Each has its own files: any number of them run side by side."""

import os
import signal
from pathlib import Path

from interop.rig import points, pppd
from interop.rig.process import Program, kill_all, pids_of
from interop.rig.terms import LAC_NAME, LNS_ADDRESS, LNS_NAME, POOL_FIRST, POOL_LAST, Terms, password, user
from kernel.rig.net import Host

DAEMON = "/usr/sbin/xl2tpd"
ENTRY = "there"
"""The name of an LAC's only section."""
Section = dict[str, str]


def _yes(*conditions: tuple[str, bool]) -> Section:
    return {key: "yes" for key, condition in conditions if condition}


class Xl2tpd:
    """One xl2tpd on a host, with the pppds that it starts."""

    def __init__(self, host: Host, directory: Path, terms: Terms) -> None:
        self.host, self.terms = host, terms
        self.directory = directory / f"xl2tpd-{host.name}"
        self.directory.mkdir(exist_ok=True)
        self.address = f"192.0.2.{host.number}"
        """Ours."""
        self.program: Program | None = None

    # -- its files -------------------------------------------------------------------------------------------------

    def _sections(self) -> dict[str, Section]:
        raise NotImplementedError

    def _global(self) -> Section:
        return {"listen-addr": self.address, "auth file": str(self.directory / "l2tp-secrets")}

    def _control(self, name: str) -> Section:
        terms = self.terms
        found = {"hostname": name, "pppoptfile": str(self.directory / "options"), "length bit": "yes"}
        return found | _yes(
            ("challenge", bool(terms.secret)), ("hidden bit", terms.hidden), ("flow bit", terms.sequence)
        )

    def _write(self) -> Path:
        secrets = self.directory / "l2tp-secrets"
        secrets.touch(0o600)
        secrets.write_text(f"* * {self.terms.secret}\n" if self.terms.secret else "")
        lines = []
        for name, section in {"global": self._global(), **self._sections()}.items():
            lines += [f"[{name}]", *(f"{key} = {value}" for key, value in section.items())]
        return pppd.write(self.directory / "xl2tpd.conf", lines)

    # -- its life --------------------------------------------------------------------------------------------------

    def start(self, *, ready: bool = True) -> None:
        """Start it; with `ready` wait until it listens."""
        if self.program:
            self.program.close()
        config = str(self._write())
        control, pid = (str(self.directory / name) for name in ("control", "pid"))
        self.program = Program(self.host, [DAEMON, "-D", "-c", config, "-C", control, "-p", pid])
        if ready:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Until it listens."""
        self.running.wait_for("Listening on IP address")

    @property
    def running(self) -> Program:
        assert self.program, f"there is no xl2tpd on {self.host.name}"
        return self.program

    def stop(self) -> None:
        """SIGTERM: it says StopCCN on every tunnel and leaves."""
        self.running.terminate()

    def kill(self) -> None:
        """SIGKILL to xl2tpd and its pppds: the peer hears nothing."""
        kill_all(self.host)

    def hang_up(self) -> None:
        """End every call, with LCP Terminate-Request and CDN."""
        for pid in pids_of(self.host, "pppd"):
            os.kill(pid, signal.SIGTERM)

    @property
    def pppds(self) -> int:
        """How many pppds run."""
        return len(pids_of(self.host, "pppd"))

    def log(self) -> str:
        """What it and its pppds have said."""
        path = self.directory / "pppd.log"
        words = path.read_text(errors="replace") if path.exists() else ""
        return f"--- xl2tpd on {self.host.name}\n{self.program.output() if self.program else ''}--- its pppd\n{words}"

    def close(self) -> None:
        """End all of it."""
        kill_all(self.host)
        if self.program:
            self.program.close()


class Lns(Xl2tpd):
    """An LNS that takes every caller."""

    def _sections(self) -> dict[str, Section]:
        pppd.server_options(self.directory, self.terms)
        pool = {"ip range": f"{POOL_FIRST}-{POOL_LAST}", "local ip": LNS_ADDRESS}
        return {"lns default": pool | self._control(LNS_NAME)}


class Lac(Xl2tpd):
    """A client of one LNS: dials at once."""

    def __init__(self, host: Host, directory: Path, terms: Terms, server: Host, number: int = 1) -> None:
        super().__init__(host, directory, terms)
        self.server_address = f"192.0.2.{server.number}"
        self.user, self.password = user(number), password(number)

    def _sections(self) -> dict[str, Section]:
        pppd.client_options(self.directory, self.terms, self.user, self.password)
        dial = {"lns": self.server_address, "autodial": "yes", "redial": "no"}
        return {f"lac {ENTRY}": dial | self._control(LAC_NAME)}

    def wait_pppd_said(self, words: str) -> None:
        """Until the call has been cleared, and see that pppd knew why."""
        self.running.wait_for(r"Connection closed to|pppd exited for call")
        self.host.until(lambda: not points.ppp_devices(self.host))
        assert words in (self.directory / "pppd.log").read_text(), self.log()
