"""`kl2tp validate`, `schema` and `genkey`."""

import json
import os
import stat
from pathlib import Path

import pytest

from kl2tp.ipsec.keys import parse

from .conftest import Shell

GOOD = """\
tunnels:
  madrid:
    local: 198.51.100.1
    remote: 203.0.113.7
    ids: 1001/2001
    ipsec: {key_file: /etc/kl2tp/keys/madrid.key}
    sessions: {lan: {ids: 1/1, interface: mad0}, dmz: {ids: 2/2, interface: mad1}}
"""
BAD = GOOD.replace("local: 198.51.100.1", "local: 198.51.100.1.9").replace("ids: 1/1", "idz: 1/1")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "kl2tp.yaml"


def test_a_valid_file_is_summed_up(shell: Shell, config: Path) -> None:
    config.write_text(GOOD)
    outcome = shell("validate", str(config))
    assert outcome.status == 0
    assert outcome.out.startswith(f"{config} is valid: 1 tunnel (1 with IPsec), 2 sessions; read in ")
    assert shell("-c", str(config), "validate").status == 0


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("lns: {a: , b: {listen: 10.0.0.1}}\nusers: /u\n", "2 LNS profiles"),
        ("lac: {a: {remote: 10.0.0.2}}\npools: {p: 10.9.0.0/24}\n", "1 LAC call, 1 pool"),
        ("tunnels: {}\n", "0 tunnels (0 with IPsec), 0 sessions"),
        (GOOD + "lac: {a: {remote: 10.0.0.2}}\n", "1 tunnel (1 with IPsec), 2 sessions, 1 LAC call"),
    ],
)
def test_calls_are_counted(shell: Shell, config: Path, text: str, summary: str) -> None:
    config.write_text(text)
    assert f" is valid: {summary}; read in " in shell("validate", str(config)).out
    found = shell("validate", str(config), "--json").json
    assert (found["lns"] + found["lac"] > 0) is ("LNS" in summary or "LAC" in summary)


def test_every_problem_is_printed_with_its_place(shell: Shell, config: Path) -> None:
    config.write_text(BAD)
    outcome = shell("validate", str(config))
    assert outcome.status == 2
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert lines[0] == f"kl2tp: error: {config} is not valid: 2 problems"
    assert lines[1].startswith(f"  {config}:3:12: ")
    assert "198.51.100.1.9" in lines[1]
    assert "idz" in outcome.err


def test_problems_come_as_json_too(shell: Shell, config: Path) -> None:
    config.write_text(BAD)
    outcome = shell("validate", str(config), "--json")
    assert outcome.status == 2
    found = outcome.json
    assert found["valid"] is False
    assert [(problem["line"], problem["file"]) for problem in found["problems"]] == [(3, str(config)), (7, str(config))]
    assert all(problem["message"] for problem in found["problems"])
    config.write_text(GOOD)
    assert shell("validate", str(config), "--json").json["tunnels"] == 1


def test_a_missing_file_is_one_problem(shell: Shell, config: Path) -> None:
    outcome = shell("validate", str(config))
    assert outcome.status == 2
    assert ":0:0" not in outcome.err
    assert "Traceback" not in outcome.err


def test_the_schema_is_printed(shell: Shell) -> None:
    text = shell("schema").out
    for key in ("tunnels", "encapsulation", "replay_window", "resync_interval", "listen", "pool6", "refusal_delay"):
        assert key in text
    assert json.dumps(shell("schema", "--json").json)


def test_a_key_is_printed(shell: Shell) -> None:
    first, second = shell("genkey").out, shell("genkey").out
    assert first != second
    assert parse("x.key", first.encode()).shared


def test_a_key_file_is_made_for_its_owner_alone_and_never_overwritten(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "madrid.key"
    old = os.umask(0)
    try:
        assert shell("genkey", "--output", str(path)).status == 0
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_text()
    made = parse(str(path), before.encode())
    assert len(made.shared) == 1
    assert made.cookie_seed  # so that cookies stay when the key is replaced
    outcome = shell("genkey", "-o", str(path))
    assert outcome.status == 1
    assert outcome.err.startswith(f"kl2tp: error: {path} exists\nhint: ")
    assert path.read_text() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_made_by_root_a_key_file_belongs_to_the_owner_of_its_directory(shell: Shell, tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    directory.mkdir()
    os.chown(directory, 1234, 1235)
    shell("genkey", "-o", str(directory / "a.key"))
    found = (directory / "a.key").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 1235, 0o600)


def test_a_directory_that_is_not_there_is_no_traceback(shell: Shell, tmp_path: Path) -> None:
    outcome = shell("genkey", "-o", str(tmp_path / "no" / "a.key"))
    assert (outcome.status, outcome.err.count("\n")) == (1, 1)
