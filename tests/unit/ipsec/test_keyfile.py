"""Key files: format, permissions, memory; and that no message shows what is in them."""

import base64
import contextlib
import itertools
import os
import pickle
import stat
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.access import secretfile
from kl2tp.ipsec import keyfile
from kl2tp.ipsec.keyfile import KeyFile, KeyFileError, KeyRing, generate, parse, read

SECRET = bytes(range(1, 33))
KEY = f"key {base64.b64encode(SECRET).decode()}"
OTHER_KEY = f"key {base64.b64encode(bytes(range(32, 64))).decode()}"
COOKIE = KEY.replace("key", "cookie")
HEX = SECRET.hex()
RAW = f"in spi 0x1001 key {HEX} auth {HEX}\nout spi 8193 key 0x{HEX}\n"


def write(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


# --- format


def test_generate_gives_a_line_that_parses_and_never_the_same() -> None:
    lines = {generate() for _ in range(50)}
    assert len(lines) == 50
    for line in lines:
        assert len(parse("f", line.encode()).shared) == 1
        assert len(base64.b64decode(line.split()[1])) == 32


def test_comments_blank_lines_and_carriage_returns_are_skipped() -> None:
    text = f"# top\r\n\r\n  {KEY}  # trailing\r\n\t\n#{OTHER_KEY}\r\n"
    parsed = parse("f", text.encode())
    assert [key.line for key in parsed.shared] == [3]


def test_shared_keys_stay_in_the_order_of_the_file() -> None:
    one, two = parse("f", KEY.encode()).shared[0], parse("f", OTHER_KEY.encode()).shared[0]
    both = parse("f", f"{OTHER_KEY}\n{KEY}".encode()).shared
    assert [key.generations for key in both] == [two.generations, one.generations]


def test_generations_fit_twelve_bits_and_differ_by_direction() -> None:
    generations = [parse("f", generate().encode()).shared[0].generations for _ in range(100)]
    assert all(1 <= g <= 4095 for pair in generations for g in pair)
    assert any(left != right for left, right in generations)


def test_raw_keys_are_parsed_in_order() -> None:
    parsed = parse("f", f"{RAW}in spi 0xFFFFFFFF key {HEX}\n".encode())
    assert [key.spi for key in parsed.inbound] == [0x1001, 0xFFFFFFFF]
    assert [key.spi for key in parsed.outbound] == [0x2001]
    first = parsed.inbound[0]
    assert first.integrity is not None
    assert first.encryption.reveal() == first.integrity.reveal() == SECRET
    assert parsed.outbound[0].integrity is None
    assert not parsed.per_tunnel


def test_a_cookie_line_goes_with_either_kind_or_alone() -> None:
    for text in (f"{KEY}\n{COOKIE}", RAW + COOKIE, COOKIE):
        assert parse("f", text.encode()).cookie_seed is not None


def _equal_generation_text(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(keyfile, "_generation", lambda key, direction: 7)
    return f"{KEY}\n{OTHER_KEY}"


ERRORS: dict[str, tuple[str, int, str]] = {
    # name: (content, line, words of the message)
    "empty": ("", 0, "has no key; append one: kl2tp genkey"),
    "only comments": ("# nothing\n", 0, "has no key"),
    "unknown word": (f"{KEY}\n{base64.b64encode(SECRET).decode()}\n", 2, "is not a key"),
    "key without material": (f"{KEY}\nkey\n", 2, "wrong number of words"),
    "key with three words": (f"{KEY} x\n", 1, "wrong number of words"),
    "not base64": ("\n\nkey " + "!" * 44, 3, "is not base64"),
    "base64 of the wrong length": (KEY[:-1], 1, "is not base64"),
    "short key": (f"key {base64.b64encode(SECRET[:31]).decode()}", 1, "has 31 bytes of key material"),
    "placeholder": (f"key {base64.b64encode(bytes(32)).decode()}", 1, "is a placeholder"),
    "raw placeholder": (f"in spi 0x1001 key {'00' * 36}", 1, "is a placeholder"),
    "not ascii": (f"{KEY}\nkey ümlaut", 2, "not plain ASCII"),
    "key repeated": (f"{KEY}\n# between\n{KEY}", 3, "repeats the key of line 1"),
    "two cookies": (f"{KEY}\n{COOKIE}\n{COOKIE}", 3, "second `cookie`"),
    "short cookie": ("cookie AAAA", 1, "fewer than 32"),
    "mixed, raw second": (f"{KEY}\n{RAW}", 2, "mixes"),
    "mixed, raw first": (f"{RAW}{KEY}\n", 3, "mixes"),
    "no out": (f"in spi 0x1001 key {HEX}", 0, "has no `out` line"),
    "no in": (f"out spi 0x1001 key {HEX}", 0, "has no `in` line"),
    "spi missing": (f"in key {HEX}", 1, "is incomplete"),
    "odd words": (f"{RAW}in spi 0x1002 key", 3, "is incomplete"),
    "auth without hex": (f"{RAW}in spi 0x1002 key {HEX} auth", 3, "is incomplete"),
    "unknown field": (f"{RAW}in spi 0x1002 key {HEX} salt 00", 3, "is incomplete"),
    "only in": ("in", 1, "is incomplete"),
    "spi reserved": (f"{RAW}in spi 255 key {HEX}", 3, "no valid SPI"),
    "spi zero": (f"{RAW}in spi 0 key {HEX}", 3, "no valid SPI"),
    "spi too long": (f"{RAW}in spi 0x100000000 key {HEX}", 3, "no valid SPI"),
    "spi of 33 bits": (f"{RAW}in spi 4294967296 key {HEX}", 3, "no valid SPI"),
    "spi octal": (f"{RAW}in spi 01001 key {HEX}", 3, "no valid SPI"),
    "spi a word": (f"{RAW}in spi one key {HEX}", 3, "no valid SPI"),
    "spi twice": (f"{RAW}in spi 4097 key {HEX}", 3, "repeats the SPI of line 1"),
    "key not hex": (f"{RAW}in spi 0x1002 key {HEX[:-2]}zz", 3, "has `key` that is not hex"),
    "key of half a byte": (f"{RAW}in spi 0x1002 key {HEX}0", 3, "has `key` that is not hex"),
    "auth not hex": (f"{RAW}in spi 0x1002 key {HEX} auth xyz", 3, "has `auth` that is not hex"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_parse_errors_name_file_and_line_and_what_to_do(name: str) -> None:
    text, line, words = ERRORS[name]
    with pytest.raises(KeyFileError) as caught:
        parse("/etc/kl2tp/keys/hub", text.encode())
    assert caught.value.line == line
    where = f"/etc/kl2tp/keys/hub:{line}: " if line else "/etc/kl2tp/keys/hub: "
    assert str(caught.value).startswith(where)
    assert words in str(caught.value)
    assert caught.value.hint


def test_keys_of_equal_generation_cannot_share_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyFileError, match="make another key") as caught:
        parse("f", _equal_generation_text(monkeypatch).encode())
    assert caught.value.line == 2


@pytest.mark.parametrize("name", ERRORS)
def test_parse_errors_never_show_what_the_file_holds(name: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        parse("f", ERRORS[name][0].encode())
    shown = "".join(traceback.format_exception_only(caught.value)) + repr(caught.value)
    for word in ERRORS[name][0].split():
        windows = [word[i : i + 10] for i in range(len(word) - 10)]
        assert not [window for window in windows if window in shown]


def outcome(content: bytes) -> KeyFile | KeyFileError:
    try:
        return parse("f", content)
    except KeyFileError as error:
        return error


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_give_an_error_with_a_hint(content: bytes) -> None:
    result = outcome(content)
    assert (
        result.hint
        if isinstance(result, KeyFileError)
        else (result.shared or result.inbound or result.cookie_seed)
    )


@given(st.lists(st.sampled_from(["key", "in", "out", "spi", "0x1001", HEX, KEY, "auth", "\n", "#"])))
def test_any_words_parse_or_give_an_error_without_them(words: list[str]) -> None:
    assert HEX[:12] not in str(outcome(" ".join(words).encode()))


@pytest.mark.parametrize("text", [KEY, RAW, COOKIE])
def test_a_key_file_shows_no_secret_and_cannot_be_pickled(text: str) -> None:
    parsed = parse("f", text.encode())
    for shown in (repr(parsed), str(parsed)):
        assert "<secret, 32 bytes>" in shown
        assert HEX[:12] not in shown
        assert repr(SECRET)[2:20] not in shown
    with pytest.raises(TypeError, match="does not leave the process"):
        pickle.dumps(parsed)


# --- files


def test_a_private_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "hub", KEY)
    assert read(path) == parse(path, KEY.encode())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666, 0o777])
def test_a_file_open_to_others_is_refused_with_the_chmod_that_mends_it(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "hub key", KEY, mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:04o}") as caught:
        read(path)
    assert caught.value.hint == f"mend it: chmod 600 '{path}'"
    os.chmod(path, 0o600)
    read(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_open_to_its_owner_only_is_read(tmp_path: Path, mode: int) -> None:
    read(write(tmp_path / "hub", KEY, mode))


def _status(mode: int, uid: int) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, uid, 0, 0, 0, 0, 0))


