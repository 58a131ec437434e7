"""Machines that are directories, and what is put into their files."""

import os
import socket
from collections.abc import Iterable
from pathlib import Path

from kl2tp.doctor.machine import Machine
from kl2tp.kernel.finding import Finding, Level


class Box(Machine):
    """A machine in a directory."""

    def __init__(self, root: Path, release: str = "6.12.1") -> None:
        super().__init__(str(root), release=release)
        self.root = root

    def put(self, name: str, text: str) -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def sysctls(self, **values: object) -> None:
        for name, value in values.items():
            self.put(f"/proc/sys/{name.replace('__', '/')}", f"{value}\n")

    def process(self, number: int, name: str, *inodes: int) -> None:
        self.put(f"/proc/{number}/comm", f"{name}\n")
        directory = self.root / f"proc/{number}/fd"
        directory.mkdir()
        for fd, inode in enumerate(inodes):
            (directory / str(fd)).symlink_to(f"socket:[{inode}]")

    def locks(self, **holders: Path) -> None:
        """Files locked by processes, each named `pNUMBER`."""
        lines = ["1: POSIX  ADVISORY  WRITE 7 00:18:1 0 EOF"]
        for number, path in holders.items():
            path.touch()
            file = path.stat()
            place = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
            lines.append(f"2: FLOCK  ADVISORY  WRITE {number[1:]} {place} 0 EOF")
        self.put("/proc/locks", "\n".join(lines) + "\n")


def address(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def bad(findings: Iterable[Finding]) -> list[Finding]:
    """Those that are not good."""
    return [finding for finding in findings if finding.level != Level.OK]


UDP = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref\n"


def udp_line(local: str, port: int, inode: int) -> str:
    packed = address(local)
    words = b"".join(packed[i : i + 4][::-1] for i in range(0, len(packed), 4))
    zero = "0" * len(words.hex())
    return f"  1: {words.hex().upper()}:{port:04X} {zero}:0000 07 0:0 00:0 0 0 0 {inode} 2 0 0\n"
