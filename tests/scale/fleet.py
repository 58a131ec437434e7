"""A configuration of N protected tunnels: one session with an address, two SAs, four policies each."""

from dataclasses import dataclass
from pathlib import Path

from kl2tp.config import load
from kl2tp.ipsec.keys import KeyRing, generate
from kl2tp.model.plan import Unit
from kl2tp.model.spec import TunnelSpec
from kl2tp.reconcile.compile import compile_unit, keying

LOCAL = "198.51.100.1"
_CHANGED_MTU = 1300


@dataclass(frozen=True, slots=True)
class Fleet:
    """N tunnels and where their files are."""

    size: int
    encap: str
    directory: Path

    @property
    def config(self) -> Path:
        return self.directory / "kl2tp.yaml"

    @property
    def changing(self) -> range:
        """Numbers of the tunnels, one in a hundred, that a reload changes."""
        return range(self.size - max(1, self.size // 100) + 1, self.size + 1)

    def write(self) -> None:
        """Make the configuration and the key file."""
        self.directory.mkdir(parents=True, exist_ok=True)
        key = self.directory / "fleet.key"
        key.write_text(generate() + "\n")
        key.chmod(0o600)
        self.write_config()

    def write_config(self, *, changed: bool = False, set_: bool = True) -> None:
        """One set, but for the tunnels that change; or, without `set_`, every tunnel by itself."""
        first = self.changing.start if set_ else 1
        lines = self._head()
        if set_:
            lines += ["sets:", f"  {_NAME}:", f"    range: 1-{first - 1}", *self._tunnel("{n:05}", None)]
        lines.append("tunnels:")
        for n in range(first, self.size + 1):
            lines += [f"  t{n:05}:", *self._tunnel(f"{n:05}", n, changed=changed)]
        self.config.write_text("\n".join(lines) + "\n")

    def _head(self) -> list[str]:
        return [
            "defaults:",
            f"  local: {LOCAL}",
            f"  encapsulation: {self.encap}",
            f"  ipsec: {{proposal: aes256gcm16, key_file: {self.directory}/fleet.key}}",
        ]

    def _tunnel(self, number: str, n: int | None, *, changed: bool = False) -> list[str]:
        """The keys of a tunnel: of number `n`, or as a set's template."""

        def value(expression: str) -> str:
            return f"{{{expression}}}" if n is None else str(eval(expression, {"n": n}))

        remote = f"10.20.{value('n // 250')}.{value('n % 250 + 1')}"
        address = f"10.{value('64 + n // 16384')}.{value('n // 64 % 256')}.{value('n % 64 * 4 + 1')}/30"
        mtu = f", mtu: {_CHANGED_MTU}" if changed else ""
        lines = [f"remote: {remote}", f'ids: "{value("1000 + n")}/{value("1000 + n")}"']
        if self.encap == "udp":
            lines.append(f'ports: "{value("20000 + n")}/1701"')
        lines.append("sessions:")
        lines.append(f'  lan: {{cookie: auto, interface: {{name: "l{number}", address: "{address}"{mtu}}}}}')
        return ["    " + line for line in lines]

    def specs(self) -> tuple[TunnelSpec, ...]:
        return load(self.config).tunnels

    def units(self) -> dict[str, Unit]:
        """The kernel objects of every tunnel."""
        ring = KeyRing()
        return {spec.name: compile_unit(spec, ring, keying(spec, ring)) for spec in self.specs()}


_NAME = '"t{n:05}"'