def test_a_file_of_another_user_is_refused_with_the_chown_that_mends_it() -> None:
    stranger = os.geteuid() + 4321
    with pytest.raises(
        KeyFileError, match=f"belongs to another user .uid {stranger}.; mend it: chown "
    ) as caught:
        secretfile.check_file("/k", "/k", _status(stat.S_IFREG | 0o600, stranger))
    assert caught.value.hint.endswith(" /k")
    with pytest.raises(KeyFileError, match=r"chown \S+ /k && chmod 600 /k"):
        secretfile.check_file("/k", "/k", _status(stat.S_IFREG | 0o644, stranger))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize(("directory_mode", "refused"), [(0o700, False), (0o770, True)])
def test_root_reads_a_users_key_only_from_a_directory_that_nobody_else_can_change(
    tmp_path: Path, directory_mode: int, refused: bool
) -> None:
    path = write(tmp_path / "k.key", generate())
    os.chown(path, 4321, -1)
    os.chown(tmp_path, 4321, -1)
    tmp_path.chmod(directory_mode)
    with pytest.raises(KeyFileError, match="another user") if refused else contextlib.nullcontext():
        read(path)


@pytest.mark.parametrize("uid", [0, os.geteuid()])
def test_a_file_of_root_or_of_ours_is_accepted(uid: int) -> None:
    secretfile.check_file("/k", "/k", _status(stat.S_IFREG | 0o600, uid))


