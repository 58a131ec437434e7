"""`kl2tp import xl2tpd`."""

import stat
from pathlib import Path

import pytest

from kl2tp.config import load

from .conftest import Shell

SERVER = """\
[lns default]
ip range = 10.9.0.2-10.9.0.99
local ip = 10.9.0.1
require authentication = yes
require chap = yes
exclusive = yes
"""
CLIENT = "[lac hq]\nlns = 203.0.113.7\nautodial = yes\nredial = yes\npppoptfile = /etc/ppp/hq\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The files of another machine."""
    directory = tmp_path / "old"
    for path, content in (
        ("etc/xl2tpd/xl2tpd.conf", SERVER + CLIENT),
        ("etc/ppp/hq", "user joe\npassword hunter2\n"),
        ("etc/ppp/chap-secrets", "joe * hunter2 *\n"),
    ):
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(0o600)
    return directory


def test_without_output_it_is_printed_and_the_report_goes_to_standard_error(shell: Shell, root: Path) -> None:
    outcome = shell("import", "xl2tpd", "--root", str(root))
    assert outcome.status == 0
    assert outcome.out.startswith("# Made by: kl2tp import xl2tpd /etc/xl2tpd/xl2tpd.conf\n")
    assert "exclusive = yes" not in outcome.out
    assert "/etc/xl2tpd/xl2tpd.conf:6: exclusive = yes" in outcome.err
    assert "Make /etc/kl2tp/hq.password, mode 0600" in outcome.err
    assert "hunter2" not in outcome.out + outcome.err


def test_what_is_written_is_valid_and_keeps_its_secrets(shell: Shell, root: Path, tmp_path: Path) -> None:
    target = tmp_path / "new"
    outcome = shell("import", "xl2tpd", "--root", str(root), "--output", str(target))
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith(f"Wrote {target}/kl2tp.yaml, {target}/hq.password: 2 sections of the old file.\n")
    desired = load(target / "kl2tp.yaml")
    assert (len(desired.lns), desired.lac[0].password_file) == (1, f"{target}/hq.password")
    password = target / "hq.password"
    assert (password.read_text(), stat.S_IMODE(password.stat().st_mode)) == ("hunter2\n", 0o600)
    assert "hunter2" not in (target / "kl2tp.yaml").read_text() + outcome.out
    assert sorted(path.name for path in target.iterdir()) == ["hq.password", "kl2tp.yaml"]


@pytest.mark.parametrize("name", ["kl2tp.yaml", "hq.password"])
def test_nothing_is_overwritten_without_force(shell: Shell, root: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    arguments = ("import", "xl2tpd", "--root", str(root), "-o", str(tmp_path))
    outcome = shell(*arguments)
    assert (outcome.status, outcome.out) == (1, "")
    assert f"{tmp_path}/{name}: there already" in outcome.err
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [name]
    assert (tmp_path / name).read_text() == "mine"
    assert shell(*arguments, "--force").status == 0
    assert (tmp_path / name).read_text() != "mine"


def test_it_comes_as_json_too(shell: Shell, root: Path) -> None:
    found = shell("import", "xl2tpd", "--root", str(root), "--json").json
    assert found["written"] == []
    assert found["passwords"] == ["/etc/kl2tp/hq.password"]
    assert {"kind": "never", "file": "/etc/xl2tpd/xl2tpd.conf", "line": 6} in [
        {key: finding[key] for key in ("kind", "file", "line")} for finding in found["findings"]
    ]
    assert "hunter2" not in str(found)


def test_a_file_that_is_not_there(shell: Shell, tmp_path: Path) -> None:
    outcome = shell("import", "xl2tpd", str(tmp_path / "none.conf"))
    assert (outcome.status, outcome.err.splitlines()[0]) == (
        1,
        f"kl2tp: error: cannot read {tmp_path}/none.conf: No such file or directory",
    )


def test_a_file_with_nothing_to_import(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "x.conf").write_text("[global]\nport = 1701\n")
    outcome = shell("import", "xl2tpd", str(tmp_path / "x.conf"), "-o", str(tmp_path))
    assert outcome.status == 1
    assert "has nothing to import" in outcome.err
    assert not (tmp_path / "kl2tp.yaml").exists()


def test_what_kl2tp_would_not_take_is_not_written(shell: Shell, root: Path, tmp_path: Path) -> None:
    (root / "etc/ppp/hq").write_text("user joe\npassword x\nifname a/b\n")
    outcome = shell("import", "xl2tpd", "--root", str(root), "-o", str(tmp_path))
    assert outcome.status == 1
    assert "is not valid in kl2tp" in outcome.err
    assert "'a/b' is not a name for a network device" in outcome.err
    assert not (tmp_path / "kl2tp.yaml").exists()


def test_a_place_that_cannot_be_written(shell: Shell, root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = shell("import", "xl2tpd", "--root", str(root), "-o", str(tmp_path / "file" / "x"))
    assert outcome.status == 1
    assert "cannot write" in outcome.err


def test_the_table_of_options(shell: Shell) -> None:
    text = shell("import", "xl2tpd", "--list").out
    assert "\nredial timeout " in text
    assert "lac.NAME.retry.first" in text
    assert "\nlcp-echo-interval " in text


def test_other_programs_are_not_known(shell: Shell) -> None:
    assert shell("import", "openl2tp").status == 2
