"""The demo itself, step by step."""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator

from demo import kernel, network, speed
from demo.calls import Calls
from demo.host import ROOT, Host, wait_until
from demo.paper import Failed, Paper
from demo.traffic import MARKER, Flow, ping, send_clear
from demo.wire import Capture, Packet
from kl2tp.model.ciphers import find
from kl2tp.model.overhead import Stack
from kl2tp.model.spec import Encap

MADRID, LISBON = "10.64.1.2", "10.64.2.2"
"""The branches' ends of the tunnels."""
MADRID_TUNNEL = 1001
"""The hub's tunnel and session id for Madrid."""
_FLOW_S = 0.01
_OVERLAP_S = 3
"""As in the configuration files."""


def main() -> int:
    """Run the demo; the exit status."""
    if os.geteuid() != 0:
        print("the demo makes network namespaces and tunnels: run it as root, in the lab: make demo", file=sys.stderr)
        return 1
    paper = Paper()
    try:
        with Demo(paper).standing() as demo:
            try:
                demo.run()
            except BaseException:
                demo.show_logs()
                raise
    except (Failed, OSError, OverflowError) as error:
        paper.end(f"The demo failed: {error}", good=False)
        return 1
    paper.end("All of it worked", good=True)
    return 0


class Demo:
    """The hosts, and what happens to them."""

    def __init__(self, paper: Paper) -> None:
        self.paper = paper
        self.network = network.Network()
        self.hosts = {name: Host(name, paper) for name in network.SITES}
        self.hub, self.madrid, self.lisbon = self.hosts.values()
        self._stack = contextlib.ExitStack()
        self._sentinel: Capture
        self._before: dict[str, kernel.Inventory] = {}

    @contextlib.contextmanager
    def standing(self) -> Iterator["Demo"]:
        """The machine as it was, afterwards, whatever happened."""
        with self._stack:
            ROOT.mkdir(mode=0o700)
            self._stack.callback(shutil.rmtree, ROOT, ignore_errors=True)
            self._stack.callback(self.network.remove)
            self._stack.callback(self._stop_daemons)
            yield self

    def show_logs(self) -> None:
        """What was logged and not yet shown: where the demo fails, that may tell why."""
        for host in self.hosts.values():
            host.show_log()

    def _stop_daemons(self) -> None:
        for host in self.hosts.values():
            host.stop_daemon()

    def run(self) -> None:
        """Every step."""
        self.build()
        self.declare()
        self.make_keys()
        self.bring_up()
        self.ping_through()
        self.look()
        self.measure_overhead()
        self.measure_throughput()
        self.repair()
        self.survive()
        self.attack()
        self.change_key()
        self.take_down()
        calls = Calls(self.paper, tuple(self.hosts.values()), self._before)
        self._stack.callback(calls.stop)
        calls.run()

    # -- steps -----------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """The network."""
        self.paper.step("Three hosts and an internet between them, in network namespaces")
        self.network.build()
        self._before = {name: kernel.inventory(name) for name in self.hosts}
        self.paper.lines(network.picture())
        self.paper.say(
            f"""Kernel tunnels, real packets: nothing here is simulated; this is Linux {os.uname().release}. Commands
            are printed as on a machine of its own: `kl2tp status`. Three hosts share this one, so what runs is, say:"""
        )
        self.paper.lines([f"  ip netns exec hub kl2tp status --config {self.hub.config} --run-dir {self.hub.run_dir}"])
        self.paper.say("From now on the router looks out for L2TP in clear. That it would see it:")
        self._sentinel = self._stack.enter_context(Capture(only_clear=True))
        send_clear("hub", network.SITES["madrid"])
        self.paper.check(len(self._sentinel.packets()) == 2, "two packets sent in clear on purpose, both were seen")

    def declare(self) -> None:
        """The configuration."""
        self.paper.step("What shall be: one YAML file on each host")
        for host in self.hosts.values():
            host.set_up()
            host.show_file(host.config)
        self.hub.kl2tp("validate")

    def make_keys(self) -> None:
        """Key files."""
        self.paper.step("Keys: a file for each tunnel, the same on both ends")
        for branch in (self.madrid, self.lisbon):
            file = self.hub.keys / f"{branch.name}.key"
            self.hub.kl2tp(f"genkey --output {file}")
            self._hand_over(branch)
        self.paper.say(
            """Each file goes to its branch (by scp, in life). The keys and SPIs of both directions and the cookies are
            derived from it."""
        )

    def _hand_over(self, branch: Host) -> None:
        shutil.copy(self.hub.keys / f"{branch.name}.key", self.hub.directory / "key.tmp")
        os.replace(self.hub.directory / "key.tmp", branch.keys / "hub.key")

    def bring_up(self) -> None:
        """Plan, apply, apply again, daemons."""
        self.paper.step("Plan, apply, and apply again")
        self.hub.kl2tp("plan")
        self.paper.check(kernel.inventory("hub") == self._before["hub"], "planning touched nothing")
        self.hub.kl2tp("apply --quiet")
        self.hub.kl2tp("apply")
        self.paper.say("""The same by the daemon, which also keeps it so. At the hub it finds all as it should be.""")
        for host in self.hosts.values():
            self.paper.command(host.name, "systemctl start kl2tp    # that is: kl2tp daemon")
            host.start_daemon()
        for host in self.hosts.values():
            host.await_up()
            host.show_log()

    def ping_through(self) -> None:
        """Pings, and what the router saw of them."""
        self.paper.step("Ping through, with somebody listening")
        with Capture() as wire:
            for address in (MADRID, LISBON):
                self.paper.command("hub", f"ping -c 20 {address}")
                tally = ping("hub", address, 20)
                self.paper.lines([str(tally)])
                self.paper.check(not tally.lost, f"{address} answers")
            packets = wire.packets()
        self.paper.say("What the router between them saw:")
        self.paper.lines(packet.line() for packet in (*packets[:2], *packets[-2:]))
        self._show_counts(packets)

    def _show_counts(self, packets: list[Packet]) -> None:
        esp = sum(packet.kind == "esp" for packet in packets)
        clear = sum(packet.kind != "esp" for packet in packets)
        legible = sum(MARKER in packet.data for packet in packets)
        self.paper.lines(
            network.picture(
                [
                    "",
                    f"  on the wires: {esp} packets encrypted (ESP), {clear} packets in clear,",
                    f"  {legible} in which the text of the pings can be read",
                ]
            )
        )
        self.paper.check(esp >= 80 and not clear and not legible, f"{esp} encrypted, 0 in clear")

    def look(self) -> None:
        """Status and show."""
        self.paper.step("How are the tunnels?")
        self.hub.kl2tp("status")
        self.hub.kl2tp("show madrid")

    def measure_overhead(self) -> None:
        """Layers, and a packet of the largest size on the wire."""
        self.paper.step("What it costs: every layer, byte for byte")
        self.hub.kl2tp("mtu --cookie 8 --cipher aes256gcm16")
        stack = Stack(encap=Encap.IP, cookie=8, cipher=find("aes256gcm16"))
        mtu = stack.mtu(network.MTU)
        with Capture() as wire:
            tally = ping("hub", MADRID, 1, length=mtu)
            lengths = {len(packet.data) for packet in wire.packets()}
        said, seen = stack.outer_length(mtu), ", ".join(map(str, sorted(lengths)))
        self.paper.say(f"A ping of {mtu} bytes through madrid0, and its echo, on the wire: {seen} bytes each.")
        self.paper.check(not tally.lost and lengths == {said}, f"the wire has what was computed: {said} bytes", seen)

    def measure_throughput(self) -> None:
        """With and without IPsec, with and without a tunnel."""
        self.paper.step("How fast, and where the time goes")
        self.paper.say(
            """To compare, a second tunnel to Lisbon without IPsec: a file in conf.d on both ends, and a reload. Only
            what is new is touched."""
        )
        self.hub.add_config("clear")
        self.hub.show_file(self.hub.directory / "conf.d" / "clear.yaml")
        self.lisbon.add_config("clear")
        self.hub.kl2tp("reload")
        self.lisbon.kl2tp("reload")
        for host in (self.hub, self.lisbon):
            host.await_up()
        speed.compare(self.paper)

    def repair(self) -> None:
        """A session deleted by somebody else."""
        self.paper.step("Somebody deletes a session behind kl2tp's back")
        self.paper.command("hub", f"ip l2tp del session tunnel_id {MADRID_TUNNEL} session_id {MADRID_TUNNEL}")
        time.sleep(0.1)  # what the last step has left in the log
        self.hub.new_log()
        before, seen = kernel.inventory("hub"), self._drift_seen()
        kernel.delete_session("hub", MADRID_TUNNEL, MADRID_TUNNEL)
        took = wait_until(lambda: _answers(MADRID), "madrid to answer again")
        wait_until(lambda: self._drift_seen() > seen, "the daemon to notice")
        self.hub.show_log()
        self.paper.check(
            took < 1 and kernel.inventory("hub") == before,
            f"{1000 * took:.0f} ms after the deletion madrid answered again, by a new session",
        )

    def _drift_seen(self) -> int:
        """How many tunnels the hub's daemon found changed."""
        return int((self.hub.ask("status") or {})["drift"]["seen"])

    def survive(self) -> None:
        """kill -9, and a new daemon."""
        self.paper.step("The daemon is killed: the tunnels are the kernel's, and stay")
        flow = Flow("hub", LISBON, interval_s=_FLOW_S)
        flow.start()
        self.paper.command("hub", f"kill -9 {self.hub.pid}")
        self.hub.signal(signal.SIGKILL)
        time.sleep(0.2)
        self.paper.command("hub", "systemctl start kl2tp")
        self.hub.start_daemon()
        self.hub.await_up()
        tally = flow.stop()
        self.hub.show_log()
        self.hub.kl2tp("apply")
        self.paper.lines([f"ping of lisbon all the time: {tally}"])
        self.paper.check(not tally.lost, "no packet lost without the daemon, nor when it came back")

    def attack(self) -> None:
        """The SPD flushed while the daemon can do nothing."""
        self.paper.step("All IPsec policies are flushed, while the daemon is stopped")
        before = kernel.policies("hub")
        seen, dropped = self._drift_seen(), kernel.dropped("hub", "guard_out")
        self.paper.command("hub", f"kill -STOP {self.hub.pid}; ip xfrm policy flush; ping -c 100 {MADRID}")
        with Capture() as wire:
            self.hub.signal(signal.SIGSTOP)
            kernel.flush_policies("hub")
            left = kernel.policies("hub")
            tally = ping("hub", MADRID, 100, patience_s=0.002)
            time.sleep(0.05)
            packets = wire.packets()
            dropped = kernel.dropped("hub", "guard_out") - dropped
            self.hub.signal(signal.SIGCONT)
            took = wait_until(lambda: kernel.policies("hub") == before, "the repair of the policies")
            wait_until(lambda: _answers(MADRID), "madrid to answer again")
            after = wire.counts()
        wait_until(lambda: self._drift_seen() >= seen + 2, "the daemon to note both tunnels")
        self.paper.lines([str(tally)])
        self.paper.check(left == 0 and tally.lost == 100, f"{before} policies were gone, nothing passed")
        leaked = [packet for packet in packets if packet.kind == "l2tp" or MARKER in packet.data]
        self.paper.check(
            not leaked and dropped >= 100,
            f"0 packets leaked: the nftables guard dropped all {dropped}",
            "; ".join(packet.line() for packet in leaked[:3]),
        )
        self.hub.show_log()
        self.paper.check(took < 1, f"all policies were back {1000 * took:.0f} ms after the daemon could run again")
        self.paper.check(after["esp"] > 0 and not after["l2tp"], "and so is madrid, by ESP only")

    def change_key(self) -> None:
        """New keys under load."""
        self.paper.step("A new key for Madrid, while packets flow")
        old = self._spis()[0]
        flow = Flow("hub", MADRID, interval_s=_FLOW_S)
        with Capture() as wire:
            flow.start()
            self.hub.replace_key(self.hub.keys / "madrid.key")
            self._hand_over(self.madrid)
            self.paper.say(f"The file goes to Madrid, and within `overlap`, here {_OVERLAP_S} s, both reload:")
            for host in (self.hub, self.madrid):
                self.paper.command(host.name, "systemctl reload kl2tp    # that is: SIGHUP")
            for host in (self.hub, self.madrid):
                host.signal(signal.SIGHUP)
            new = self._await_new_keys(old)
            time.sleep(0.2)
            tally = flow.stop()
            counts = wire.counts()
        self.hub.show_log()
        self.paper.lines([f"ping of madrid all the time: {tally}"])
        self.paper.check(
            not old & new, f"old SPIs {_hex(old)}, new ones {_hex(new)}: both worked side by side for a while"
        )
        self.paper.check(not tally.lost, f"no packet was lost of {tally.sent}")
        self.paper.check(
            counts["esp"] >= 2 * tally.sent and not counts["l2tp"],
            f"{counts['esp']} ESP packets on the wire, 0 in clear",
        )

    def _await_new_keys(self, old: set[int]) -> set[int]:
        """Wait until both hosts have both keys, then until both have the new one alone: its SPIs. Raises Failed."""

        wait_until(lambda: any(found > old for found in self._spis()), "a host to take the new key")
        took = wait_until(lambda: all(found > old for found in self._spis()), "both hosts to take the new key")
        if took > _OVERLAP_S:
            raise Failed(f"this machine is too slow: {took:.0f} s between the reloads of the two hosts")
        wait_until(lambda: not any(found & old for found in self._spis()), "the old keys to go")
        return self._spis()[0]

    def _spis(self) -> list[set[int]]:
        """The SPIs between the hub and Madrid, at both."""
        ends = (network.SITES["hub"], network.SITES["madrid"])
        return [kernel.spis(host.name, *ends) for host in (self.hub, self.madrid)]

    def take_down(self) -> None:
        """kl2tp down."""
        self.paper.step("All down, nothing left")
        self.hub.kl2tp("down --yes")
        self.madrid.kl2tp("down --yes --quiet")
        self.lisbon.kl2tp("down --yes --quiet")
        self._stop_daemons()
        found = {name: kernel.inventory(name) for name in self.hosts}
        self.paper.say(
            "What the kernel has now, counted by dumps (devices: lo and eth0; routes: those with kl2tp's number):"
        )
        self.paper.lines(
            [
                " " * 10 + "".join(f"{column:>12}" for column in kernel.Inventory.COLUMNS),
                *(f"  {name:8}" + "".join(f"{n:12}" for n in counts) for name, counts in found.items()),
            ]
        )
        self.paper.check(found == self._before, "just what it had before the first command: nothing is left")
        clear = self._sentinel.packets()
        self.paper.check(
            not clear,
            "and since the first tunnel not one packet of a protected tunnel was on a wire in clear",
            "; ".join(packet.line() for packet in clear[:3]),
        )
        self._sentinel.close()


def _answers(address: str) -> bool:
    """Whether a branch answers the hub."""
    try:
        return not ping("hub", address, 1, patience_s=0.02).lost
    except OSError:  # no route, as its interface is away
        return False


def _hex(spis: set[int]) -> str:
    return " and ".join(f"{spi:#010x}" for spi in sorted(spis))
