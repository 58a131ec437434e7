"""charon on a host, as Debian installs it: each sees a /run and an /etc/swanctl, ipsec.conf ... of its own.

It is started by starter where there is an ipsec.conf, otherwise by itself and `swanctl --load-all`.
"""

import contextlib
import ctypes
import functools
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

from interop.rig.process import PATIENCE_S, Program, kill_all, pids_of
from kernel.rig.net import Host
from kl2tp.kernel import xfrm

LIBEXEC = Path("/usr/lib/ipsec")
_CLONE_NEWNS = 0x20000
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)

_CONF = """\
charon {{
    load_modular = yes
    plugins {{
        include /etc/strongswan.d/charon/*.conf
    }}
    filelog {{
        file {{
            path = {log}
            time_format = %H:%M:%S
            time_add_ms = yes
            ike_name = yes
            flush_line = yes
        }}
        stderr {{
            default = -1
            job = 1
            cfg = {cfg}
        }}
    }}
{more}
}}
"""
QUICK = """\
    retransmit_timeout = 1.0
    retransmit_base = 1.4
    retransmit_tries = 4
"""
"""A peer that is gone is given up after seven seconds; by default it takes nearly three minutes."""
_DIRECTORIES = {
    "swanctl": (
        *("conf.d", "private", "rsa", "ecdsa", "bliss", "pkcs8", "pkcs12", "pubkey"),
        *("x509", "x509ca", "x509aa", "x509ac", "x509crl", "x509ocsp"),
    ),
    "ipsec.d": ("cacerts", "aacerts", "ocspcerts", "acerts", "crls", "certs", "private", "policies"),
}
_FILES = ("strongswan.conf", "ipsec.conf", "ipsec.secrets")
Files = Mapping[str, str]
"""Text by its path below /etc."""


def _mount(source: str, target: str, flags: int) -> None:
    if _libc.mount(os.fsencode(source), os.fsencode(target), None, flags, None) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mount {source} {target}: {os.strerror(code)}")


class Charon:
    """One charon on a host, which may end and be started again."""

    def __init__(self, host: Host, directory: Path, files: Files | None = None, *, more: str = QUICK) -> None:
        self.host = host
        self.directory = directory / f"charon-{host.name}"
        self.run = self.directory / "run"
        self._etc = self.directory / "etc"
        self._log = self.directory / "charon.log"
        self._more = more
        self._program: Program | None = None
        files = files or {}
        self._starter = "ipsec.conf" in files
        self._swanctl = "swanctl/swanctl.conf" in files
        self._write(files)

    def _write(self, files: Files) -> None:
        self.run.mkdir(parents=True)
        for name, parts in _DIRECTORIES.items():
            for part in parts:
                (self._etc / name / part).mkdir(parents=True)
        conf = _CONF.format(log=self._log, cfg=1 if self._starter else -1, more=self._more)
        for name, text in {**dict.fromkeys(_FILES, ""), **files, "strongswan.conf": conf}.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        """A file below /etc."""
        path = self._etc / name
        path.touch(0o600)
        path.write_text(text)

    @property
    def vici(self) -> Path:
        """The socket through which charon is configured, as others see it."""
        return self.run / "charon.vici"

    # -- its life --------------------------------------------------------------------------------------------------

    def _at_home(self) -> None:
        """In the child: its own /run and /etc."""
        if _libc.unshare(_CLONE_NEWNS) < 0:
            raise OSError(ctypes.get_errno(), "unshare")
        _mount("none", "/", _MS_REC | _MS_PRIVATE)
        _mount(str(self.run), "/run", _MS_BIND)
        for name in (*_FILES, *_DIRECTORIES):
            _mount(str(self._etc / name), f"/etc/{name}", _MS_BIND)

    def start(self) -> None:
        """Start it, and wait until it has its configuration."""
        if self._program:
            self._program.close()
        starter = [str(LIBEXEC / "starter"), "--nofork"]
        command = starter if self._starter else [str(LIBEXEC / "charon")]
        self._program = Program(self.host, command, prepare=self._at_home)
        self._program.wait_for("spawning [0-9]+ worker threads")
        for _ in re.findall(r"^conn (?!%)", (self._etc / "ipsec.conf").read_text(), re.MULTILINE):
            self._program.wait_for("added configuration")
        if self._swanctl:
            self.swanctl("--load-all")

    @property
    def pid(self) -> int:
        """Of charon itself."""
        (pid,) = pids_of(self.host, "charon")
        return pid

    @property
    def runs(self) -> bool:
        """Whether there is one."""
        return bool(pids_of(self.host, "charon"))

    def kill(self) -> None:
        """SIGKILL: it leaves its SAs in the kernel, and tells nobody."""
        if self._starter:
            kill_all(self.host, "starter")  # who would start another one
        kill_all(self.host, "charon")

    def stop(self) -> None:
        """SIGTERM: it deletes its SAs, and tells the peers."""
        assert self._program
        self._program.terminate()

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End all of it."""
        self.kill()
        if self._program:
            self._program.close()
            self._program = None

    def log(self) -> str:
        """What it has said."""
        words = self._log.read_text(errors="replace") if self._log.exists() else ""
        stderr = self._program.output() if self._program else ""
        return f"--- charon on {self.host.name}\n{stderr if self._starter else ''}{words}"

    # -- as its operator -------------------------------------------------------------------------------------------

    def _run(self, *command: str, within: float) -> str:
        with self.host.entered():
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=within, check=False, preexec_fn=self._at_home
            )
        assert not done.returncode, f"{command}: {done.returncode}: {done.stdout}{done.stderr}{self.log()}"
        return done.stdout

    def swanctl(self, *arguments: str, within: float = PATIENCE_S) -> str:
        """`swanctl`; what it wrote. It must succeed."""
        return self._run("/usr/sbin/swanctl", *arguments, within=within)

    def stroke(self, *arguments: str, within: float = PATIENCE_S) -> str:
        """What `ipsec up NAME` and the like are; what it wrote."""
        return self._run(str(LIBEXEC / "stroke"), *arguments, within=within)

    def rekey(self, child: str = "l2tp") -> None:
        """New keys now for all SAs of that name."""
        self.swanctl("--rekey", "--child", child)


# -- SAs as the kernel has them ------------------------------------------------------------------------------------


def associations(host: Host) -> dict[int, int]:
    """Reqids of all ESP SAs of a host, by SPI."""
    replies = list(host.netlink(xfrm.NETLINK_XFRM).dump(xfrm.GETSA, b""))
    found = [xfrm.decode_sa("", reply.payload, str) for reply in replies]
    return {sa.spi: sa.reqid for sa in found if sa}


@contextlib.contextmanager
def renewed(*hosts: Host, within: float = PATIENCE_S) -> Iterator[None]:
    """What the block does gives each host a new pair of SAs; the old ones may still be there."""
    before = [associations(host).keys() for host in hosts]
    yield
    for host, old in zip(hosts, before, strict=True):
        host.until(functools.partial(_is_renewed, host, old), within)


def _is_renewed(host: Host, old: Set[int]) -> bool:
    return len(associations(host).keys() - old) >= 2
