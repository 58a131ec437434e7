"""Causes from lines that two strongSwan 5.9.8 logged when each mistake was made between them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.ipsec.ike.causes import REMEMBERED, Finding, Log, refused
from kl2tp.ipsec.ike.negotiation import CauseKind
from kl2tp.wire.vici import Section

LOG = Path(__file__).with_name("strongswan-5.9.8.log")
"""By scenario (`== NAME`); each line: initiator `a` or responder `b`, group, connection, IKE SA, text."""
A, B = "10.77.0.1", "10.77.0.2"
OURS_IKE = "IKE:AES_GCM_16_256/PRF_HMAC_SHA2_384/ECP_384"
CASES = [
    # (scenario, end, kind, by the peer, details that must be so)
    ("ike proposal v2", "a", CauseKind.NO_PROPOSAL, True, {"layer": "IKE", "peer": B}),
    (
        *("ike proposal v2", "b", CauseKind.NO_PROPOSAL, False),
        {
            "theirs": OURS_IKE,
            "ours": "IKE:AES_GCM_16_128/PRF_HMAC_SHA2_256/ECP_256, "
            "IKE:AES_CBC_128/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048",
            "peer": A,
        },
    ),
    ("ike proposal v1", "a", CauseKind.NO_PROPOSAL, True, {"layer": "IKE"}),
    (
        *("ike proposal v1", "b", CauseKind.NO_PROPOSAL, False),
        {
            "theirs": "IKE:AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048",
            "ours": "IKE:AES_CBC_128/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_2048",
        },
    ),
    ("esp proposal v2", "a", CauseKind.NO_PROPOSAL, True, {"layer": "IPsec"}),
    (
        *("esp proposal v2", "b", CauseKind.NO_PROPOSAL, False),
        {
            "layer": "IPsec",
            "theirs": "ESP:AES_GCM_16_256/NO_EXT_SEQ",
            "ours": "ESP:AES_CBC_128/HMAC_SHA2_256_128/NO_EXT_SEQ",
        },
    ),
    ("esp proposal v1", "a", CauseKind.NO_PROPOSAL, True, {"layer": "IPsec"}),
    ("esp proposal v1", "b", CauseKind.NO_PROPOSAL, False, {"layer": "IPsec"}),
    ("psk v2", "a", CauseKind.AUTHENTICATION_FAILED, True, {"identity": A, "method": "pre-shared key"}),
    ("psk v2", "b", CauseKind.AUTHENTICATION_FAILED, False, {"identity": A, "method": "pre-shared key", "peer": A}),
    ("psk v1", "b", CauseKind.AUTHENTICATION_FAILED, False, {"method": "pre-shared key", "peer": A}),
    ("no psk initiator", "a", CauseKind.NO_SECRET, False, {"identity": B, "ours": A}),
    ("no psk responder", "b", CauseKind.NO_SECRET, False, {"identity": A, "ours": B}),
    ("no psk v1 initiator", "a", CauseKind.NO_SECRET, False, {"identity": B, "ours": A}),
    ("no psk v1 responder", "b", CauseKind.NO_SECRET, False, {"identity": A, "ours": B, "peer": A}),
    ("no psk v1 responder", "a", CauseKind.OTHER, True, {"peer": B}),
    ("no host", "a", CauseKind.NO_ANSWER, False, {"peer": "10.77.0.9"}),
    ("ts v2", "a", CauseKind.TS_UNACCEPTABLE, True, {}),
    (
        *("ts v2", "b", CauseKind.TS_UNACCEPTABLE, False),
        {"theirs": "10.77.0.2/32[udp/l2f] === 10.77.0.1/32[udp/l2f]"},
    ),
    ("ts v1", "a", CauseKind.TS_UNACCEPTABLE, True, {}),
    ("ts v1", "b", CauseKind.TS_UNACCEPTABLE, False, {}),
    ("no ike config", "b", CauseKind.NO_CONFIG, False, {"peer": A, "ours": B}),
    ("no peer config by id", "b", CauseKind.NO_CONFIG, False, {"identity": A, "ours": B, "peer": A}),
    ("identity of responder", "b", CauseKind.NO_CONFIG, False, {"identity": A, "ours": "wanted.example"}),
    ("identity v1", "a", CauseKind.IDENTITY, False, {"identity": "real.example", "ours": "wanted.example"}),
    ("version 1 to 2", "b", CauseKind.NO_CONFIG, False, {"peer": A}),
    ("version 2 to 1", "b", CauseKind.NO_CONFIG, False, {"peer": A}),
    ("aggressive", "b", CauseKind.UNSUPPORTED, False, {"peer": A}),
    ("cert untrusted", "a", CauseKind.AUTHENTICATION_FAILED, True, {"method": "certificate"}),
    ("cert untrusted", "b", CauseKind.CERTIFICATE, False, {"identity": "alice.example", "certificate": "CN=mallory"}),
    ("cert expired", "b", CauseKind.CERTIFICATE, False, {"certificate": "CN=old"}),
    ("cert untrusted responder", "a", CauseKind.CERTIFICATE, False, {"identity": "bob.example"}),
    ("cert of another ca", "a", CauseKind.CERTIFICATE, False, {"identity": "C=CH, O=Lab, CN=far.example", "peer": B}),
    ("cert no key", "a", CauseKind.CERTIFICATE, False, {"identity": "alice.example"}),
    ("cert id not in cert", "b", CauseKind.NO_CONFIG, False, {"identity": "carol.example"}),
    ("cert against psk", "b", CauseKind.CERTIFICATE, False, {"identity": "alice.example"}),
    ("eap wrong", "a", CauseKind.AUTHENTICATION_FAILED, True, {"method": "EAP"}),
    ("eap wrong", "b", CauseKind.AUTHENTICATION_FAILED, False, {"identity": "uma", "method": "EAP"}),
    ("eap no secret", "a", CauseKind.NO_SECRET, False, {"identity": "uma"}),
]
WORDS = [
    ("cert untrusted", "b", 'its issuer "CN=ca2" is none of the CAs that we trust'),
    ("cert of another ca", "a", "not from the CA 'C=CH, O=Lab, CN=Other CA' that this connection demands"),
    ("cert expired", "b", "valid only from Jan 01 00:00:00 2020 to Jan 01 00:00:00 2021"),
    ("cert against psk", "b", "it has sent none"),
    ("no host", "a", "10.77.0.9 does not answer"),
]


def _events(scenario: str, end: str) -> Iterator[Section]:
    """What one end logged."""
    here = False
    for line in LOG.read_text().splitlines():
        if line.startswith("== "):
            here = line == f"== {scenario}"
        elif here and line.startswith(f"{end} "):
            _, group, name, ike_id, message = line.split(" ", 4)
            yield {"group": group, "ikesa-name": name, "ikesa-uniqueid": ike_id, "msg": message}


def _findings(scenario: str, end: str) -> list[Finding]:
    log = Log()
    return [found for event in _events(scenario, end) if (found := log.take(event, 7.0)) is not None]


def _end(scenario: str, end: str) -> Finding:
    return next(found for found in _findings(scenario, end) if found.final)


@pytest.mark.parametrize(("scenario", "end", "kind", "by_peer", "details"), CASES)
def test_each_mistake_has_its_cause(
    scenario: str, end: str, kind: CauseKind, by_peer: bool, details: dict[str, str]
) -> None:
    found = _end(scenario, end)
    assert (found.cause.kind, found.cause.by_peer, found.cause.when) == (kind, by_peer, 7.0)
    assert {name: found.cause.detail(name) for name in details} == details
    assert found.cause.text
    assert found.cause.cure


@pytest.mark.parametrize(("scenario", "end", "words"), WORDS)
def test_the_text_says_why(scenario: str, end: str, words: str) -> None:
    assert words in _end(scenario, end).cause.text


def test_an_initiator_knows_the_connection_and_a_responder_often_only_the_address() -> None:
    assert [(_end("ike proposal v2", end).name, _end("ike proposal v2", end).peer) for end in "ab"] == [
        ("kl2tp:x", B),
        ("", A),
    ]


def test_one_retransmission_is_no_news_and_the_second_a_hint() -> None:
    assert [found.final for found in _findings("no host", "a")] == [False, False, True, True]


def test_a_peer_that_closes_is_a_hint_only() -> None:
    (closed,) = (found for found in _findings("ts v1", "b") if found.cause.kind is CauseKind.CLOSED)
    assert not closed.final
    assert closed.cause.by_peer


def test_what_works_has_no_cause() -> None:
    """The initiator of `cert expired` sees nothing wrong up to the refusal."""
    assert len(_findings("cert expired", "a")) == 1


def test_different_keys_with_ikev1_are_told_from_silence() -> None:
    log = Log()
    last = [log.take(event, 0.0) for event in _events("psk v1", "a")][-1]
    assert last is None
    again = {"group": "IKE", "ikesa-name": "kl2tp:x", "ikesa-uniqueid": "9"}
    found = log.take(again | {"msg": "giving up after 5 retransmits"}, 0.0)
    assert found
    assert found.cause.kind is CauseKind.AUTHENTICATION_FAILED


def test_facts_are_kept_of_so_many_ike_sas_and_no_more() -> None:
    log = Log()
    for number in range(3 * REMEMBERED):
        event = {"group": "IKE", "ikesa-name": "(unnamed)", "ikesa-uniqueid": str(number)}
        log.take(event | {"msg": f"10.0.0.{number % 250} is initiating an IKE_SA"}, 0.0)
    assert len(log._facts) == REMEMBERED
    assert log.peer_of(3 * REMEMBERED - 1)
    assert not log.peer_of(0)


def test_another_charon_has_other_ids() -> None:
    log = Log()
    log.take({"group": "IKE", "ikesa-uniqueid": "1", "msg": "10.0.0.1 is initiating an IKE_SA"}, 0.0)
    log.clear()
    assert not log.peer_of(1)


LINES = st.sampled_from(
    [line.split(" ", 4)[4] for line in LOG.read_text().splitlines() if not line.startswith("==")]
) | st.text(max_size=80)


@given(st.lists(LINES, max_size=30), st.sampled_from(["IKE", "CFG", "KNL", "NET", ""]), st.text(max_size=4))
def test_no_line_in_no_order_is_an_error(lines: list[str], group: str, ike_id: str) -> None:
    log = Log()
    for line in lines:
        log.take({"group": group, "ikesa-uniqueid": ike_id, "ikesa-name": "kl2tp:x", "msg": line}, 0.0)
        log.take({"group": group, "ikesa-uniqueid": "1", "msg": line}, 0.0)


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        ("invalid value for: proposals, config discarded", "swanctl --list-algs"),
        ("invalid value for: esp_proposals, config discarded", "swanctl --list-algs"),
        ("invalid value for: certs, config discarded", "PEM or DER"),
        ("unknown option: gibtsnicht, config discarded", ""),
    ],
)
def test_a_connection_that_cannot_be_loaded_says_which_part(error: str, cure: str) -> None:
    cause = refused(error, 1.0)
    assert cause.kind is CauseKind.CONFIGURATION
    assert error in cause.text
    assert cure in cause.cure
