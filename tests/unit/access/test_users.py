"""Users' files: what they mean, and what is said of what means nothing."""

import contextlib
import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kl2tp.access.user import ANY_ADDRESS, AddressRule, User
from kl2tp.access.users import ConfigError, Users
from kl2tp.model import addr
from kl2tp.model.objects import Secret
from kl2tp.model.spec import RouteSpec

Write = Callable[..., str]

SECRET = "hunter2"


def secret(users: Users, name: str, server: str = "") -> str | None:
    user = users.lookup(name, server)
    return user.secret.reveal().decode() if user else None


def errors(*paths: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Users(paths)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.problems)
    assert SECRET not in shown, "a secret got into a message"
    return [
        f"{problem.where.line}:{problem.where.column}: {problem.message}; {problem.hint}"
        for problem in caught.value.problems
    ]


# --- chap-secrets


def test_a_line_is_client_server_secret_and_addresses(write: Write) -> None:
    users = Users([write("chap-secrets", "# c s p a\nalice * 'pass word' 10.0.0.5\n\"bob b\" lns b\\x6fb *\n")])
    assert len(users) == 2
    assert secret(users, "alice", "lns") == "pass word"
    assert secret(users, "bob b", "lns") == "bob"
    assert secret(users, "bob b", "other") is None
    assert secret(users, "carol", "lns") is None
    assert secret(users, "") is None
    assert users.warnings == ()


LINES = {3: "alice lns s3", 2: "* lns s2", 1: "alice * s1", 0: "* * s0"}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
@pytest.mark.parametrize("present", range(1, 16))
def test_the_line_that_says_most_wins_wherever_it_stands(write: Write, present: int, order: tuple[int, ...]) -> None:
    ranks = [rank for rank in order if present >> rank & 1]
    users = Users([write("chap", "".join(f"{LINES[rank]} *\n" for rank in ranks))])
    assert secret(users, "alice", "lns") == f"s{max(ranks)}"
    for name, server, fits in (("alice", "x", {1, 0}), ("bob", "lns", {2, 0}), ("bob", "", {0})):
        best = max(fits & set(ranks), default=None)
        assert secret(users, name, server) == (None if best is None else f"s{best}")


def test_of_equal_lines_the_first_wins_and_the_second_is_warned_of(write: Write) -> None:
    one, two = write("one", "a * first *\n\na * second *\n"), write("two", "b * x *\na * third *\n")
    users = Users([one, two])
    assert secret(users, "a") == "first"
    assert [str(problem.where) for problem in users.warnings] == [f"{one}:3:1", f"{two}:2:1"]


def rules(write: Write, text: str) -> User:
    user = Users([write("chap", f"a * s {text}\n")]).lookup("a")
    assert user is not None
    return user


@pytest.mark.parametrize(
    ("text", "permitted", "forbidden", "fixed"),
    [
        ("", "", "10.0.0.1 192.0.2.1", ""),
        ("-", "", "10.0.0.1", ""),
        ("*", "10.0.0.1 192.0.2.1", "127.0.0.1 224.0.0.1 255.255.255.255", ""),
        ("10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.1"),
        ("10.0.0.1 10.0.0.2", "10.0.0.1 10.0.0.2", "10.0.0.3", "10.0.0.1"),
        ("!10.0.0.1 10.0.0.2", "10.0.0.2", "10.0.0.1", "10.0.0.2"),
        ("10.0.0.0/24", "10.0.0.0 10.0.0.255", "10.0.1.0", ""),
        ("10.0.0.77/24", "10.0.0.1", "10.0.1.77", ""),
        ("!10.0.0.7 10.0.0.0/24", "10.0.0.8", "10.0.0.7", ""),
        ("10.0.0.0/24 !10.0.0.7", "10.0.0.7", "10.0.1.7", ""),
        ("!10.0.0.0/8 *", "11.0.0.1", "10.1.1.1", ""),
        ("10.0.0.1 - 10.0.0.2", "10.0.0.1", "10.0.0.2", "10.0.0.1"),
        ("* 10.0.0.2", "10.0.0.3", "", ""),
        ("10.0.0.0/24+", "10.0.0.1", "10.0.0.2 10.0.0.0", "10.0.0.1"),
        ("10.0.0.0/31+", "", "10.0.0.0 10.0.0.1", ""),
        ("10.0.0.9/32", "10.0.0.9", "10.0.0.8", "10.0.0.9"),
    ],
)
def test_address_lists(write: Write, text: str, permitted: str, forbidden: str, fixed: str) -> None:
    user = rules(write, text)
    assert [a for a in permitted.split() if not user.permits(addr.parse(a))] == []
    assert [a for a in forbidden.split() if user.permits(addr.parse(a))] == []
    assert addr.text(user.fixed()) == fixed
    assert not user.permits(addr.parse("2001:db8::1"))
    assert not user.permits(b"")


