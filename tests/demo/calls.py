"""The second part of the demo: the hub serves callers, as xl2tpd and pppd would."""

import secrets
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from demo import kernel, network, xl2tpd
from demo.host import Host
from demo.paper import Paper
from demo.traffic import Flow, ping
from kl2tp.cli.client import Answer

_FLOW_S = 0.01
_IDENTITY = ("session", "user", "interface", "address", "prefix", "peer", "since")
"""What stays of a session while the daemon is away."""


class Calls:
    """An LNS and its callers, on the hosts of the first part."""

    def __init__(self, paper: Paper, hosts: Sequence[Host], before: Mapping[str, kernel.Inventory]) -> None:
        self.paper = paper
        self.hub, self.madrid, self.lisbon = hosts
        self._before = before
        self._xl2tpd = xl2tpd.Xl2tpd(self.lisbon)
        self._passwords = {user: secrets.token_urlsafe(9) for user in ("anna", "ines")}

    def run(self) -> None:
        """Every step."""
        self.declare()
        self.call()
        self.look()
        self.survive()
        self.end()

    def stop(self) -> None:
        """Whatever still runs."""
        self._xl2tpd.stop()
        for host in (self.madrid, self.lisbon, self.hub):
            host.stop_daemon()
        self.hub.stop_keeper()

    # -- steps -----------------------------------------------------------------------------------------------------

    def declare(self) -> None:
        """Configurations and passwords."""
        self.paper.step("Calls: the hub becomes an LNS, for clients that dial in by L2TPv2 and PPP")
        shared = secrets.token_urlsafe(9)
        users = "".join(f'{user:6} *  "{password}"  *\n' for user, password in self._passwords.items())
        self.hub.write_secret("users", users)
        self.madrid.write_secret("anna.password", self._passwords["anna"] + "\n")
        self.lisbon.write_secret("ines.password", self._passwords["ines"] + "\n")
        for host in (self.hub, self.madrid, self.lisbon):
            host.write_secret("l2tp-secrets", f"* * {shared}\n")
            host.replace_config("calls")
        self._xl2tpd.set_up(self._passwords["ines"])
        network.allow_ipv6()
        self.hub.show_file(self.hub.config)
        self.madrid.show_file(self.madrid.config)
        self.hub.show_file(self._lisbons_file)
        self.hub.kl2tp("validate")

    @property
    def _lisbons_file(self) -> Path:
        return self._xl2tpd.config if xl2tpd.installed() else self.lisbon.config

    def call(self) -> None:
        """Two callers."""
        self.paper.step("Two clients call")
        self.hub.new_log()  # what the first part has left in it
        self.paper.command("hub", "systemctl start kl2tp-keeper kl2tp    # that is: kl2tp keeper, kl2tp daemon")
        self.hub.start_keeper()
        self.hub.start_daemon()
        self.paper.command("madrid", "systemctl start kl2tp")
        self.madrid.start_daemon()
        self.hub.await_answer()
        if xl2tpd.installed():
            self.paper.command("lisbon", "systemctl start xl2tpd    # Debian's, with a pppd")
            self._xl2tpd.start()
        else:
            self.paper.command("lisbon", "systemctl start kl2tp    # xl2tpd and pppd, were they installed")
            self.lisbon.start_daemon()
        for host, count in ((self.madrid, 1), (self.hub, 2)):
            host.await_sessions(count)
        self.hub.show_log()
        self.paper.check(
            {row["user"] for row in self.hub.sessions()} == self._passwords.keys(),
            "each is in by name and password, tunnel secret and challenge; none costs a process",
        )

    def look(self) -> None:
        """Who is there, and pings."""
        self.paper.step("Who is connected?")
        self.hub.kl2tp("sessions")
        for row in self.hub.sessions():
            self.paper.command("hub", f"ping -c 20 {row['address']}    # {row['user']}")
            tally = ping("hub", row["address"], 20)
            self.paper.lines([str(tally)])
            self.paper.check(not tally.lost, f"{row['user']} answers")
        self.hub.kl2tp("show anna")
        self.hub.kl2tp("status")

    def survive(self) -> None:
        """kill -9, and a new daemon."""
        self.paper.step("The LNS is killed in the middle of it: its calls go on")
        before = self.hub.sessions()
        flows = [Flow("hub", row["address"], interval_s=_FLOW_S) for row in before]
        for flow in flows:
            flow.start()
        self.paper.command("hub", f"kill -9 {self.hub.pid}")
        self.hub.signal(signal.SIGKILL)
        time.sleep(0.2)
        self.paper.command("hub", "systemctl start kl2tp")
        self.hub.start_daemon()
        self.hub.await_sessions(len(before))
        tallies = [flow.stop() for flow in flows]
        self.hub.show_log()
        self.hub.kl2tp("sessions")
        self.paper.check(_identities(self.hub.sessions()) == _identities(before), "the same sessions as before")
        self.paper.lines(
            f"ping of {row['user']} all the time: {tally}" for row, tally in zip(before, tallies, strict=True)
        )
        sent, lost = sum(tally.sent for tally in tallies), sum(tally.lost for tally in tallies)
        self.paper.check(not lost, f"{lost} packets lost of {sent}, while there was no daemon and when it came back")

    def end(self) -> None:
        """Disconnect one, stop all."""
        self.paper.step("The end of calls: by the operator, by a client, by the LNS")
        self.hub.kl2tp("disconnect ines --reason 'closing time'")
        self.hub.await_sessions(1)
        self.paper.command("madrid", "systemctl stop kl2tp")
        self.madrid.stop_daemon()
        self.hub.await_sessions(0)
        self.hub.kl2tp("sessions --ended")
        self.paper.command("hub", "systemctl stop kl2tp kl2tp-keeper")
        self.stop()
        found = {host.name: kernel.inventory(host.name) for host in (self.hub, self.madrid, self.lisbon)}
        self.paper.check(found == self._before, "no tunnel, no session, no device is left, on any host", str(found))


def _identities(rows: Sequence[Answer]) -> list[list[object]]:
    return sorted([row[key] for key in _IDENTITY] for row in rows)
