"""The daemon and the keeper with no more rights than their units give them: calls come up, outlive them, and end."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from kernel.conftest import Bench
from kernel.rig import confined
from kernel.rig.net import Host, Late
from kernel.rig.run import Unit
from kl2tp.cli.client import Answer, connect
from kl2tp.keeper.protocol import SOCKET

pytestmark = pytest.mark.skipif(not confined.available(), reason="libseccomp and systemd-analyze are not installed")

SOURCE = Path(__file__).parents[2] / "src"
LIBRARIES = [path for path in sys.path if path.endswith("site-packages")]
PYTHON = "/usr/bin/python3"
START_S = 60.0
NODE = Path("/dev/ppp")


class Service:
    """One of the units, on a host, as systemd would run it."""

    def __init__(self, name: str, unit: Unit, user: int, *arguments: str) -> None:
        self.name = name
        self._log = unit.directory / f"{name}.log"
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = unit.directory / f"notify-{name}"
        path.unlink(missing_ok=True)
        self._notify.bind(str(path))
        path.chmod(0o777)
        self._notify.settimeout(START_S)
        environment = {
            "PYTHONPATH": ":".join([str(SOURCE), *LIBRARIES]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NOTIFY_SOCKET": str(path),
            "PATH": os.environ["PATH"],
        }
        command = [PYTHON if user else sys.executable, "-m", "kl2tp", name, "--run-dir", str(unit.run_dir), *arguments]
        left = confined.rights("kl2tp-keeper.service" if name == "keeper" else "kl2tp.service")
        with unit.host.entered(), self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, preexec_fn=confined.confine(left, user)
            )
        self._wait_ready()

    def _wait_ready(self) -> None:
        try:
            while b"READY=1" not in self._notify.recv(4096):
                pass
        except TimeoutError:
            self.kill()
            raise AssertionError(f"the {self.name} does not begin: {self.log()}") from None

    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._notify.close()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30.0)
        finally:
            self._notify.close()


def eventually(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + START_S
    while not true():
        if time.monotonic() > deadline:
            raise Late(what)
        time.sleep(0.05)


@pytest.fixture
def user() -> Iterator[int]:
    """Who the services are: somebody who owns nothing, where there is a Python that all can run."""
    before = NODE.stat()
    found = confined.USER if _python_for_all() else 0
    os.chown(NODE, 0, found)
    NODE.chmod(0o660)  # what udev's rule does
    yield found
    os.chown(NODE, before.st_uid, before.st_gid)
    NODE.chmod(before.st_mode & 0o777)


def _python_for_all() -> bool:
    """Whether the system's Python can use our libraries: ours may be in somebody's home, where others cannot come."""
    try:
        said = subprocess.check_output([PYTHON, "-c", "import sys; print(*sys.version_info[:2])"], text=True)
    except OSError:
        return False
    return said.split() == [str(number) for number in sys.version_info[:2]]


def write(path: Path, text: str, user: int, mode: int = 0o600) -> str:
    """A file of this user's."""
    path.write_text(text)
    path.chmod(mode)
    os.chown(path, user, user)
    return str(path)


@pytest.fixture
def lns(bench: Bench, user: int) -> Unit:
    """A configuration, and directories as systemd makes them."""
    unit = bench.near
    for path in (unit.directory, bench.directory, *list(bench.directory.parents)[:-1]):
        path.chmod(0o755)
    for directory in (unit.run_dir, unit.state_dir):
        directory.mkdir(mode=0o700)
        os.chown(directory, user, user)
    told = unit.state_dir / "told"
    tree = {
        "users": write(unit.directory / "chap-secrets", 'anna * "open sesame" *\n', user),
        "lns": {
            "office": {
                "listen": f"192.0.2.{unit.host.number}",
                "control": {"secret_file": write(unit.directory / "l2tp-secrets", "* * swordfish\n", user)},
                "ppp": {"local": "10.9.0.1", "pool": "10.9.0.0/24", "pool6": "2001:db8:9::/56", "auth": "mschapv2"},
                "hooks": {"up": write(unit.directory / "hook", HOOK.format(told), user, 0o700)},
            }
        },
    }
    write(unit.config, yaml.safe_dump(tree), user)
    return unit


HOOK = '#!/bin/sh\necho "$KL2TP_USER $KL2TP_ADDRESS" >> {}\n'


def configure_call(unit: Unit, server: Host) -> None:
    """A call to the LNS."""
    profile = {
        "remote": f"192.0.2.{server.number}",
        "user": "anna",
        "password_file": write(unit.directory / "password", "open sesame\n", 0),
        "control": {"secret_file": write(unit.directory / "l2tp-secrets", "* * swordfish\n", 0)},
        "ppp": {"auth": "mschapv2", "ipv6": True},
        "interface": "hq",
    }
    unit.config.write_text(yaml.safe_dump({"lac": {"hq": profile}}))


def session(unit: Unit) -> Answer:
    """The one session; empty if there is none, or none that is up."""
    daemon = connect(str(unit.run_dir))
    found = daemon.call("sessions", counters=False)["sessions"] if daemon else []
    return dict(found[0]) if [row["state"] for row in found] == ["up"] else {}


def answers(host: Host, address: str) -> bool:
    command = ["ping", "-q", "-c", "3", "-i", "0.01", address]
    with host.entered():
        return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_calls_work_with_the_rights_of_the_units(bench: Bench, lns: Unit, user: int) -> None:
    configure_call(bench.far, lns.host)
    place = ("--config", str(lns.config), "--state-dir", str(lns.state_dir))
    told = lns.state_dir / "told"
    with contextlib.ExitStack() as stack:
        keeper = Service("keeper", lns, user)
        stack.callback(keeper.kill)
        daemon = Service("daemon", lns, user, *place)
        stack.callback(daemon.kill)
        assert os.stat(f"/proc/{daemon.process.pid}").st_uid == user
        stack.enter_context(bench.far.daemon(forked=True))
        eventually(lambda: session(lns) and session(bench.far), "the call comes up")
        before = session(lns)
        assert (before["user"], before["address"]) == ("anna", "10.9.0.2")
        assert answers(bench.far.host, "10.9.0.1"), daemon.log()
        eventually(told.exists, "the hook has run")
        assert told.read_text() == "anna 10.9.0.2\n"
        daemon.kill()
        assert answers(bench.far.host, "10.9.0.1")
        daemon = Service("daemon", lns, user, *place)
        stack.callback(daemon.kill)
        assert session(lns) == before
        assert answers(bench.far.host, "10.9.0.1")
        assert daemon.stop() == 0, daemon.log()
        assert keeper.stop() == 0
    assert json.loads((lns.state_dir / "pools.json").read_text())
    assert not (lns.run_dir / SOCKET).exists()
    bad = [line for line in daemon.log().splitlines() if line.startswith(("<3>", "<4>")) or "Traceback" in line]
    assert bad == []


TRIES = """\
import os, socket
def refused(call, *arguments):
    try:
        call(*arguments)
    except OSError:
        return True
print(refused(socket.socket, socket.AF_PACKET), refused(os.chroot, "/"), refused(os.setpriority, 0, 0, -5))
print(refused(socket.socket, socket.AF_INET), refused(os.getpid))
"""


def test_the_confinement_of_these_tests_is_one() -> None:
    before = confined.confine(confined.rights("kl2tp.service"), 0)
    said = subprocess.check_output([sys.executable, "-c", TRIES], preexec_fn=before, text=True)
    assert said.split() == ["True", "True", "True", "None", "None"]
