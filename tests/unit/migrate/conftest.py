"""A machine with xl2tpd, in a directory."""

from pathlib import Path

import pytest

from kl2tp.config import loads
from kl2tp.migrate.finding import Kind
from kl2tp.migrate.xl2tpd import CONF, Imported, convert
from kl2tp.model import addr
from kl2tp.model.desired import Desired

HOSTS = {"lns.example.net": "203.0.113.9", "lns2.example.net": "203.0.113.10"}


def resolve(name: str) -> bytes | None:
    """The only hosts in the world."""
    return addr.parse(HOSTS[name]) if name in HOSTS else None


class Machine:
    """Its files, and what comes of importing them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, content: str, mode: int = 0o600) -> None:
        """A file of that machine."""
        real = self.root / path.lstrip("/")
        real.parent.mkdir(parents=True, exist_ok=True)
        real.write_text(content)
        real.chmod(mode)

    def convert(self, conf: str) -> Imported:
        """Import this xl2tpd.conf."""
        self.write(CONF, conf, 0o644)
        return convert(CONF, root=str(self.root), resolve=resolve)

    def desired(self, conf: str) -> Desired:
        """What kl2tp understands of it."""
        return loads(self.convert(conf).yaml)

    def told(self, conf: str, kind: Kind) -> list[str]:
        """What is said of lines, of one kind."""
        return [str(finding) for finding in self.convert(conf).findings.of(kind)]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with users."""
    made = Machine(tmp_path)
    made.write("/etc/ppp/chap-secrets", 'joe * "pass word" *\n')
    return made