def test_a_plus_counts_interfaces(write: Write) -> None:
    user = rules(write, "10.0.0.0/29+ 10.9.0.1")
    assert [addr.text(user.fixed(unit)) for unit in (0, 1, 5)] == ["10.0.0.1", "10.0.0.2", "10.0.0.6"]
    assert addr.text(user.fixed(6)) == "10.9.0.1", "beyond the network the rule does not count"
    assert user.permits(addr.parse("10.0.0.6"), 5)
    assert not user.permits(addr.parse("10.0.0.6"), 4)
    assert not user.permits(addr.parse("10.0.0.7"), 6)


def test_a_secret_may_be_in_a_file_of_its_own(write: Write) -> None:
    inner = write("inner", "# of alice\n'pass word' and more\n")
    users = Users([write("chap", f"alice * @{inner} *\nbob * '@{inner}' *\ncarol * @x *\n")])
    assert secret(users, "alice") == secret(users, "bob") == "pass word"
    assert secret(users, "carol") == "@x"


def test_options_are_not_obeyed_and_said_so(write: Write) -> None:
    users = Users([write("chap", "a * s 10.0.0.1 -- mtu 1400 10.0.0.2\n")])
    user = users.lookup("a")
    assert user is not None
    assert len(user.rules) == 1
    assert [(p.where.line, p.where.column) for p in users.warnings] == [(1, 16)]


def test_all_errors_come_at_once_with_their_places(write: Write) -> None:
    first = f"a\nb *\nc * {SECRET} host.example\nd * '' *\n"
    chap = write("chap", f"{first}e * {SECRET} 10.0.0.0/33 10.0.0.300\nf * '{SECRET}")
    open_to_all = write("open", "a * b *\n", 0o644)
    found = errors(chap, str(Path(chap).parent / "none"), open_to_all)
    assert [error.partition(";")[0] for error in found] == [
        "1:1: the line has no server",
        "2:1: the line has no secret",
        "3:13: this is no address",
        "4:5: the secret is empty",
        "5:13: this is no address",
        "5:25: this is no address",
        "6:5: a quotation has no end",
        "0:0: does not exist",
        "0:0: is open to others (mode 0644)",
    ]
    assert found[-1].endswith(f"mend it: chmod 600 {open_to_all}")


NO_ADDRESSES = (
    *("10.0.0", "0x0a000001", "10.0.0.1/", "10.0.0.1/0", "/24", "!", "!*", "!-", "2001:db8::1", "10.0.0.1/24-"),
    *("10.0.0.1+", "10.0.0.1/+24", "010.0.0.1", "localhost", "\u0661.1.1.1"),
)


@pytest.mark.parametrize("word", NO_ADDRESSES)
def test_what_is_no_address_is_an_error(write: Write, word: str) -> None:
    found = errors(write("chap", f"a * s {word}\n"))
    assert [error.partition(";")[0] for error in found] == ["1:7: this is no address"]


def test_a_file_for_a_secret_that_cannot_be_read_is_an_error(write: Write) -> None:
    inner = write("inner", SECRET, 0o644)
    empty = write("empty", "#\n")
    found = errors(write("chap", f"a * @{inner} *\nb * @/{SECRET} *\nc * @{empty} *\n"))
    assert found[0].startswith("1:5: the file that holds the secret is open to others (mode 0644); mend it: chmod 600")
    assert found[1].startswith("2:5: the file that holds the secret does not exist; a secret that begins with @/ names")
    assert found[2].startswith("3:5: the file that holds the secret has none;")


def test_names_that_are_not_text_are_found_as_peers_say_them(write: Write) -> None:
    users = Users([write("chap", b"caf\xe9 * one *\ncaf\xc3\xa9 * two *\na\\007b * three *\n")])
    assert secret(users, "caf\\xe9") == "one"
    assert secret(users, "café") == "two"
    assert secret(users, "a\\x07b") == "three"


