"""kl2tp on a host, as LNS or as LAC."""

from pathlib import Path
from typing import Any

import yaml

from interop.rig.process import kill_all
from interop.rig.terms import (
    LAC_NAME,
    LNS_ADDRESS,
    LNS_NAME,
    POOL_FIRST,
    POOL_LAST,
    USERS,
    Terms,
    password,
    user,
)
from kernel.rig.conf import Tree
from kernel.rig.net import Host
from kernel.rig.run import Daemon, Unit

PROFILE = "office"
CALL = "there{}"


class Kl2tp:
    """A kl2tp daemon on a host."""

    def __init__(self, host: Host, directory: Path, terms: Terms) -> None:
        self.host, self.terms = host, terms
        directory = directory / f"kl2tp-{host.name}"
        directory.mkdir(exist_ok=True)
        self.unit = Unit(host, directory)
        self._daemon: Daemon | None = None

    # -- its files -------------------------------------------------------------------------------------------------

    def tree(self) -> Tree:
        """The configuration."""
        raise NotImplementedError

    def secret_file(self, name: str, text: str) -> str:
        """A file that nobody else can read; its path."""
        path = self.unit.directory / name
        path.touch(0o600)
        path.write_text(text)
        return str(path)

    def _control(self, name: str) -> Tree:
        found: Tree = {"host_name": name, "retransmit": {"first": "500ms", "cap": "2s"}}
        if self.terms.secret:
            found["secret_file"] = self.secret_file("l2tp-secrets", f"* * {self.terms.secret}\n")
        return found | ({"hide_avps": True} if self.terms.hidden else {})

    def _both(self, name: str, ppp: Tree) -> Tree:
        """What both sides say alike."""
        found: Tree = {"control": self._control(name)}
        echo = {"interval": "1s", "failures": self.terms.echo_failures}
        found["ppp"] = {"auth": self.terms.auth, "echo": echo, "ipv6": self.terms.ipv6, **ppp}
        return found | ({"sequencing": "both"} if self.terms.sequence else {})

    # -- its life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.unit.config.write_text(yaml.safe_dump(self.tree(), sort_keys=False))
        self._daemon = self.unit.daemon(forked=True)
        self._daemon.wait_ready()

    @property
    def daemon(self) -> Daemon:
        assert self._daemon, f"there is no kl2tp on {self.host.name}"
        return self._daemon

    def stop(self) -> None:
        """SIGTERM: it ends its calls and leaves."""
        assert self.daemon.terminate(30.0) == 0, self.log()

    def kill(self) -> None:
        """SIGKILL to the daemon and its keeper: the peer hears nothing."""
        kill_all(self.host)

    def hang_up(self) -> None:
        """End every call, as `kl2tp disconnect` does."""
        assert self.daemon.call("disconnect", patterns=["*"])["sessions"]

    def sessions(self, *, ended: bool = False) -> list[dict[str, Any]]:
        """What `kl2tp sessions` tells."""
        return list(self.daemon.call("sessions", ended=ended, counters=not ended)["sessions"])

    def log(self) -> str:
        """What it has said."""
        return f"--- kl2tp on {self.host.name}\n{self._daemon.log() if self._daemon else ''}"

    def close(self) -> None:
        """End all of it."""
        kill_all(self.host)
        if self._daemon:
            self._daemon.close()


class Lns(Kl2tp):
    """An LNS that takes every caller."""

    def tree(self) -> Tree:
        """A profile for everybody."""
        users = "".join(f'{user(n)} {LNS_NAME} "{password(n)}" *\n' for n in USERS)
        profile = self._both(LNS_NAME, {"local": LNS_ADDRESS, "pool": f"{POOL_FIRST}-{POOL_LAST}"})
        profile |= {"listen": f"192.0.2.{self.host.number}"}
        return {
            "users": {"files": [self.secret_file("chap-secrets", users)], "refusal_delay": "100ms"},
            "lns": {PROFILE: profile},
        }


class Lac(Kl2tp):
    """A client of one LNS; with more than one call they are those of the users after the first one."""

    def __init__(
        self, host: Host, directory: Path, terms: Terms, server: Host, number: int = 1, *, calls: int = 1
    ) -> None:
        super().__init__(host, directory, terms)
        self._server, self._number, self._calls = server, number, calls
        self.user, self.password = user(number), password(number)

    def tree(self) -> Tree:
        """The calls."""
        calls = {CALL.format(self._number): self._call(self._number, self.password)}
        for number in range(self._number + 1, self._number + self._calls):
            calls[CALL.format(number)] = self._call(number, password(number))
        return {"lac": calls}

    def _call(self, number: int, secret: str) -> Tree:
        return self._both(LAC_NAME, {}) | {
            "remote": f"192.0.2.{self._server.number}",
            "user": user(number),
            "password_file": self.secret_file(f"password{number}", f"{secret}\n"),
            "retry": {"first": "1s", "cap": "2s"},
        }
