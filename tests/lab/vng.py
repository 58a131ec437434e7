"""Runs a job on Debian's stock kernel in QEMU without KVM: slow, but multiprocessor and as users run it.

virtme-ng boots the kernel on the host's files and starts the same init as in User Mode Linux, which talks to
us over a virtio port of its own: streams, exit code and root file system are as in the other guests.
"""

from __future__ import annotations

import os
import re
import selectors
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from . import packages
from .build import require_init
from .cache import cache_directory, locked, scratch
from .errors import LabError
from .guest import Guest, encode_job
from .job import Job
from .packages import say
from .process import prepare_child

VIRTME = "virtme-ng==1.42"
CPUS = 2
PORT = "lab.frames"
PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "depmod": "kmod"}


def run(job: Job) -> int:
    """Run a job on the stock kernel."""
    init, image, virtme = require_init(), require_image(), require_virtme()
    packages.need_programs(PROGRAMS)
    with scratch("run") as directory:
        return VngGuest(job, directory, image, init, virtme).run()


class VngGuest(Guest):
    """A guest whose console is the output of vng, and whose init connects through a socket."""

    def __init__(self, job: Job, directory: Path, image: Path, init: Path, virtme: Path) -> None:
        super().__init__(job, directory)
        self.image = image
        self.init = init
        self.virtme = virtme

    def start(self, stack: ExitStack) -> subprocess.Popen[bytes]:
        """See Guest."""
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind(str(self.directory / "frames"))
        listener.listen()
        self.selector.register(listener, selectors.EVENT_READ, lambda _: self.accept(listener, stack))
        log_read, log_write = os.pipe()
        stack.callback(os.close, log_read)
        path = f"{self.virtme}/bin:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
        try:
            process = subprocess.Popen(
                self.command_line(),
                stdin=subprocess.DEVNULL,
                stdout=log_write,
                stderr=log_write,
                env={"PATH": path, "HOME": str(self.directory), "TMPDIR": str(self.directory)},
                start_new_session=True,
                preexec_fn=prepare_child,
            )
        finally:
            os.close(log_write)
        self.watch_log(log_read)
        return process

    def accept(self, listener: socket.socket, stack: ExitStack) -> None:
        """QEMU has started and offers its end of the port."""
        self.selector.unregister(listener)
        connection, _ = listener.accept()
        stack.enter_context(connection)
        self.connect(connection.fileno(), stack.enter_context(connection.dup()).fileno())

    def command_line(self) -> list[str]:
        """What virtme-ng is asked for."""
        port = (
            f"-chardev socket,id=lab,path={self.directory}/frames,server=off"
            f" -device virtio-serial-pci -device virtserialport,name={PORT},chardev=lab"
        )
        writable = [option for path in self.job.writable for option in ("--rwdir", str(path))]
        return [
            *("vng", "--run", str(self.image), "--disable-kvm", "--force-9p", "--verbose", "--user", "root"),
            *("--cpus", str(CPUS), "--memory", self.job.memory, f"--qemu-opts={port}"),
            *writable,
            *("--", str(self.init), PORT, str(encode_job(self.job, self.directory))),
        ]


def image_directory() -> Path:
    """Where stock kernels are unpacked."""
    return cache_directory() / "vng"


def cached_image() -> Path | None:
    """The newest stock kernel in the cache."""
    images = image_directory().glob("*/boot/vmlinuz-*")
    return max(images, key=lambda path: path.stat().st_mtime, default=None)


def require_image() -> Path:
    """Debian's kernel and its modules, unpacked into the cache; the host gets nothing installed."""
    if image := cached_image():
        return image
    with locked("vng"):
        if image := cached_image():
            return image
        package = stock_package()
        packages.need_programs(PROGRAMS)
        say(f"fetching Debian's {package}")
        with scratch("image") as directory:
            if packages.apt(["apt-get", "download", package], cwd=directory) != 0:
                raise LabError(f"cannot download {package}", hint=f"apt-get download {package} shows why")
            (archive,) = directory.glob("*.deb")
            root = directory / "root"
            subprocess.run(["dpkg-deb", "--extract", archive, root], check=True)
            (version,) = os.listdir(root / "lib/modules")
            subprocess.run(["depmod", "--basedir", root, version], check=True)
            final = image_directory() / package
            final.parent.mkdir(exist_ok=True)
            root.rename(final)
    return final / "boot" / f"vmlinuz-{version}"


def stock_package() -> str:
    """The package that linux-image-amd64 stands for."""
    packages.find_candidate("linux-image-amd64")
    command = ["apt-cache", "depends", "linux-image-amd64"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if match := re.search(r"Depends: (linux-image-[0-9]\S*)", answer):
        return match[1]
    raise LabError("apt does not know which kernel linux-image-amd64 is", hint="sudo apt-get update")


def require_virtme() -> Path:
    """A virtual environment with virtme-ng."""
    final = image_directory() / VIRTME
    if final.exists():
        return final
    with locked("vng"):
        say(f"installing {VIRTME}")
        pip = (f"{final}/bin/pip", "install", "-qq", "--disable-pip-version-check", VIRTME)
        for command in ((sys.executable, "-m", "venv", f"{final}"), pip):
            if subprocess.run(command, check=False).returncode:
                shutil.rmtree(final, ignore_errors=True)
                raise LabError(f"'{' '.join(command)}' failed", hint="its message is above")
    return final


def describe() -> str:
    """For `lab status`."""
    image = cached_image()
    return image.parent.parent.name if image else "not fetched yet"
