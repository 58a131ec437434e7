"""The old files are read as the old programs read them."""

import pytest

from kl2tp.migrate import pppd_options
from kl2tp.migrate.addresses import Hosts, text
from kl2tp.migrate.files import Files
from kl2tp.migrate.finding import Findings, Kind
from kl2tp.migrate.xl2tpd_conf import parse
from kl2tp.migrate.xl2tpd_table import OPTIONS

from .conftest import Machine, resolve

CONF = """\
; a comment
[global]  ; another
  Listen-Addr = 10.0.0.1   ; mine
port=1702
[LNS default]
ip range = 10.9.0.1-10.9.0.9
[lns Other One]
local ip = 10.9.0.1
[lns DEFAULT]
ip range = 10.9.1.1
name = a = b
"""


def test_sections_options_and_comments() -> None:
    findings = Findings()
    sections = parse("x.conf", CONF, findings)
    assert [(section.kind, section.name) for section in sections] == [
        ("global", ""), ("lns", "default"), ("lns", "Other One"),
    ]  # fmt: skip
    world, default, _ = sections
    assert (world.value("listen-addr"), world.value("port")) == ("10.0.0.1", "1702")
    assert [line.value for line in default.all("ip range")] == ["10.9.0.1-10.9.0.9", "10.9.1.1"]
    assert (default.value("name"), str(default.lines[-1].place)) == ("a = b", "x.conf:11")
    assert findings.of(Kind.WRONG) == []


@pytest.mark.parametrize(
    ("conf", "wrong"),
    [
        ("port = 1\n", "x.conf:1: port = 1: stands in no section"),
        ("[global\nport = 1\n", "x.conf:2: port = 1: stands in no section"),
        ("[peer x]\n", "x.conf:1: [peer x]: not a section: what follows is left out"),
        ("[global]\nport\n", "x.conf:2: port: neither OPTION = VALUE nor a comment, which begins with ;"),
        ("[global]\n# port = 1\n", "x.conf:2: # port = 1: no option of xl2tpd"),
        ("[lns a]\nport = 1\n", "x.conf:2: port = 1: not an option of [lns]"),
        ("[lns a]\nchallenge = maybe\n", "x.conf:2: challenge = maybe: neither yes nor no"),
    ],
)
def test_what_xl2tpd_would_not_take(conf: str, wrong: str) -> None:
    findings = Findings()
    parse("x.conf", conf, findings)
    assert wrong in [str(finding) for finding in findings.of(Kind.WRONG)]


def test_every_spelling_of_an_option_is_known() -> None:
    assert OPTIONS["require auth"] is OPTIONS["require authentication"]
    assert len({id(option) for option in OPTIONS.values()}) == len(OPTIONS) - 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a b\tc\n# d\ne #f\n", [("a", 1), ("b", 1), ("c", 1), ("e", 3)]),
        ("name \"two words\" x'y z'\n", [("name", 1), ("two words", 1), ("xy z", 1)]),
        (r'"a \" b" c\ d \#', [('a " b', 1), ("c d", 1), ("#", 1)]),
        ('"open', [("open", 1)]),
        ('a ""\nb', [("a", 1), ("", 1), ("b", 2)]),
        ("a\\", [("a", 1)]),
    ],
)
def test_words_of_pppd(content: str, words: list[tuple[str, int]]) -> None:
    assert list(pppd_options.words(content)) == words


def options(machine: Machine, content: str) -> tuple[list[str], list[str]]:
    """The options in a file, and what is wrong or unknown about it."""
    findings = Findings()
    machine.write("/o", content)
    found = pppd_options.read(Files(findings, str(machine.root)), findings, "/o")
    told = [str(finding) for kind in (Kind.WRONG, Kind.LOST, Kind.DIFFERENT) for finding in findings.of(kind)]
    return [given.what for given in found], told


def test_options_take_as_many_words_as_they_need(machine: Machine) -> None:
    found, told = options(machine, "+mschap-v2 mtu\n1400 115200 /dev/ttyS0 10.0.0.1:10.0.0.2 ms-dns 10.0.0.3 -pap")
    assert found == [
        "require-mschap-v2", "mtu 1400", "speed 115200", "speed /dev/ttyS0", "ADDRESS:ADDRESS 10.0.0.1:10.0.0.2",
        "ms-dns 10.0.0.3", "refuse-pap",
    ]  # fmt: skip
    assert told == []


def test_unknown_options_take_the_rest_of_their_line(machine: Machine) -> None:
    found, told = options(machine, "pptp_server 10.0.0.1 --loglevel 0\nauth\nmtu")
    assert found == ["auth"]
    assert told == ["/o:3: mtu: the value is missing", "/o:1: pptp_server: not an option of pppd itself"]


def test_files_that_name_files(machine: Machine) -> None:
    machine.write("/more", "mru 1300\nfile /o\n")
    found, told = options(machine, "auth\nfile /more\nfile /none\n")
    assert found[:3] == ["auth", "mru 1300", "auth"]
    assert len(told) == 1
    assert told[0].startswith("/none: can't be read: No such file")


def test_a_password_is_never_part_of_a_message(machine: Machine) -> None:
    assert options(machine, "password hunter2")[0] == ["password"]


def test_users_without_their_secrets() -> None:
    found = pppd_options.users("s", '# none\njoe l2tpd "a b" *\n\'the guest\' * ""\nhalf a\n')
    assert [(user.client, user.server, user.empty, user.place.line) for user in found] == [
        ("joe", "l2tpd", False, 2),
        ("the guest", "*", True, 3),
    ]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["ip range = 10.9.0.1 - 10.9.0.9"], ["10.9.0.1-10.9.0.9"]),
        (["ip range = 10.9.0.7"], ["10.9.0.7"]),
        (["ip range = 10.9.0.1-9"], ["10.9.0.1-10.9.0.9"]),
        (["ip range = 10.9.0.1-1.9"], ["10.9.0.1-10.9.1.9"]),
        (["ip range = 10.9.0.1-9", "no ip range = 10.9.0.3-4", "ip range = 10.9.0.4"], ["10.9.0.1-10.9.0.2",
                                                                                      "10.9.0.4-10.9.0.9"]),
        (["ip range = lns.example.net-lns2.example.net"], ["203.0.113.9-203.0.113.10"]),
        (["ip range = nowhere.example.net"], []),
        (["ip range = 10.9.0.9-10.9.0.1"], []),
        (["ip range = 2001:db8::1"], []),
    ],
)  # fmt: skip
def test_ranges(lines: list[str], expected: list[str]) -> None:
    findings = Findings()
    (section,) = parse("c", "\n".join(["[lns a]", *lines]), findings)
    ranges = Hosts(findings, resolve).ranges(section.lines)
    assert [text(ends) for ends in ranges] == expected
    silent = "example" not in lines[0] and bool(expected)
    assert silent is not any(findings.of(kind) for kind in (Kind.WRONG, Kind.LOST, Kind.DIFFERENT))
