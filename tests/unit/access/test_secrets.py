"""Secrets of tunnels: one, or xl2tpd's lines."""

import traceback
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kl2tp.access.secrets import ConfigError, TunnelSecrets

Write = Callable[..., str]


def found(secrets: TunnelSecrets, us: str, them: str) -> bytes | None:
    secret = secrets.lookup(us, them)
    return secret.reveal() if secret else None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("hunter2\n", b"hunter2"),
        ("# mine\n\n  hunter2\t\r\n; more\n", b"hunter2"),
        ("hun#ter;2", b"hun#ter;2"),
        (b"\xff\xfe", b"\xff\xfe"),
    ],
)
def test_one_word_is_the_secret_for_every_peer(write: Write, content: str | bytes, expected: bytes) -> None:
    secrets = TunnelSecrets(write("secret", content))
    assert found(secrets, "us", "them") == found(secrets, "", "") == expected


LINES = """# us them secret
lns  lac1   first secret  # comment
lns  *      second;comment
*    lac2   third
*    *      fourth
lns  lac3   never
"""


@pytest.mark.parametrize(
    ("us", "them", "expected"),
    [
        ("lns", "lac1", b"first secret"),
        ("LNS", "Lac1", b"first secret"),
        ("lns", "lac2", b"second"),
        ("lns", "lac3", b"second"),
        ("other", "lac2", b"third"),
        ("other", "lac1", b"fourth"),
        ("", "", b"fourth"),
    ],
)
def test_the_first_line_that_fits_counts(write: Write, us: str, them: str, expected: bytes) -> None:
    assert found(TunnelSecrets(write("l2tp-secrets", LINES)), us, them) == expected


def test_a_peer_on_no_line_has_no_secret(write: Write) -> None:
    secrets = TunnelSecrets(write("l2tp-secrets", "lns lac one\n"))
    assert found(secrets, "lns", "lac") == b"one"
    assert found(secrets, "lns", "other") is None
    assert found(secrets, "other", "lac") is None


def test_errors_come_at_once_and_show_no_secret(write: Write) -> None:
    path = write("l2tp-secrets", "hunter2\n  lns hunter2\nlns lac hunter2\nlns #hunter2\n")
    with pytest.raises(ConfigError) as caught:
        TunnelSecrets(path)
    assert [(p.where.line, p.where.column) for p in caught.value.problems] == [(1, 1), (2, 3), (4, 1)]
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("content", ["", "\n# nothing\n"])
def test_a_file_without_secret_is_an_error(write: Write, content: str) -> None:
    with pytest.raises(ConfigError, match="there is no secret in it"):
        TunnelSecrets(write("secret", content))


def test_a_file_open_to_others_is_refused(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"open to others \(mode 0640\)\n.*mend it: chmod 600"):
        TunnelSecrets(write("secret", "x", 0o640))


def test_a_change_is_noticed(write: Write) -> None:
    secrets = TunnelSecrets(write("secret", "x"))
    assert secrets.reload() is secrets
    write("secret", "longer")
    assert found(secrets.reload(), "", "") == b"longer"


def test_nothing_shows_a_secret(write: Write) -> None:
    secrets = TunnelSecrets(write("secret", "hunter2"))
    assert "hunter2" not in repr(secrets) + repr(secrets.lookup("", ""))


@given(content=st.one_of(st.binary(max_size=50), st.text("ab *#;\n\t", max_size=50).map(str.encode)))
@settings(deadline=None)
def test_whatever_is_in_a_file_only_a_config_error_comes_out(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "l2tp-secrets"
    path.write_bytes(content)
    path.chmod(0o600)
    try:
        secrets = TunnelSecrets(str(path))
    except ConfigError:
        return
    secret = secrets.lookup("a", "b")
    assert secret is None or secret.reveal() in content
