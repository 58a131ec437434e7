"""The ways in which the ends prove to each other who they are, and the files that they need for it."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from kl2tp.model.value import dataclass

PSK = "correct-horse-battery-staple"
SERVER, CLIENT = "lns.example", "lac.example"
"""Names in certificates."""
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Way:
    """A version of IKE and how both ends authenticate."""

    version: int
    auth: str
    """psk or cert, as kl2tp calls it."""

    @property
    def rekey_gap_s(self) -> float:
        """For how long new keys may interrupt.

        IKEv2 loses nothing. IKEv1's quick mode has three messages, and charon as responder makes its SAs when the
        third comes, while the initiator already sends with its own: what overtakes that message is lost.
        """
        return 0.2 if self.version == 1 else 0.0

    def __str__(self) -> str:
        return f"ikev{self.version}-{self.auth}"


IKEV2_PSK, IKEV2_CERT, IKEV1_PSK = Way(2, "psk"), Way(2, "cert"), Way(1, "psk")
WAYS = (IKEV2_PSK, IKEV2_CERT, IKEV1_PSK)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A certificate with its key, and the authority that gave it."""

    name: str
    ca: Path
    certificate: Path
    key: Path


class Authority:
    """A certification authority, made with strongSwan's `pki`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._given: dict[str, Credentials] = {}

    def credentials(self, name: str) -> Credentials:
        """Of one host, by its name; made when they are first asked for."""
        if name not in self._given:
            self._given[name] = self._issue(name)
        return self._given[name]

    def _issue(self, name: str) -> Credentials:
        ca, ca_key = self._own()
        key = self._key(name)
        request = ["--issue", "--type", "priv", "--in", str(key), "--cacert", str(ca), "--cakey", str(ca_key)]
        request += ["--dn", f"C=CH, O=Lab, CN={name}", "--san", name]
        return Credentials(name, ca, self._pem(f"{name}.pem", request), key)

    def _own(self) -> tuple[Path, Path]:
        ca, key = (self._directory / name for name in ("ca.pem", "ca.key"))
        if not ca.exists():
            self._key("ca")
            self._pem("ca.pem", ["--self", "--ca", "--in", str(key), "--dn", "C=CH, O=Lab, CN=Lab CA"])
        return ca, key

    def _key(self, name: str) -> Path:
        return self._pem(f"{name}.key", ["--gen", "--type", "ecdsa", "--size", "256"])

    def _pem(self, name: str, command: Sequence[str]) -> Path:
        """What `pki` writes, in a file that only we can read."""
        path = self._directory / name
        path.touch(0o600)
        done = subprocess.run(
            ["/usr/bin/pki", *command, "--outform", "pem"], capture_output=True, timeout=_PATIENCE_S, check=False
        )
        assert not done.returncode, done.stderr.decode()
        path.write_bytes(done.stdout)
        return path
