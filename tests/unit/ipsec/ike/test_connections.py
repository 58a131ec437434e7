"""From what is wanted to what charon is sent: tables."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kl2tp.access import secretfile
from kl2tp.access.secretfile import SecretFileError
from kl2tp.ipsec.ike.connections import Compiler, Content, renewed, selector
from kl2tp.ipsec.ike.wanted import Traffic, Wanted
from kl2tp.model.addr import parse
from kl2tp.model.ike import ANYBODY, CERTIFICATE, EAP, IkeSpec
from kl2tp.model.spec import Mode
from kl2tp.wire.vici import decode_message, encode_message

LOCAL, REMOTE = parse("198.51.100.1"), parse("203.0.113.7")
CERT, CHAIN, CA = (b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % name
                   for name in (b"bWluZQ==", b"Y2hhaW4=", b"Y2E="))  # fmt: skip
FILES: Mapping[str, bytes] = {
    "one": b"geheim\n",
    "many": b"203.0.113.7 geheim\nbranch.example anders\n%any alle\n",
    "other": b"etwas\n",
    "empty": b"\n",
    "cert": CERT + CHAIN,
    "key": b"-----BEGIN PRIVATE KEY-----\nxyz\n-----END PRIVATE KEY-----\n",
    "ca": b"some words before\n" + CA,
    "password": b"hunter22\n",
    "der": b"\x30\x82\x01\x00rest",
    "words": b"no certificate",
}
TUNNEL = Wanted("kl2tp:madrid", IkeSpec(psk_file="one", reqid=0x6B6C0001), LOCAL, ((REMOTE, 32),), initiates=True)
LNS = Wanted("kl2tp:lns:office", IkeSpec(psk_file="many", version=0), LOCAL, (), Traffic(17, 1701, 0), many=True)
CERTIFIED = replace(
    TUNNEL,
    spec=IkeSpec(auth=CERTIFICATE, remote_auth=CERTIFICATE, certificate_files=("cert",), key_file="key",
                 ca_files=("ca",), remote_id="far.example", reqid=1),
)  # fmt: skip


def _read(path: str, limit: int) -> bytes:
    if path not in FILES:
        raise SecretFileError(path, 0, "does not exist", "make one")
    return FILES[path]


def _compiled(*wanted: Wanted) -> Content:
    return Compiler(_read, _read).compile(wanted)


def _sent(want: Wanted) -> dict[str, Any]:
    """The connection as charon gets it."""
    content = _compiled(want)
    assert not content.problems
    section: Any = decode_message(encode_message(content.connections[want.name].message))[want.name]
    return dict(section)


def _shared(*wanted: Wanted) -> dict[tuple[str, ...], bytes]:
    return {shared.owners: shared.secret.reveal() for shared in _compiled(*wanted).shared.values()}


def test_a_tunnel() -> None:
    assert _sent(TUNNEL) == {
        "version": "2",
        "local_addrs": ["198.51.100.1"],
        "remote_addrs": ["203.0.113.7"],
        "proposals": list(TUNNEL.spec.proposals),
        "unique": "replace",
        "encap": "no",
        "mobike": "no",
        "aggressive": "no",
        "dpd_delay": "30s",
        "dpd_timeout": "120s",
        "rekey_time": "14400s",
        "reauth_time": "0s",
        "over_time": "1440s",
        "rand_time": "1440s",
        "local-1": {"auth": "psk"},
        "remote-1": {"auth": "psk", "id": "203.0.113.7"},
        "children": {
            "l2tp": {
                "mode": "transport",
                "policies": "no",
                "esp_proposals": ["aes256gcm16", "aes256-sha256"],
                "local_ts": ["dynamic[udp/1701]"],
                "remote_ts": ["dynamic[udp/1701]"],
                "rekey_time": "3600s",
                "life_time": "3960s",
                "rand_time": "360s",
                "replay_window": "128",
                "reqid": str(0x6B6C0001),
            }
        },
    }


def test_an_lns_gives_each_client_a_reqid_and_replaces_none() -> None:
    sent = _sent(LNS)
    assert (sent["version"], sent["unique"], sent["remote_addrs"]) == ("0", "never", ["%any"])
    assert sent["remote-1"] == {"auth": "psk"}
    child = sent["children"]["l2tp"]
    assert (child["mark_in"], child["mark_in_sa"]) == ("%unique", "no")
    assert "reqid" not in child
    assert (child["local_ts"], child["remote_ts"]) == (["dynamic[udp/1701]"], ["dynamic[udp]"])


@pytest.mark.parametrize(
    ("protocol", "port", "words"), [(17, 1701, "dynamic[udp/1701]"), (17, 0, "dynamic[udp]"), (115, 0, "dynamic[115]")]
)
def test_selectors_name_exactly_the_traffic(protocol: int, port: int, words: str) -> None:
    assert selector(protocol, port) == words


@pytest.mark.parametrize(
    ("change", "where", "value"),
    [
        ({"local": b""}, ("local_addrs",), ["%any"]),
        ({"remotes": ((parse("10.0.0.0"), 8), (REMOTE, 32))}, ("remote_addrs",), ["10.0.0.0/8", "203.0.113.7"]),
        ({"traffic": Traffic(115, 0, 0)}, ("children", "l2tp", "local_ts"), ["dynamic[115]"]),
        ({"spec": replace(TUNNEL.spec, mode=Mode.TUNNEL)}, ("children", "l2tp", "mode"), "tunnel"),
        ({"spec": replace(TUNNEL.spec, version=1)}, ("version",), "1"),
        ({"spec": replace(TUNNEL.spec, encap=True)}, ("encap",), "yes"),
        # Of use to an LNS's clients only, and each address that comes or goes is told to all peers.
        ({"many": True}, ("mobike",), "yes"),
        ({"many": True, "spec": replace(TUNNEL.spec, mobike=False)}, ("mobike",), "no"),
        ({"spec": replace(TUNNEL.spec, aggressive=True)}, ("aggressive",), "yes"),
        ({"spec": replace(TUNNEL.spec, local_id="me", remote_id="you")}, ("local-1", "id"), "me"),
        ({"spec": replace(TUNNEL.spec, local_id="me", remote_id="you")}, ("remote-1", "id"), "you"),
        # Short lives leave time for the new keys.
        ({"spec": replace(TUNNEL.spec, rekey_time=4)}, ("children", "l2tp", "life_time"), "64s"),
        ({"spec": replace(TUNNEL.spec, rekey_time=0)}, ("children", "l2tp", "life_time"), "0s"),
        ({"spec": replace(TUNNEL.spec, reauth_time=600)}, ("reauth_time",), "0s"),
        ({"spec": replace(TUNNEL.spec, reauth_time=600), "initiates": False}, ("reauth_time",), "600s"),
        ({"spec": replace(TUNNEL.spec, reauth_time=600), "initiates": False}, ("rand_time",), "60s"),
    ],
)
def test_what_a_wish_becomes(change: dict[str, Any], where: tuple[str, ...], value: object) -> None:
    found: Any = _sent(replace(TUNNEL, **change))
    for name in where:
        found = found[name]
    assert found == value


def test_certificates_are_inline_and_the_chain_is_charons() -> None:
    content = _compiled(CERTIFIED)
    sent = _sent(CERTIFIED)
    assert sent["local-1"] == {"auth": "pubkey", "certs": [CERT.decode()]}
    assert sent["remote-1"] == {"auth": "pubkey", "id": "far.example", "cacerts": [CA.decode()]}
    assert list(content.certificates.values()) == [CHAIN]
    assert list(content.keys) == ["key"]
    assert content.connections[CERTIFIED.name].key_file == "key"


def test_without_a_name_whoever_has_a_certificate_may_come() -> None:
    assert "id" not in _sent(replace(CERTIFIED, spec=replace(CERTIFIED.spec, remote_id="")))["remote-1"]
    assert "id" not in _sent(replace(CERTIFIED, spec=replace(CERTIFIED.spec, remote_id=ANYBODY)))["remote-1"]


def test_der_is_taken_as_it_is() -> None:
    spec = replace(CERTIFIED.spec, ca_files=("der",))
    assert not _compiled(replace(CERTIFIED, spec=spec)).problems


def test_an_eap_client_has_a_name_and_a_password() -> None:
    spec = IkeSpec(auth=EAP, remote_auth=CERTIFICATE, ca_files=("ca",), eap_user="uma", eap_password_file="password")
    want = replace(TUNNEL, spec=spec)
    assert _sent(want)["local-1"] == {"auth": "eap", "id": "uma", "eap_id": "uma"}
    assert _shared(want) == {("uma",): b"hunter22"}


@pytest.mark.parametrize(
    ("want", "secrets"),
    [
        (TUNNEL, {("203.0.113.7",): b"geheim"}),
        (replace(TUNNEL, spec=replace(TUNNEL.spec, remote_id="far.example")), {("far.example",): b"geheim"}),
        # IKEv1 knows nothing but addresses at first.
        (replace(TUNNEL, spec=replace(TUNNEL.spec, remote_id="far.example", version=1)),
         {("203.0.113.7", "far.example"): b"geheim"}),
        # One key of a file for many, by name or by address, or the one for all others.
        (replace(TUNNEL, spec=replace(TUNNEL.spec, psk_file="many")), {("203.0.113.7",): b"geheim"}),
        (replace(TUNNEL, spec=replace(TUNNEL.spec, psk_file="many", remote_id="branch.example")),
         {("branch.example",): b"anders"}),
        (replace(TUNNEL, spec=replace(TUNNEL.spec, psk_file="many"), remotes=((LOCAL, 32),)),
         {("198.51.100.1",): b"alle"}),
        # An LNS takes all of them.
        (LNS, {("203.0.113.7",): b"geheim", ("branch.example",): b"anders", ("198.51.100.1", "%any"): b"alle"}),
        (replace(LNS, local=b"", spec=replace(LNS.spec, psk_file="one")), {("%any",): b"geheim"}),
        (replace(LNS, spec=replace(LNS.spec, psk_file="one", local_id="lns")),
         {("lns", "198.51.100.1", "%any"): b"geheim"}),
    ],
)  # fmt: skip
def test_secrets_are_for_their_owners(want: Wanted, secrets: dict[tuple[str, ...], bytes]) -> None:
    assert _shared(want) == secrets


def test_our_own_identity_does_not_make_a_peers_key_good_for_everybody() -> None:
    """charon takes a key if either identity fits."""
    assert all("198.51.100.1" not in owners for owners in _shared(TUNNEL))


def test_two_connections_to_one_peer_share_a_key() -> None:
    content = _compiled(TUNNEL, replace(TUNNEL, name="kl2tp:second"))
    assert len(content.shared) == 1
    assert not content.problems


def test_two_keys_for_one_peer_are_a_problem_of_the_second() -> None:
    other = replace(TUNNEL, name="kl2tp:second", spec=replace(TUNNEL.spec, psk_file="other"))
    content = _compiled(TUNNEL, other)
    assert list(content.connections) == ["kl2tp:madrid"]
    assert "different secrets for the same peer '203.0.113.7'" in content.problems["kl2tp:second"].text
    assert "geheim" not in content.problems["kl2tp:second"].text


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (IkeSpec(psk_file="missing"), "missing: does not exist"),
        (IkeSpec(psk_file="empty"), "empty: has no key"),
        (IkeSpec(psk_file="many", remote_id="stranger.example"), ""),
        (replace(CERTIFIED.spec, ca_files=("words",)), "words: has no certificate"),
        (replace(CERTIFIED.spec, key_file="missing"), "missing: does not exist"),
        (IkeSpec(auth=EAP, remote_auth=CERTIFICATE, eap_user="u", eap_password_file="empty"), "empty: is empty"),
    ],
)
def test_what_one_lacks_costs_no_other(spec: IkeSpec, problem: str) -> None:
    content = _compiled(replace(TUNNEL, name="kl2tp:bad", spec=spec), LNS)
    assert "kl2tp:lns:office" in content.connections
    assert ("kl2tp:bad" in content.problems) == bool(problem)
    if problem:
        assert problem in content.problems["kl2tp:bad"].text
        assert "kl2tp:bad" not in content.connections


def test_a_file_without_a_key_for_the_peer_is_a_problem() -> None:
    FILES_ONLY_OTHERS = {"f": b"10.9.9.9 geheim\n"}
    compiler = Compiler(lambda path, _: FILES_ONLY_OTHERS[path], _read)
    content = compiler.compile([replace(TUNNEL, spec=replace(TUNNEL.spec, psk_file="f"))])
    cause = content.problems["kl2tp:madrid"]
    assert "has no key for 203.0.113.7" in cause.text
    assert "geheim" not in cause.text + cause.cure


@pytest.mark.parametrize(
    ("change", "hard"),
    [
        ({}, False),
        ({"spec": replace(TUNNEL.spec, proposals=("aes256gcm16-prfsha384-ecp384",))}, False),
        ({"spec": replace(TUNNEL.spec, rekey_time=60)}, False),
        ({"spec": replace(TUNNEL.spec, dpd_delay=5)}, False),
        ({"spec": replace(TUNNEL.spec, reqid=7)}, True),
        ({"spec": replace(TUNNEL.spec, mode=Mode.TUNNEL)}, True),
        ({"spec": replace(TUNNEL.spec, remote_id="you")}, True),
        ({"local": REMOTE}, True),
        ({"traffic": Traffic(17, 1701, 1702)}, True),
    ],
)
def test_some_changes_make_sas_wrong_and_others_wait_for_new_ones(change: dict[str, Any], hard: bool) -> None:
    before = _compiled(TUNNEL).connections[TUNNEL.name]
    after = _compiled(replace(TUNNEL, **change)).connections[TUNNEL.name]
    assert (before.hard != after.hard) == hard
    assert (before.digest != after.digest) == bool(change)


def test_a_renewal_differs_by_one_second_from_the_last() -> None:
    loaded = _compiled(TUNNEL).connections[TUNNEL.name]
    times = [renewed(loaded, TUNNEL.name, number)[TUNNEL.name]["over_time"] for number in range(4)]  # type: ignore[index,call-overload]
    assert times == ["1440s", "1441s", "1440s", "1441s"]
    assert renewed(loaded, TUNNEL.name, 0) == loaded.message


def test_connections_hold_no_secret() -> None:
    spec = IkeSpec(auth=EAP, remote_auth=CERTIFICATE, eap_user="uma", eap_password_file="password", ca_files=("ca",))
    for want in (TUNNEL, LNS, CERTIFIED, replace(TUNNEL, spec=spec)):
        sent = encode_message(_compiled(want).connections[want.name].message)
        assert not any(word in sent for word in (b"geheim", b"anders", b"alle", b"hunter22", b"PRIVATE"))
    assert "geheim" not in repr(_compiled(TUNNEL, LNS))


def test_files_are_read_once_and_again_when_they_change(tmp_path: Path) -> None:
    reads = []

    def read(path: str, limit: int) -> bytes:
        reads.append(path)
        return Path(path).read_bytes()

    psk = tmp_path / "psk"
    psk.write_text("geheim\n")
    wanted = [replace(TUNNEL, name=f"kl2tp:{n}", spec=replace(TUNNEL.spec, psk_file=str(psk))) for n in range(10)]
    compiler = Compiler(read, _read)
    first, second = compiler.compile(wanted), compiler.compile(wanted)
    assert (len(reads), first.shared) == (1, second.shared)
    psk.write_text("ein anderes, mit Fragezeichen?".replace(" ", "-"))
    assert compiler.compile(wanted).shared != first.shared
    assert len(reads) == 2


def test_a_file_that_could_not_be_read_is_tried_again_each_time(tmp_path: Path) -> None:
    psk = tmp_path / "psk"
    want = replace(TUNNEL, spec=replace(TUNNEL.spec, psk_file=str(psk)))
    compiler = Compiler(secretfile.read, _read)
    assert compiler.compile([want]).unread == {str(psk)}
    psk.touch(0o600)
    psk.write_text("geheim")
    assert not compiler.compile([want]).problems
    psk.chmod(0o644)
    assert compiler.compile([want]).problems
