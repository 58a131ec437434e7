"""Completion scripts: they are valid, and complete."""

import shutil
import subprocess
from pathlib import Path

import pytest

from kl2tp.cli.overview import COMMANDS

from .conftest import FakeDaemon, Shell

NAMES = {"result": {"tunnels": [{"name": "madrid"}, {"name": "malaga"}, {"name": "paris"}]}}


def words(script: str, *line: str, directory: Path) -> list[str]:
    """What bash offers after this line; the last word is the one being typed. `kl2tp` itself is a stand-in."""
    quoted = " ".join(f"'{word}'" for word in line)
    code = f"""
kl2tp() {{ [ "$*" = "completion names" ] && printf '%s\\n' madrid malaga paris; }}
{script}
COMP_WORDS=({quoted}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _kl2tp
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    found = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, cwd=directory)
    assert found.stderr == ""
    return found.stdout.split()


@pytest.fixture
def bash(shell: Shell) -> str:
    return shell("completion", "bash").out


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_scripts_are_valid(shell: Shell, tmp_path: Path, name: str) -> None:
    script = tmp_path / "script"
    script.write_text(shell("completion", name).out)
    if shutil.which(name):
        subprocess.run([name, "-n", str(script)], check=True)
    elif name == "zsh":  # its grammar is bash's, as far as this script goes, but for one expansion
        text = script.read_text().replace("${(@f)", "${")
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_every_command_and_option_is_there(shell: Shell, name: str) -> None:
    script = shell("completion", name).out
    for command in COMMANDS:
        assert command in script
    for option in ("detailed-exitcode", "no-wait", "run-dir", "log-level", "nat-traversal"):
        assert option in script
    assert "fish names" not in script  # what only the scripts themselves call is not offered


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (("kl2tp", "pl"), ["plan"]),
        (("kl2tp", "--run-dir", "/x", "st"), ["status"]),
        (("kl2tp", "show", "ma"), ["madrid", "malaga"]),
        (("kl2tp", "status", "p"), ["paris"]),
        (("kl2tp", "plan", "--det"), ["--detailed-exitcode"]),
        (("kl2tp", "mtu", "--encapsulation", ""), ["ip", "udp"]),
        (("kl2tp", "mtu", "--cookie", ""), ["0", "4", "8"]),
        (("kl2tp", "daemon", "--log-level", "w"), ["warning"]),
        (("kl2tp", "completion", ""), ["bash", "zsh", "fish"]),
        (("kl2tp", "apply", ""), []),
        (("kl2tp", "--ver"), ["--version"]),
        (("kl2tp", "--config", "some"), ["some.yaml"]),
        (("kl2tp", "apply", "--config", "some"), ["some.yaml"]),
        (("kl2tp", "validate", "some"), ["some.yaml"]),
        (("kl2tp", "import", "xl"), ["xl2tpd"]),
        (("kl2tp", "import", "xl2tpd", "so"), ["some.yaml"]),
        (("kl2tp", "--run-dir", "so"), ["some.d"]),
    ],
)
def test_bash_completes(bash: str, tmp_path: Path, line: tuple[str, ...], expected: list[str]) -> None:
    (tmp_path / "some.yaml").touch()
    if "--run-dir" in line[:2] or "plan" in line:
        (tmp_path / "some.d").mkdir()
    assert words(bash, *line, directory=tmp_path) == expected


def test_names_come_from_the_daemon(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("status", NAMES)
    assert shell("completion", "names").out == "madrid\nmalaga\nparis\n"


def test_names_come_from_the_configuration_where_no_daemon_runs(shell: Shell, tmp_path: Path) -> None:
    config = tmp_path / "kl2tp.yaml"
    config.write_text(
        "tunnels: {madrid: {local: 10.0.0.1, remote: 10.0.0.2, ids: 1/2, sessions: {lan: {interface: mad0}}}}\n"
    )
    assert shell("completion", "names", "--config", str(config)).out == "madrid\n"


def test_a_broken_configuration_completes_nothing(shell: Shell, tmp_path: Path) -> None:
    outcome = shell("completion", "names", "--config", str(tmp_path / "nothing.yaml"))
    assert (outcome.status, outcome.out.strip()) == (0, "")
