"""The keeper as a process, and its client: what clients do, and what becomes of what they left."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kl2tp
from kl2tp.keeper.client import KeeperClient, KeeperError
from kl2tp.keeper.protocol import FDS, MESSAGE, SOCKET

_SOURCE = str(Path(kl2tp.__file__).parents[1])


class Keeper:
    """`kl2tp keeper` in a run directory."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.path = run_dir / SOCKET
        notify = run_dir / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(notify))
            manager.settimeout(20)
            environment = {"PYTHONPATH": _SOURCE, "NOTIFY_SOCKET": str(notify)}
            command = [sys.executable, "-m", "kl2tp", "keeper", "--run-dir", str(run_dir)]
            self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
            assert b"READY=1" in manager.recv(200)
        notify.unlink()

    def client(self) -> KeeperClient:
        return KeeperClient(self.path)

    def raw(self) -> socket.socket:
        """A connection without manners."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(10)
        sock.connect(str(self.path))
        return sock

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Its exit status and what it said."""
        self.process.send_signal(number)
        said = self.process.communicate(timeout=20)[1].decode()
        return self.process.returncode, said


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    made = Keeper(tmp_path)
    yield made
    if made.process.poll() is None:
        made.end(signal.SIGKILL)


def pipe_end(keeper: Keeper, name: str = "pipe") -> int:
    """A pipe whose writing end only the keeper holds: the reading end."""
    reading, writing = os.pipe()
    with contextlib.closing(keeper.client()) as client:
        client.keep([name], [writing])
    os.close(writing)
    os.set_blocking(reading, False)
    return reading


def test_descriptors_outlive_the_client_that_left_them(keeper: Keeper) -> None:
    reading = pipe_end(keeper)
    client = keeper.client()
    assert client.names() == ["pipe"]
    found = client.fetch()
    os.write(found["pipe"], b"still there")
    assert os.read(reading, 99) == b"still there"
    os.close(found["pipe"])
    os.set_blocking(reading, True)
    client.drop(["pipe"])
    assert os.read(reading, 99) == b""  # nobody holds the other end
    os.close(reading)
    client.close()


def test_descriptors_that_are_fetched_are_closed_on_exec(keeper: Keeper) -> None:
    os.close(pipe_end(keeper))
    client = keeper.client()
    (fd,) = client.fetch(["pipe"]).values()
    assert not os.get_inheritable(fd)
    os.close(fd)
    client.close()


def test_many_descriptors_go_there_and_come_back(keeper: Keeper) -> None:
    names = [f"session/{number}/1" for number in range(2 * FDS + 7)]
    fd = os.open("/dev/null", os.O_RDONLY)
    client = keeper.client()
    client.keep(names, [fd] * len(names))
    assert client.names() == names
    found = client.fetch()
    assert list(found) == names
    for copy in found.values():
        os.close(copy)
    client.drop(names[1:])
    assert client.names() == names[:1]
    client.close()
    os.close(fd)


def test_a_new_client_takes_the_place_of_the_old_one(keeper: Keeper) -> None:
    old = keeper.client()
    assert old.names() == []
    new = keeper.client()
    assert new.names() == []
    with pytest.raises(KeeperError, match=r"lost|closed"):
        old.names()
    assert not old.connected
    old.connect()
    assert old.names() == []
    for client in (old, new):
        client.close()


@pytest.mark.parametrize(
    "garbage",
    [b"\0", b"keep", b"keep\na\nb", b"fetch" + b"\nx" * 1000, b"\xff" * MESSAGE, b"list\n9" * 50, b"x" * (MESSAGE + 1)],
    ids=["null", "no-names", "no-descriptors", "unknown", "noise", "list", "too-long"],
)
def test_garbage_is_answered_and_hurts_nothing(keeper: Keeper, garbage: bytes) -> None:
    reading = pipe_end(keeper)
    with keeper.raw() as sock:
        sock.send(garbage)
        assert sock.recv(MESSAGE)[:2] in (b"no", b"ok")
    client = keeper.client()
    assert client.names() == ["pipe"]
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    os.close(reading)
    client.close()


def test_a_client_that_does_not_wait_for_its_answer_is_forgotten(keeper: Keeper) -> None:
    reading, writing = os.pipe()
    with keeper.raw() as sock:
        socket.send_fds(sock, [b"keep\nleft"], [writing])
    client = keeper.client()
    assert client.names() == ["left"]
    for fd in (reading, writing):
        os.close(fd)
    client.close()


def test_a_client_that_never_reads_does_not_stop_the_keeper(keeper: Keeper) -> None:
    with keeper.raw() as deaf:
        deaf.settimeout(0)
        with contextlib.suppress(OSError):
            for _ in range(5000):
                deaf.send(b"list\n0")
        client = keeper.client()
        assert client.names() == []
        client.close()


def test_descriptors_without_a_name_are_closed(keeper: Keeper) -> None:
    reading, writing = os.pipe()
    with keeper.raw() as sock:
        socket.send_fds(sock, [b"nonsense"], [writing])
        os.close(writing)
        assert sock.recv(MESSAGE).startswith(b"no\n")
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_at_its_end_the_keeper_closes_what_it_has(keeper: Keeper) -> None:
    reading = pipe_end(keeper)
    os.set_blocking(reading, True)
    assert keeper.end() == (0, "")
    assert os.read(reading, 1) == b""
    assert not keeper.path.exists()
    os.close(reading)


def test_there_is_one_keeper_for_a_run_directory(keeper: Keeper) -> None:
    command = [sys.executable, "-m", "kl2tp", "keeper", "--run-dir", str(keeper.run_dir)]
    second = subprocess.run(command, env={"PYTHONPATH": _SOURCE}, capture_output=True, text=True, timeout=20)
    assert (second.returncode, second.stderr) == (1, f"kl2tp keeper: another keeper is at work in {keeper.run_dir}\n")
    client = keeper.client()
    assert client.names() == []
    client.close()


def test_after_a_keeper_that_was_killed_another_can_start(keeper: Keeper) -> None:
    keeper.end(signal.SIGKILL)
    again = Keeper(keeper.run_dir)
    client = again.client()
    assert client.names() == []
    client.close()
    again.end()


def test_only_its_own_user_may_connect(keeper: Keeper) -> None:
    assert keeper.path.stat().st_mode & 0o777 == 0o600


def test_without_a_directory_there_is_no_keeper(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kl2tp", "keeper", "--run-dir", str(tmp_path / "none")]
    found = subprocess.run(command, env={"PYTHONPATH": _SOURCE}, capture_output=True, text=True, timeout=20)
    assert (found.returncode, "No such file" in found.stderr) == (1, True)


def test_the_keeper_is_small(keeper: Keeper) -> None:
    status = Path(f"/proc/{keeper.process.pid}/status").read_text()
    resident_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident_kb < 14 << 10


def test_where_no_keeper_is_the_client_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeeperError, match="no keeper at"):
        KeeperClient(tmp_path / SOCKET)


def test_a_keeper_that_ended_is_noticed(keeper: Keeper) -> None:
    client = keeper.client()
    keeper.end()
    with pytest.raises(KeeperError):
        client.names()
    assert not client.connected
    with pytest.raises(KeeperError, match="lost"):
        client.keep(["a"], [0])
    with pytest.raises(KeeperError, match="no keeper"):
        client.connect()
