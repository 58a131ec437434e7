"""The lab keeps its promises: on streams, exit codes, and never touching the host."""

from __future__ import annotations

import json
import os
import pty
import random
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from lab import build, cache
from lab.errors import LabError
from lab.job import guest_environment
from lab.uml import parse_size
from lab.wire import Decoder, FromGuest, ToGuest, encode

LAB = Path(__file__).with_name("lab")
TESTS = LAB.parent.parent

ABOUT_THE_GUEST = """
import json, os, resource, socket, sys
sys.path.insert(0, os.environ["TESTS"])
from lab.features import missing_features
json.dump({
    "argv": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ), "executable": sys.executable,
    "files": resource.getrlimit(resource.RLIMIT_NOFILE), "missing": missing_features(), "uid": os.getuid(),
    "random": len(os.getrandom(32, os.GRND_NONBLOCK)), "interfaces": [name for _, name in socket.if_nameindex()],
}, sys.stdout)
"""


@pytest.fixture(autouse=True, scope="session")
def _kernel_is_there() -> None:
    """So that no test finds the messages of a build in its output."""
    build.require("6.12")
    build.require_init()


def run(*arguments: str | Path, text: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """`lab run`, with some stdin."""
    command: list[str | Path] = [LAB, "run", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, **options)


def run_bytes(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """`lab run` for output that is not text."""
    command: list[str | Path] = [LAB, "run", *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


class TestCommand:
    """What the command gets, and what comes back of it."""

    @pytest.mark.parametrize(
        ("script", "code"), [("true", 0), ("exit 37", 37), ("kill -KILL $$", 137), ("kill -TERM $$", 143)]
    )
    def test_exit_code_is_the_commands_own(self, script: str, code: int) -> None:
        result = run("--", "sh", "-c", script)
        assert (result.returncode, result.stdout, result.stderr) == (code, "", "")

    def test_missing_command_is_127_and_unrunnable_126(self, tmp_path: Path) -> None:
        (tmp_path / "plain").write_text("not a program")
        assert run("--", "no-such-command").returncode == 127
        result = run("--", "./plain", cwd=tmp_path)
        assert (result.returncode, result.stderr) == (126, "lab: cannot run ./plain: Permission denied\n")

    def test_streams_are_kept_apart_and_unaltered(self) -> None:
        result = run_bytes("--", "sh", "-c", r"printf 'a\nb\r\n\377\000'; echo err >&2")
        assert (result.stdout, result.stderr) == (b"a\nb\r\n\xff\x00", b"err\n")

    def test_output_of_ten_megabytes_arrives_whole(self) -> None:
        script = "import random, sys; sys.stdout.buffer.write(random.Random(1).randbytes(10_000_000))"
        result = run_bytes("--", sys.executable, "-c", script)
        assert result.stdout == random.Random(1).randbytes(10_000_000)

    def test_stdin_is_forwarded_with_its_end(self) -> None:
        text = "".join(f"line {n}\n" for n in range(20_000))
        assert run("--", "cat", text=text).stdout == text

    def test_output_is_live(self) -> None:
        with subprocess.Popen(
            [LAB, "run", "--", "sh", "-c", "echo ready; read answer; echo got $answer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            process.stdin.write("yes\n")
            process.stdin.flush()
            assert process.stdout.readline() == "got yes\n"

    def test_surroundings(self, tmp_path: Path) -> None:
        host = {**os.environ, "DISPLAY": ":7", "LANG": "C.UTF-8", "GIVEN": "from the host"}
        arguments = ["a b", "", "new\nline", "--mem"]
        options = ["--env", f"TESTS={TESTS}", "--env", "GIVEN", "--env", "MORE=x=y"]
        command = [sys.executable, "-c", ABOUT_THE_GUEST, *arguments]
        result = run(*options, "--", *command, cwd=tmp_path, env=host)
        assert result.stderr == ""
        facts = json.loads(result.stdout)
        assert facts["argv"] == arguments
        assert facts["cwd"] == str(tmp_path)
        assert facts["executable"] == sys.executable
        assert (facts["env"]["GIVEN"], facts["env"]["MORE"]) == ("from the host", "x=y")
        assert (facts["env"]["LANG"], facts["env"]["LAB_KERNEL"]) == ("C.UTF-8", "6.12")
        assert "DISPLAY" not in facts["env"]
        assert (facts["uid"], facts["missing"], facts["random"]) == (0, [], 32)
        assert min(facts["files"]) >= 1 << 20
        assert facts["interfaces"] == ["lo"]

    def test_interactive_run_has_a_terminal_of_the_same_size(self) -> None:
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(LAB, ["lab", "run", "-i", "--", "sh", "-c", "tty; read x; stty size; exit 3"])
        termios.tcsetwinsize(terminal, (33, 77))
        os.write(terminal, b"typed ahead\n")
        output = b"".join(iter(lambda: read_terminal(terminal), b""))
        _, status = os.waitpid(pid, 0)
        assert b"/dev/pts/0\r\n" in output
        assert b"33 77\r\n" in output
        assert os.waitstatus_to_exitcode(status) == 3


def read_terminal(terminal: int) -> bytes:
    """Read from a terminal, whose end is an error."""
    try:
        return os.read(terminal, 1024)
    except OSError:
        return b""


class TestNative:
    """The machine's own kernel, which in these tests is a guest's."""

    def test_runs_in_a_network_of_its_own(self) -> None:
        script = "ip link add own0 type dummy && ls /sys/class/net && exit 5"
        nested = f"{LAB} run --kernel native -- sh -c '{script}'; echo $?; ls /sys/class/net"
        result = run("--", "sh", "-c", nested)
        assert (result.stdout, result.stderr) == ("lo\nown0\n5\nlo\n", "")


class TestHost:
    """Nothing that a guest does reaches the host, except where allowed."""

    def test_files_are_safe(self, tmp_path: Path) -> None:
        (tmp_path / "kept").write_text("as it was")
        (tmp_path / "directory").mkdir()
        script = """
            rm kept && rmdir directory && echo changed > kept && touch new &&
            touch /usr/lab-was-here /lab-was-here && mount -o remount,rw / && ls && cat kept
        """
        result = run("--", "sh", "-ec", script, cwd=tmp_path)
        assert (result.stdout, result.stderr) == ("kept\nnew\nchanged\n", "")
        assert (tmp_path / "kept").read_text() == "as it was"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "kept"]
        assert not Path("/usr/lab-was-here").exists()
        assert not Path("/lab-was-here").exists()

    def test_writable_directory_keeps_what_is_written(self, tmp_path: Path) -> None:
        kept = tmp_path / "made/with parents"
        result = run("--writable", kept, "--", "sh", "-c", 'echo yes > "$0/result"', kept)
        assert result.stderr == ""
        assert (kept / "result").read_text() == "yes\n"

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_signal_ends_all_of_the_guest(self, number: signal.Signals) -> None:
        with subprocess.Popen(
            [LAB, "run", "--", "sh", "-c", "tail -f /dev/null & echo $LAB_KERNEL; wait"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout
            assert process.stdout.readline() == "6.12\n"
            (kernel,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            arguments = Path(f"/proc/{kernel}/cmdline").read_bytes().split(b"\0")
            (job,) = (os.fsdecode(a.partition(b"=")[2]) for a in arguments if a.startswith(b"LAB_JOB="))
            assert Path(job).exists()
            process.send_signal(number)
            assert process.wait() == 128 + number
        with pytest.raises(ProcessLookupError):
            os.killpg(int(kernel), 0)
        assert not Path(job).parent.exists()

    def test_closed_output_ends_the_run_quietly(self) -> None:
        script = 'exec 2>&1; "$0" run -- yes | head -n 1; exit ${PIPESTATUS[0]}'
        result = subprocess.run(["bash", "-c", script, LAB], capture_output=True, text=True, check=False)
        assert (result.stdout, result.returncode) == ("y\n", 141)


class TestFailure:
    """A failure is told from the command's own, and says what to do."""

    def test_hang_ends_with_the_kernels_log(self) -> None:
        result = run("--timeout", "2", "--", "sh", "-c", "echo begun; exec tail -f /dev/null")
        assert (result.returncode, result.stdout) == (124, "begun\n")
        assert "no end after 2 s (--timeout), last output " in result.stderr
        assert "as init process" in result.stderr

    def test_panic_is_shown(self) -> None:
        result = run("--", "sh", "-c", "echo c > /proc/sysrq-trigger")
        assert result.returncode == 123
        assert "the guest's kernel panicked while running: sh -c" in result.stderr
        assert "sysrq triggered crash" in result.stderr

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--kernel", "5.10", "--", "true"], "invalid choice: '5.10'"),
            (["--mem", "lots", "--", "true"], "not a size: 'lots'\n  hint: "),
            (["--timeout", "0", "--", "true"], "argument --timeout"),
            (["--"], "no command to run\n  hint: "),
            (["-i", "--", "true"], "needs a terminal"),
            (["--writable", "/dev/null/x", "--", "true"], "Not a directory"),
        ],
    )
    def test_mistakes_are_explained(self, arguments: list[str], message: str) -> None:
        result = run(*arguments)
        assert result.returncode == 2
        assert message in result.stderr
        assert "Traceback" not in result.stderr

    def test_too_much_memory_is_refused_with_a_hint(self) -> None:
        result = run("--mem", "900000G", "--", "true")
        assert result.returncode == 125
        assert "--mem 1G" in result.stderr


class TestParts:
    """The parts that need no guest."""

    def test_frames_survive_any_cut(self) -> None:
        frame = b"o\x03\0\0\0abc" + b"x\0\0\0\0"
        decoder = Decoder()
        frames = [frame for n in frame for frame in decoder.feed(bytes([n]))]
        assert frames == [(FromGuest.STDOUT, b"abc"), (FromGuest.STATUS, b"")]
        assert encode(ToGuest.STDIN, b"hi") == b"i\x02\0\0\0hi"

    def test_lost_option_is_named(self, tmp_path: Path) -> None:
        config = tmp_path / ".config"
        config.write_text(build.FRAGMENT.read_text().replace("CONFIG_PPPOL2TP=y", ""))
        with pytest.raises(LabError, match=r"lost: CONFIG_PPPOL2TP=y \(is n\)"):
            build.check_config("6.12", config)

    def test_other_fragment_is_other_kernel(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = build.recipe("6.12")
        fragment = tmp_path / "uml.config"
        fragment.write_text(build.FRAGMENT.read_text() + "CONFIG_MORE=y\n")
        monkeypatch.setattr(build, "FRAGMENT", fragment)
        assert build.recipe("6.12") != before

    def test_leftovers_are_removed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        abandoned = cache.cache_directory() / "run-abandoned"
        abandoned.mkdir()
        (abandoned / ".alive").touch()
        with cache.scratch("run") as first, cache.scratch("run") as second:
            assert first.exists()
            assert second.exists()
            assert not abandoned.exists()
        assert not first.exists()

    def test_path_reaches_the_programs_of_root(self) -> None:
        env = guest_environment({"PATH": "/usr/bin", "SECRET": "x"}, ["A=1"], kernel="6.1")
        assert env == {"PATH": "/usr/bin:/usr/sbin:/sbin", "A": "1", "LAB_KERNEL": "6.1"}

    def test_sizes(self) -> None:
        assert parse_size("512M") == 512 << 20