# --- YAML


def test_a_yaml_user_has_it_all(write: Write) -> None:
    inner = write("inner", "from file # all of it\nrest\n")
    users = Users([write("users.yaml", f"""
        alice: {{secret: 0123, address: 10.0.0.5, limit: 2}}
        'DOMAIN\\bob':
          secret_file: {inner}
          server: lns
          prefix6: 2001:db8:7::/56
          routes: [192.168.7.0/24, "2001:db8:8::/48"]
        "*": {{secret: "null", routes: 10.0.0.0/8}}
    """)])
    assert users.lookup("alice") == User("alice", Secret(b"0123"), limit=2, rules=(
        AddressRule(True, 0x0A000005, 0xFFFFFFFF),))
    bob = users.lookup("DOMAIN\\bob", "lns")
    assert bob == User(
        "DOMAIN\\bob", Secret(b"from file # all of it"), "lns", ANY_ADDRESS, (addr.parse("2001:db8:7::"), 56),
        (RouteSpec(addr.parse("192.168.7.0"), 24), RouteSpec(addr.parse("2001:db8:8::"), 48)),
    )
    assert secret(users, "carol") == "null"
    assert list(users.fixed_addresses()) == [addr.parse("10.0.0.5")]
    assert list(users.fixed_prefixes()) == [addr.parse("2001:db8:7::")]


def test_merges_and_aliases_work_within_users(write: Write) -> None:
    users = Users([write("users.yml", "a: &base {secret: x, limit: 3}\nb: {<<: *base, secret: y}\n")])
    b = users.lookup("b")
    assert b is not None
    assert (b.secret, b.limit) == (Secret(b"y"), 3)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~\n"])
def test_a_file_may_be_empty(write: Write, text: str) -> None:
    assert len(Users([write("users.yaml", text)])) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hunter2", "1:1: here belongs a mapping from user names"),
        ("- hunter2", "1:1: here belongs a mapping from user names"),
        ("a: hunter2", "1:4: here belongs a mapping"),
        ("a: [hunter2]", "1:4: here belongs a mapping"),
        ("a: {hunter2}", "1:1: the user has no secret\n1:5: this key is unknown"),
        ("a: {secert: hunter2}", "1:1: the user has no secret\n1:5: this key is unknown"),
        ("a: {secret: hunter2, secret: hunter2}", "1:22: secret is here for the second time"),
        ("a: {secret: }", "1:13: here is nothing where a secret belongs"),
        ("a: {secret: ''}", "1:13: here is nothing where a secret belongs"),
        ("a: {secret: null}", "1:13: here is nothing where a secret belongs"),
        ("a: {secret: [hunter2]}", "1:13: here belongs a secret"),
        ("a: {secret: {hunter2: }}", "1:13: here belongs a secret"),
        ("a: {secret: {hunter2}", "1:22: this is not YAML, or none of what belongs here"),
        ("a: {secret: *hunter2}", "1:13: this is not YAML, or none of what belongs here"),
        ("a: {secret: !hunter2 }", "1:13: this is not YAML, or none of what belongs here"),
        ("a: {secret: %hunter2}", "1:13: this is not YAML, or none of what belongs here"),
        ("a: {secret: @hunter2}", "1:13: this is not YAML, or none of what belongs here"),
        ("a: {secret: 'hunter2}", "1:22: this is not YAML, or none of what belongs here"),
        ("a: {secret: \"\\hunter2\"}", "1:14: this is not YAML, or none of what belongs here"),
        ("a:\n  secret: hunter2: x\n", "2:18: this is not YAML, or none of what belongs here"),
        ("a: {secret: x\0}", "1:14: this is not YAML, or none of what belongs here"),
        ("<<: {a: hunter2}", "1:1: users are not merged"),
        ("a: {secret: x, secret_file: /y}", "1:1: the user has both secret and secret_file"),
        ("a: {secret_file: hunter2}", "1:18: this is not an absolute path"),
        ("a: {secret_file: /nowhere/at/all}", "1:1: the user's secret_file does not exist"),
        ("a: {secret: x, address: hunter2}", "1:25: this value means nothing here"),
        ("a: {secret: x, address: '2001:db8::1'}", "1:25: this is not the IPv4 address of a host"),
        ("a: {secret: x, address: 127.0.0.1}", "1:25: this is not the IPv4 address of a host"),
        ("a: {secret: x, address: 224.0.0.1}", "1:25: this value means nothing here"),
        ("a: {secret: x, address: [10.0.0.1]}", "1:25: here belongs IPv4 or IPv6 address"),
        ("a: {secret: x, prefix6: 10.0.0.0/8}", "1:25: this is not an IPv6 prefix for a user"),
        ("a: {secret: x, prefix6: '2001:db8::/65'}", "1:25: this is not an IPv6 prefix for a user"),
        ("a: {secret: x, prefix6: '2001:db8::1/64'}", "1:25: this value means nothing here"),
        ("a: {secret: x, routes: [10.0.0.1/8]}", "1:25: this value means nothing here"),
        ("a: {secret: x, routes: [[10.0.0.0/8]]}", "1:25: here belongs PREFIX"),
        ("a: {secret: x, limit: 0}", "1:23: this value means nothing here"),
        ("a: {secret: x, limit: hunter2}", "1:23: this value means nothing here"),
        ("a: {secret: x, server: }", "1:24: here is nothing where our PPP name, or * belongs"),
        (
            "a: {secret: x}\nb: {}\na: {secret: y}",
            "2:1: the user has no secret\n3:1: this user is there already, for the same server",
        ),
    ],
)
def test_yaml_errors_say_where_and_never_what(write: Write, text: str, expected: str) -> None:
    found = errors(write("users.yaml", text))
    assert [error.partition(";")[0] for error in found] == expected.split("\n")


