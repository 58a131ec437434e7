"""The command line as a whole: help, start-up, usage errors, ends of all kinds."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kl2tp
from kl2tp.cli import entry, main
from kl2tp.cli.overview import COMMANDS, overview

from .conftest import FakeDaemon, Shell

SOURCE = str(Path(kl2tp.__file__).parents[1])
HEAVY = {"yaml", "pyroute2", "asyncio", "hypothesis", "kl2tp.daemon", "kl2tp.kernel", "kl2tp.config", "dataclasses"}


def python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={"PYTHONPATH": SOURCE}, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["--version"], [], ["plan", "--help"]])
def test_nothing_heavy_is_loaded_at_start(arguments: list[str]) -> None:
    code = f"import sys; from kl2tp.cli import main; main({arguments!r}); print(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", code]
    env = {"PYTHONPATH": SOURCE}
    loaded = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stderr.split()
    light = HEAVY - {"dataclasses"} if arguments == ["plan", "--help"] else HEAVY
    assert not light & set(loaded)


def test_the_overview_names_every_command(shell: Shell) -> None:
    outcome = shell()
    assert outcome.status == 0
    assert outcome.out == overview()
    for name, summary in COMMANDS.items():
        assert f"  {name:19} {summary}\n" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 110


@pytest.mark.parametrize("argument", ["-h", "--help"])
def test_help_is_the_overview(shell: Shell, argument: str) -> None:
    assert shell(argument).out == overview()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(shell: Shell, name: str) -> None:
    outcome = shell(name, "--help")
    assert outcome.status == 0
    assert outcome.out.startswith(f"usage: kl2tp {name} ")


def subparsers(root: argparse.ArgumentParser) -> Any:
    return next(action for action in root._actions if isinstance(action, argparse._SubParsersAction))


def test_the_overview_says_what_the_commands_say() -> None:
    commands = subparsers(entry.build(COMMANDS.keys()))
    assert {choice.dest: choice.help for choice in commands._choices_actions} == COMMANDS


def test_data_comes_as_json_on_request() -> None:
    commands = subparsers(entry.build(COMMANDS.keys())).choices
    without = {name for name, parser in commands.items() if "--json" not in parser._option_string_actions}
    assert without == {"daemon", "genkey", "completion", "keeper"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plam"], "there is no command 'plam'; did you mean plan?"),
        (["frobnicate"], "there is no command 'frobnicate'"),
        (["show"], "the following arguments are required: TUNNEL"),
        (["plan", "--adop"], "unrecognized arguments: --adop"),
        (["daemon", "--log-level", "loud"], "argument --log-level: invalid choice: 'loud'"),
        (["completion", "tcsh"], "argument SHELL: invalid choice: 'tcsh'"),
    ],
)
def test_wrong_usage_exits_with_2(shell: Shell, arguments: list[str], message: str) -> None:
    outcome = shell(*arguments)
    assert outcome.status == 2
    assert outcome.err.startswith(f"kl2tp: error: {message}")
    assert "\nhint: kl2tp" in outcome.err


def test_options_may_stand_on_either_side_and_the_nearer_wins(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def note(args: argparse.Namespace) -> int:
        seen.append(args)
        return 0

    monkeypatch.setattr("kl2tp.cli.version.run", note)
    shell("--config", "a", "version")
    shell("version", "--config", "b")
    shell("--config", "a", "version", "-c", "c")
    shell("version")
    assert [args.config for args in seen] == ["a", "b", "c", None]
    assert [args.run_dir for args in seen] == [str(shell.run_dir)] * 4


def test_a_command_name_as_a_value_is_no_command(shell: Shell) -> None:
    assert shell("--config", "plan", "version").status == 0


def test_version(shell: Shell) -> None:
    assert shell("version").out == f"kl2tp {kl2tp.__version__}\n"
    assert shell("--version").out == f"kl2tp {kl2tp.__version__}\n"
    assert shell("version", "--json").json["kl2tp"] == kl2tp.__version__


def test_an_interrupt_is_no_traceback(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("kl2tp.cli.version.run", interrupted)
    outcome = shell("version")
    assert (outcome.status, outcome.err) == (130, "\nkl2tp: interrupted\n")


def test_an_error_of_the_system_is_no_traceback(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(args: argparse.Namespace) -> int:
        raise OSError(28, "No space left on device", "/dev/full")

    monkeypatch.setattr("kl2tp.cli.version.run", full)
    outcome = shell("version")
    assert (outcome.status, outcome.err) == (1, "kl2tp: error: /dev/full: No space left on device\n")


def test_a_mistake_of_ours_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(args: argparse.Namespace) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr("kl2tp.cli.version.run", broken)
    with pytest.raises(ZeroDivisionError):
        main(["version"])


def test_a_reader_that_leaves_early_is_no_traceback(daemon: FakeDaemon) -> None:
    many = [{"verb": "+", "unit": f"b{n:05}", "text": "tunnel"} for n in range(20000)]
    daemon.answers("plan", {"result": {"operations": many}})
    command = [sys.executable, "-m", "kl2tp", "--run-dir", str(daemon.run_dir), "plan"]
    reader, writer = os.pipe()
    with subprocess.Popen(
        command, env={"PYTHONPATH": SOURCE}, stdout=writer, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(writer)
        os.read(reader, 100)
        os.close(reader)
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_an_output_that_cannot_take_all_characters_is_no_traceback(daemon: FakeDaemon) -> None:
    daemon.answers("plan", {"result": {"operations": [{"verb": "+", "unit": "mañana", "text": "túnel"}]}})
    command = [sys.executable, "-m", "kl2tp.cli", "--run-dir", str(daemon.run_dir), "plan"]
    env = {"PYTHONPATH": SOURCE, "PYTHONIOENCODING": "ascii"}
    found = subprocess.run(command, env=env, capture_output=True, check=True)
    assert found.stdout.startswith(b"ma?ana\n  + t?nel\n")