def _directory(path: Path) -> None:
    path.mkdir()


def _fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def _device(path: Path) -> None:
    path.symlink_to("/dev/null")


@pytest.mark.parametrize("make", [_directory, _fifo, _device])
def test_what_is_no_regular_file_is_refused_without_waiting(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "hub")
    with pytest.raises(KeyFileError, match="is not a regular file"):
        read(str(tmp_path / "hub"))


def test_a_missing_file_comes_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="does not exist; make one: kl2tp genkey --output "):
        read(str(tmp_path / "none"))


@pytest.mark.parametrize("path", ["/dev/null/x", "nul\0", "/" + "x" * 300])
def test_an_impossible_path_is_an_error_with_a_hint(path: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        read(path)
    assert caught.value.hint


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Not root: whom no mode keeps from reading."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_file_we_may_not_read_comes_with_the_chown(tmp_path: Path) -> None:
    path = write(tmp_path / "hub", KEY, 0o000)
    with unprivileged(), pytest.raises(KeyFileError, match=r"as root: chown \S+ \S+ && chmod 600 ") as caught:
        read(path)
    assert caught.value.problem == "may not be read"


def test_an_oversized_file_is_refused_and_the_largest_is_read(tmp_path: Path) -> None:
    text = KEY + "\n"
    read(write(tmp_path / "hub", text + "#" * (65536 - len(text))))
    with pytest.raises(KeyFileError, match="longer than 65536 bytes"):
        read(write(tmp_path / "hub", text + "#" * (65537 - len(text))))


def test_a_credential_is_read_from_the_directory_systemd_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    write(tmp_path / "hub", KEY, 0o440)
    assert read("credential:hub").path == "credential:hub"
    (tmp_path / "hub").chmod(0o444)
    with pytest.raises(KeyFileError, match="open to others"):
        read("credential:hub")


def test_a_credential_of_another_owner_is_read(tmp_path: Path) -> None:
    secretfile.check_file("credential:hub", "/k", _status(stat.S_IFREG | 0o440, os.geteuid() + 4321))


def test_a_missing_credential_comes_with_the_line_for_the_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(KeyFileError, match="does not exist; add to the unit: LoadCredential=hub"):
        read("credential:hub")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(KeyFileError, match="CREDENTIALS_DIRECTORY is not set"):
        read("credential:hub")


@pytest.mark.parametrize("name", ["", "..", ".", "../etc/shadow", "a/b"])
def test_a_credential_is_a_name_not_a_path(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/")
    with pytest.raises(KeyFileError, match="not a credential's name"):
        read(f"credential:{name}")


# --- ring


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that were really read."""
    seen: list[str] = []
    original = keyfile.read

    def counted(path: str) -> KeyFile:
        seen.append(path)
        return original(path)

    monkeypatch.setattr(keyfile, "read", counted)
    return seen


def test_ten_thousand_tunnels_read_a_shared_file_once(tmp_path: Path, reads: list[str]) -> None:
    ring, path = KeyRing(), write(tmp_path / "hub", KEY)
    held = {id(ring.get(path)) for _ in range(10_000)}
    assert len(held) == 1
    assert reads == [path]


def test_refresh_keeps_what_did_not_change(tmp_path: Path, reads: list[str]) -> None:
    ring, path = KeyRing(), write(tmp_path / "hub", KEY)
    before = ring.get(path)
    assert ring.changed_paths() == ring.refresh() == frozenset()
    assert ring.get(path) is before
    assert reads == [path]


def _rewritten(path: Path) -> None:
    path.write_text(f"{KEY}\n{OTHER_KEY}\n")


def _replaced(path: Path) -> None:
    """Same size and same time, as a careful editor or `cp -p` leaves it."""
    status = path.stat()
    new = path.with_suffix(".new")
    write(new, OTHER_KEY)
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)


def _removed(path: Path) -> None:
    path.unlink()


def _opened_to_others(path: Path) -> None:
    path.chmod(0o644)


@pytest.mark.parametrize("change", [_rewritten, _replaced, _removed, _opened_to_others])
def test_a_changed_file_is_noticed_and_read_again_after_refresh(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    ring, path, quiet = KeyRing(), write(tmp_path / "hub", KEY), write(tmp_path / "quiet", KEY)
    before = ring.get(path)
    ring.get(quiet)
    change(tmp_path / "hub")
    assert ring.get(path) is before
    assert ring.changed_paths() == ring.refresh() == {path}
    try:
        assert ring.get(path) != before
    except KeyFileError:
        assert change in (_removed, _opened_to_others)


def test_an_error_stays_until_refresh_and_then_heals(tmp_path: Path, reads: list[str]) -> None:
    ring, path = KeyRing(), str(tmp_path / "hub")
    for _ in itertools.repeat(None, 3):
        with pytest.raises(KeyFileError, match="does not exist"):
            ring.get(path)
    assert reads == [path]
    write(tmp_path / "hub", KEY)
    assert ring.refresh() == {path}
    assert ring.get(path).shared
