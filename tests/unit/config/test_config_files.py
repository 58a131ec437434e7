"""Files: kl2tp.yaml, conf.d, and all that can be wrong with reading them."""

import gc
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from kl2tp.config import ConfigError, Problem, document, load, loads
from kl2tp.model.desired import DaemonSpec, Desired
from kl2tp.model.spec import Where

MAIN = "defaults: {local: 10.0.0.1}\ntunnels: {main: {remote: 10.0.0.2, ids: 1, sessions: {s: {interface: i1}}}}\n"


def one(name: str, number: int) -> str:
    """A file with one tunnel that needs `local` from the defaults."""
    return (
        f"tunnels: {{{name}: {{remote: 10.0.1.{number}, ids: {number}, sessions: {{s: {{interface: i{number}}}}}}}}}\n"
    )


def write(directory: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files below a directory; the path of kl2tp.yaml."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return directory / "kl2tp.yaml"


def messages(path: Path) -> list[str]:
    """What is wrong, with paths relative to the directory of the main file."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [str(problem).replace(f"{path.parent}/", "") for problem in caught.value.problems]


def names(desired: Desired) -> list[str]:
    return [tunnel.name for tunnel in desired.tunnels]


def test_conf_d_adds_tunnels_in_the_order_of_file_names(tmp_path: Path) -> None:
    files = {"kl2tp.yaml": MAIN, "conf.d/20-b.yaml": one("b", 3), "conf.d/10-z.yaml": one("z", 4)}
    assert names(load(write(tmp_path, files))) == ["main", "z", "b"]


def test_conf_d_can_be_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, {"kl2tp.yaml": MAIN, "conf.d/a.yaml": "not: valid"})
    assert names(load(path, conf_d=False)) == ["main"]


def test_a_path_may_be_text(tmp_path: Path) -> None:
    assert names(load(str(write(tmp_path, {"kl2tp.yaml": MAIN})))) == ["main"]


def test_conf_d_beside_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"kl2tp.yaml": MAIN, "conf.d/a.yaml": one("a", 3)})
    monkeypatch.chdir(tmp_path)
    assert names(load("kl2tp.yaml")) == ["main", "a"]


def test_hidden_empty_and_foreign_files_in_conf_d_are_no_problem(tmp_path: Path) -> None:
    files = {
        "kl2tp.yaml": MAIN,
        "conf.d/.hidden.yaml": "{",
        "conf.d/off.yaml": "# tunnels:\n",
        "conf.d/void.yaml": "",
        "conf.d/README": "{",
        "conf.d/a.yaml~": "{",
    }
    assert names(load(write(tmp_path, files))) == ["main"]


def test_yml_in_conf_d_is_not_silently_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, {"kl2tp.yaml": MAIN, "conf.d/a.yml": one("a", 3)})
    assert messages(path) == [
        "conf.d/a.yml: only *.yaml is read here\n"
        "    hint: rename it to a.yaml, or to something else if it is not meant to be read"
    ]


def test_defaults_and_daemon_stand_in_the_main_file_only(tmp_path: Path) -> None:
    path = write(tmp_path, {"kl2tp.yaml": MAIN, "conf.d/a.yaml": "defaults: {}\ndaemon: {}\n"})
    assert [message.split("\n")[0] for message in messages(path)] == [
        "conf.d/a.yaml:1:1: defaults stands in the main file only",
        "conf.d/a.yaml:2:1: daemon stands in the main file only",
    ]


def test_conflicts_between_files_name_both_files(tmp_path: Path) -> None:
    path = write(tmp_path, {"kl2tp.yaml": MAIN, "conf.d/a.yaml": one("main", 1)})
    found = [message.split("\n")[0] for message in messages(path)]
    assert found == [
        "conf.d/a.yaml:1:11: main: the name is taken by main at kl2tp.yaml:2:11",
        "conf.d/a.yaml:1:41: main: the local tunnel id 1 is taken by main at kl2tp.yaml:2:41",
        "conf.d/a.yaml:1:70: main/s: the interface name 'i1' is taken by main/s at kl2tp.yaml:2:70",
    ]


def test_problems_of_all_files_come_in_the_order_of_files_and_places(tmp_path: Path) -> None:
    files = {
        "kl2tp.yaml": "tunnels:\n  t: {remote: x, local: y}\nzzz: 1\n",
        "conf.d/b.yaml": "{",
        "conf.d/a.yaml": "\n\nbad: 1",
    }
    found = [message.split(": ")[0] for message in messages(write(tmp_path, files))]
    assert found == [
        "kl2tp.yaml:2:3",
        "kl2tp.yaml:2:3",
        "kl2tp.yaml:2:15",
        "kl2tp.yaml:2:25",
        "kl2tp.yaml:3:1",
        "conf.d/a.yaml:3:1",
        "conf.d/b.yaml:1:2",
    ]


def test_defaults_may_come_after_the_tunnels(tmp_path: Path) -> None:
    main = "tunnels: {main: {remote: 10.0.0.2, ids: 1, sessions: {s: }}}\ndefaults: {local: 10.0.0.1, path_mtu: 1400}\n"
    found = load(write(tmp_path, {"kl2tp.yaml": main, "conf.d/a.yaml": one("a", 3)})).tunnels
    assert [(tunnel.name, tunnel.path_mtu) for tunnel in found] == [("main", 1400), ("a", 1400)]


@pytest.mark.parametrize(
    ("main", "expected"),
    [
        ("defaults: [", "kl2tp.yaml:1:12: not YAML"),
        (b"\xff", "kl2tp.yaml:1:1: the byte"),
        ("defaults: 5", "kl2tp.yaml:1:11: defaults: one value"),
        ("defaults: {local: x}", "kl2tp.yaml:1:19: local: 'x'"),
        ("defalts: {local: 10.0.0.1}", "kl2tp.yaml:1:1: unknown key 'defalts' in file"),
        ("defaults: {ipsec: [], local: 10.0.0.1}", "kl2tp.yaml:1:19: ipsec: a list"),
        ("defaults: {session: x, local: 10.0.0.1}", "kl2tp.yaml:1:21: session: one value"),
        ("defaults: {interface: x, local: 10.0.0.1}", "kl2tp.yaml:1:23: interface: one value"),
    ],
)
def test_defaults_that_cannot_be_read_cause_no_other_errors(tmp_path: Path, main: str | bytes, expected: str) -> None:
    files = {"kl2tp.yaml": main, "conf.d/a.yaml": one("a", 1), "conf.d/b.yaml": one("b", 2)}
    (found,) = messages(write(tmp_path, files))
    assert found.startswith(expected)


def test_tunnels_before_an_error_in_yaml_are_judged_too() -> None:
    with pytest.raises(ConfigError) as caught:
        loads("tunnels:\n  t: {local: x, remote: 10.0.0.2, ids: 1, sessions: {s: }}\n  u: [\n")
    assert [problem.where.line for problem in caught.value.problems] == [2, 4]


def test_error_text_has_a_line_per_problem_and_its_hint_below() -> None:
    with pytest.raises(ConfigError) as caught:
        loads("tunels: {}\nike: {}\n", "x.yaml")
    assert str(caught.value).split("\n") == [
        "x.yaml:1:1: unknown key 'tunels' in file",
        "    hint: did you mean tunnels?",
        "x.yaml:2:1: unknown key 'ike' in file",
        "    hint: ike belongs in ipsec or lns ipsec",
    ]


def test_error_text_is_bounded_and_problems_are_complete() -> None:
    with pytest.raises(ConfigError) as caught:
        loads("".join(f"x{i}: 1\n" for i in range(1000)))
    assert len(caught.value.problems) == 1000
    assert str(caught.value).endswith("... and 800 more problems")


def test_problem_without_hint_is_one_line() -> None:
    assert str(Problem(Where("f", 3, 4), "is wrong")) == "f:3:4: is wrong"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"tunnels:\n  t\xff: {}\n", "kl2tp.yaml:2:4: the byte 0xff is not UTF-8\n    hint: save the file as UTF-8"),
        ("tunnels:\n  é".encode() + b"\xe9: {}\n", "kl2tp.yaml:2:4: the byte 0xe9 is not UTF-8"),
        ("tunnels: {}\n".encode("utf-16"), "kl2tp.yaml:1:1: the byte 0xff is not UTF-8"),
        (b"tunnels: {}\n\x00", "kl2tp.yaml:2:1: the character U+0000 is not allowed in YAML"),
        (b"", "kl2tp.yaml: there is nothing in it"),
    ],
)
def test_content_that_is_no_text(tmp_path: Path, content: bytes, expected: str) -> None:
    found = messages(write(tmp_path, {"kl2tp.yaml": content}))
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_surrogates_in_text_are_named() -> None:
    with pytest.raises(ConfigError, match=r"kl2tp.yaml:1:11: the character U\+D800 is not allowed"):
        loads("tunnels: x\ud800")


def test_byte_order_mark_and_windows_lines_are_no_problem(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + MAIN.replace("\n", "\r\n").encode()
    assert names(load(write(tmp_path, {"kl2tp.yaml": content}))) == ["main"]


def test_columns_count_characters_not_bytes() -> None:
    text = 'daemon: {log_level: "éé", x: 1}'
    with pytest.raises(ConfigError, match=f"kl2tp.yaml:1:{text.index('x: 1') + 1}: unknown key 'x'"):
        loads(text)


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "kl2tp.yaml"
    assert messages(path)[0].startswith("kl2tp.yaml: can't be read: No such file or directory\n    hint: ")


def test_directory_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "kl2tp.yaml").mkdir()
    assert messages(tmp_path / "kl2tp.yaml")[0].startswith("kl2tp.yaml: can't be read: Is a directory")


def test_conf_d_that_is_no_directory(tmp_path: Path) -> None:
    path = write(tmp_path, {"kl2tp.yaml": MAIN, "conf.d": ""})
    assert messages(path) == ["conf.d: can't be read: Not a directory"]


def test_permission_denied_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    assert messages(tmp_path / "kl2tp.yaml") == [
        "kl2tp.yaml: can't be read: Permission denied\n    hint: run as a user who may read it"
    ]


def test_no_tunnels_are_a_valid_configuration() -> None:
    assert loads("tunnels: {}") == Desired()
    assert loads("tunnels:\nsets:\ndefaults:\ndaemon:\n") == Desired()


def test_daemon_settings() -> None:
    text = """daemon:
  {resync_interval: 2m, log_level: debug, keep_calls: yes, charon: unix:///run/ike/vici, marks: 0x40000000/0xfffff000}
"""
    assert loads(text).daemon == DaemonSpec(120.0, "debug", True, "unix:///run/ike/vici", (0x40000000, 0xFFF))


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collector_is_left_as_it_was(enabled: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        loads("tunnels: {}")
        with pytest.raises(ConfigError):
            loads("{")
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_loading_leaves_nothing_to_the_garbage_collector() -> None:
    loads(MAIN)
    gc.collect()
    loads(MAIN)
    assert gc.collect() == 0


def test_pure_python_parser_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    with_c = loads(MAIN)
    monkeypatch.setattr(document, "_LOADER", yaml.SafeLoader)
    assert loads(MAIN) == with_c
    with pytest.raises(ConfigError, match=r"kl2tp.yaml:2:1: not YAML: .*\n    hint: indent with spaces"):
        loads("tunnels:\n\tt: {}\n")
    with pytest.raises(ConfigError, match=r"kl2tp.yaml:1:10: the character U\+0007"):
        loads("tunnels: \x07")


def test_import_is_light() -> None:
    code = "import sys, kl2tp.config.schema; print([m for m in ('yaml', 'asyncio', 'pyroute2') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == "[]\n"