def test_yaml_that_is_not_utf8_is_an_error(write: Write) -> None:
    found = errors(write("users.yaml", b"a: {secret: x}\nb\xc3\xa9: {secret: \xff}\n"))
    assert found == ["2:14: this is not UTF-8; save the file as UTF-8"]


def test_an_unknown_key_that_is_nearly_right_is_recognized(write: Write) -> None:
    found = errors(write("users.yaml", "a: {secret: x, adress: 10.0.0.1}"))
    assert found == ["1:16: this key is unknown; did you mean address?"]


# --- files


def test_the_empty_set_of_files_has_no_users() -> None:
    assert Users().lookup("a") is None
    assert not Users().changed()


def test_a_credential_is_read(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("users.yaml", "a: {secret: x}", 0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert secret(Users(["credential:users.yaml"]), "a") == "x"


def test_a_change_is_noticed_and_nothing_else_is_read_again(write: Write) -> None:
    inner = write("inner", "one")
    chap, users_yaml = write("chap", f"a * @{inner} *\n"), write("u.yaml", f"b: {{secret_file: {inner}}}\n")
    users = Users([chap, users_yaml])
    assert not users.changed()
    assert users.reload() is users
    write("inner", "longer")
    assert users.changed()
    again = users.reload()
    assert (secret(again, "a"), secret(again, "b")) == ("longer", "longer")
    assert secret(users, "a") == "one", "who holds the old set is not disturbed"
    assert not again.changed()
    os.chmod(chap, 0o644)
    with pytest.raises(ConfigError, match="open to others"):
        again.reload()
    assert secret(again, "a") == "longer"


def test_nothing_shows_a_secret(write: Write) -> None:
    users = Users([write("chap", f"a * {SECRET} *\n")])
    assert SECRET not in repr(users) + repr(users.lookup("a")) + str(users.lookup("a"))


def test_a_thousand_users_are_found(write: Write) -> None:
    users = Users([write("chap", "".join(f"user{n} * 's {n}' 10.0.{n >> 8}.{n & 255}\n" for n in range(1000)))])
    assert len(users) == len(list(users)) == len(set(users.fixed_addresses())) == 1000
    assert all(secret(users, f"user{n}") == f"s {n}" for n in range(1000))


@given(content=st.one_of(st.binary(max_size=60), st.text("ab*'\"\\# \n@/10.-!+{}:[]&", max_size=60).map(str.encode)))
@settings(deadline=None)
def test_whatever_is_in_a_file_only_a_config_error_comes_out(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    directory = tmp_path_factory.getbasetemp()
    for name in ("any", "any.yaml"):
        path = directory / name
        path.write_bytes(content)
        path.chmod(0o600)
        with contextlib.suppress(ConfigError):
            assert len(Users([str(path)])) <= len(content)
