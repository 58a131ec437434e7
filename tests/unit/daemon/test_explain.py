"""From what was seen to what is said: each fault as a table of facts, with the layer and the words that follow."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from kl2tp.daemon.explain import Explanation, Facts, Mark, explain, proposals
from kl2tp.daemon.explain.facts import CALL, CLIENT, PROFILE, Control, Device, Ike, Ppp, Sample, Thing
from kl2tp.daemon.explain.words import told
from kl2tp.ipsec.ike import Cause, CauseKind, ChildSa, IkeSa, Negotiation, State, Stranger
from kl2tp.kernel.associations import Association
from kl2tp.kernel.drops import Dropping, grown
from kl2tp.kernel.pathmtu import Probed, largest
from kl2tp.kernel.way import Way
from kl2tp.model.ike import IkeSpec
from kl2tp.model.objects import Direction, Policy, Sa, Secret, Selector, Session, Template, Tunnel
from kl2tp.model.overhead import Stack, overhead
from kl2tp.model.spec import Encap, Mode

US, THEM = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
NOW, REQID = 1_000_000.0, 0x6B6C0001
WAY = Way(device="eth0", mtu=1500, neighbour="reachable")
SPEC = IkeSpec(psk_file="/etc/kl2tp/psk", reqid=REQID)
OUT, IN = 0x11, 0x22


def sa(packets: int, *, out: bool, **more: Any) -> Association:
    """An SA that has let so many packets pass."""
    ends = (US, THEM) if out else (THEM, US)
    spi, used = OUT if out else IN, (packets * 100, packets, *(0,) * 9)
    cipher = "rfc4106(gcm(aes))"
    found = Association(
        "", *ends, spi, REQID, Mode.TRANSPORT, cipher, 256, "", 16, 0, 0, None, False, 0, 0, 0, *used
    )
    return replace(found, **more)


def counted(at: float, out: int, into: int, rx: int, tx: int, **more: Any) -> Sample:
    """What was counted: packets of the SAs, and of the session."""
    sas = (sa(out, out=True), sa(into, out=False))
    return Sample(at, sas, sessions={"pw1": {"rx_packets": rx, "tx_packets": tx}}, **more)


def policy(direction: Direction, *, block: bool = False) -> Policy:
    ends = (US, 32, THEM, 32) if direction == Direction.OUT else (THEM, 32, US, 32)
    return Policy("", direction, Selector(*ends, 17), 1000, None if block else Template(REQID, Mode.TRANSPORT))


NO_SECRET = Secret(b"")
STATIC_SAS = (
    Sa("", US, THEM, OUT, Mode.TRANSPORT, REQID, "rfc4106(gcm(aes))", NO_SECRET, outbound=True),
    Sa("", THEM, US, IN, Mode.TRANSPORT, REQID, "rfc4106(gcm(aes))", NO_SECRET),
)
THINGS = (
    *(Thing(policy(direction)) for direction in (Direction.OUT, Direction.IN)),
    Thing(Tunnel("", 1, 2, Encap.UDP, US, THEM, 1701, 1701)),
    Thing(Session("", 1, 1, 1, "pw1")),
)
FINE = Facts(
    "madrid",
    local=US,
    remote=THEM,
    protection="static keys",
    way=WAY,
    now=NOW,
    things=(*THINGS, *map(Thing, STATIC_SAS)),
    before=counted(0, 5, 5, 5, 5),
    after=counted(3, 9, 9, 9, 9),
    stirred=True,
)


def child(**more: Any) -> ChildSa:
    found = ChildSa(
        "kl2tp:madrid",
        1,
        1,
        REQID,
        IN,
        OUT,
        US,
        THEM,
        500,
        500,
        "192.0.2.1",
        "192.0.2.2",
        False,
        True,
        "AES_GCM_16-256",
        "",
        "",
        ("192.0.2.1/32[udp/1701]",),
        ("192.0.2.2/32[udp/1701]",),
        NOW - 60,
        NOW + 3000,
        NOW + 3600,
    )
    return replace(found, **more)


IKE_SA = IkeSa(
    "kl2tp:madrid",
    1,
    2,
    "ESTABLISHED",
    True,
    ("aa", "bb"),
    US,
    THEM,
    500,
    500,
    "192.0.2.1",
    "192.0.2.2",
    False,
    False,
    "AES_GCM_16-256/PRF_HMAC_SHA2_384/ECP_384",
    NOW - 60,
    NOW + 9000,
    None,
)
UP = Negotiation(State.UP, NOW - 60, (IKE_SA,), (child(),), loaded=True)
IKE = Ike(SPEC, UP, alive=True, selectors="[udp/1701] === [udp/1701]")
BY_IKE = replace(FINE, protection="IKE", things=THINGS, ike=IKE)


def failed(kind: CauseKind, text: str = "it failed", *, by_peer: bool = False, **details: str) -> Facts:
    """A negotiation that fails."""
    cause = Cause(kind, text, "mend it", tuple(details.items()), NOW - 5, by_peer)
    down = Negotiation(State.DOWN, NOW - 60, problem=cause, next_try=NOW + 7, tries=3, loaded=True)
    nothing = Sample(0), Sample(3)
    return replace(BY_IKE, ike=replace(IKE, negotiation=down), before=nothing[0], after=nothing[1])


def said(found: Explanation) -> str:
    """All that is said of the first broken layer."""
    layer = found.first
    assert layer is not None, [f"{one.name}: {one.text}" for one in found.layers]
    wrong = layer.diagnosis
    assert wrong is not None
    sides = [f"{one.title}: {one.ours} {one.theirs} {one.verdict}" for one in wrong.sides]
    return "\n".join([wrong.broken, wrong.cause, *wrong.cure, *wrong.evidence, *sides])


def gone(facts: Facts, *kinds: type) -> Facts:
    """Objects of these kinds are not in the kernel."""
    things = tuple(replace(thing, present=not isinstance(thing.wanted, kinds)) for thing in facts.things)
    return replace(facts, things=things)


def errors(facts: Facts, name: str, out: int = 5, into: int = 5, rx: int = 5, tx: int = 9) -> Facts:
    """A counter of xfrm_stat has grown, and the others only so far."""
    return replace(facts, after=counted(3, out, into, rx, tx, errors={name: 4}))


RULE = Dropping("inet fw input", 7, "input", 4)
CASES: dict[str, tuple[Facts, str, Sequence[str]]] = {
    # the way
    "no-address": (replace(FINE, way=Way(has_local=False)), "way to the peer", ["192.0.2.1 is not configured"]),
    "no-route": (replace(FINE, way=Way(problem="there is no route to 192.0.2.2")), "way to the peer", ["ip route add"]),
    "down": (
        replace(FINE, way=replace(WAY, holder="eth0", holder_up=False)),
        "way to the peer",
        ["eth0", "set eth0 up"],
    ),
    "carrier": (replace(FINE, way=replace(WAY, carrier=False)), "way to the peer", ["has no carrier"]),
    "arp": (replace(FINE, way=replace(WAY, neighbour="does not answer")), "way to the peer", ["does not answer ARP"]),
    "itself": (replace(FINE, way=replace(WAY, here=True)), "way to the peer", ["an address of this host itself"]),
    # static keys
    "no-policies": (gone(FINE, Policy), "policies", ["in and out policies are missing", "dropped both ways"]),
    "no-sas": (gone(FINE, Sa), "SAs in the kernel", ["in and out is missing", "ip xfrm state flush"]),
    "no-session": (gone(FINE, Session), "tunnel and session", ["session is missing"]),
    "out-block": (
        errors(FINE, "XfrmOutPolBlock"),
        "ESP packets",
        ["before they are encrypted", "a policy blocks them"],
    ),
    "out-nothing": (replace(FINE, after=counted(3, 5, 5, 5, 9)), "ESP packets", ["no counter of IPsec says why"]),
    "in-block": (errors(FINE, "XfrmInPolBlock", 9, 9), "delivery", ["after they are decrypted", "in policy"]),
    "other-spi": (errors(FINE, "XfrmInNoStates", 9), "ESP packets", ["no SA here", "different keys"]),
    "other-key": (
        replace(
            FINE, after=Sample(3, (sa(9, out=True), sa(5, out=False, unauthentic=4)), sessions=FINE.before.sessions)
        ),
        "ESP packets",
        ["4 packets of the peer failed the integrity check", "different keys"],
    ),
    "replay": (
        replace(FINE, after=Sample(3, (sa(9, out=True), sa(5, out=False, replayed=4)), sessions=FINE.before.sessions)),
        "ESP packets",
        ["refused as replays", "replay_window at 0"],
    ),
    "never": (
        replace(FINE, before=counted(0, 5, 0, 0, 5), after=counted(3, 9, 0, 0, 9)),
        "ESP packets",
        ["packets leave, and nothing comes back", "none has ever come", "IP protocol 50"],
    ),
    "firewall": (
        replace(FINE, after=counted(3, 9, 9, 5, 9, drops=(RULE,))),
        "delivery",
        ["inet fw input handle 7 dropped 4 packets", "nft delete rule inet fw input handle 7"],
    ),
    "mute-firewall": (
        replace(FINE, after=counted(3, 9, 9, 5, 9, drops=(replace(RULE, packets=None),))),
        "delivery",
        ["suspect: inet fw input handle 7", "does not count"],
    ),
    "no-reader": (replace(FINE, after=counted(3, 9, 9, 5, 9)), "delivery", ["no session here has the id"]),
    # IKE
    "no-charon": (
        replace(BY_IKE, ike=replace(IKE, alive=False, away="connection refused")),
        "strongSwan",
        ["is not running", "systemctl start strongswan", "live on in the kernel for 60 min"],
    ),
    "hanging": (
        replace(BY_IKE, ike=replace(IKE, alive=False, hangs=True)),
        "strongSwan",
        ["hangs", "systemctl restart"],
    ),
    "config": (failed(CauseKind.CONFIGURATION, "bad word"), "strongSwan", ["does not take our connection", "bad word"]),
    "psk": (
        failed(CauseKind.AUTHENTICATION_FAILED, by_peer=True, identity="me.example", method="pre-shared key"),
        "IKE SA",
        ["AUTHENTICATION_FAILED", "'me.example'", "by pre-shared key", "/etc/kl2tp/psk"],
    ),
    "silence": (failed(CauseKind.NO_ANSWER, peer="192.0.2.2"), "IKE SA", ["udp/500", "ping 192.0.2.2", "tcpdump"]),
    "selectors": (
        failed(CauseKind.TS_UNACCEPTABLE, theirs="a === b"),
        "IPsec SA",
        ["[udp/1701] === [udp/1701]", "a === b"],
    ),
    "kernel": (failed(CauseKind.KERNEL, "no ESP here"), "IPsec SA", ["no ESP here", "mend it"]),
    "sa-flushed": (
        replace(BY_IKE, after=Sample(3), before=Sample(0)),
        "SAs in the kernel",
        ["the kernel does not (both ways)"],
    ),
    "storm": (
        replace(BY_IKE, ike=replace(IKE, negotiation=replace(UP, rekeys=(NOW - 12, NOW - 9, NOW - 6, NOW - 3, NOW)))),
        "IPsec SA",
        ["5 times in the last 12 s, every 3.0 s; here configured: every 60 min", "the peer's lifetime"],
    ),
    "own-storm": (
        replace(
            BY_IKE,
            ike=replace(
                IKE, spec=replace(SPEC, rekey_time=3), negotiation=replace(UP, rekeys=(NOW - 9, NOW - 6, NOW - 3, NOW))
            ),
        ),
        "IPsec SA",
        ["our own ipsec.ike.rekey is 3 s"],
    ),
    # the MTU
    "black-hole": (
        replace(
            FINE,
            probe=Probed(True, 1500, 1304),
            devices=(Device("pw1", 1412, overhead=overhead(Stack(), 1500), stack=Stack(), mtu=1412, up=True),),
        ),
        "MTU",
        ["path_mtu: 1304", f"the MTU of pw1 then is {Stack().mtu(1304)} (now 1412)", "black hole"],
    ),
    "known-narrow": (
        replace(
            FINE,
            way=replace(WAY, mtu=1300),
            devices=(Device("pw1", 1446, overhead=overhead(Stack(), 1500), stack=Stack(), mtu=1446, up=True),),
        ),
        "MTU",
        ["path_mtu: 1300", "says so"],
    ),
}


@pytest.mark.parametrize(("facts", "where", "words"), CASES.values(), ids=CASES)
def test_each_fault_is_named_with_cause_and_cure(facts: Facts, where: str, words: Sequence[str]) -> None:
    found = explain(facts)
    assert found.first is not None, [f"{layer.name}: {layer.text}" for layer in found.layers]
    assert found.first.name == where, said(found)
    text = said(found)
    assert [word for word in words if word not in text] == [], text
    assert found.mark is Mark.BROKEN
    assert found.first.diagnosis is not None
    assert found.first.diagnosis.cure
    assert told(found)["first_broken"] == where


@pytest.mark.parametrize("facts", [FINE, BY_IKE], ids=["static", "ike"])
def test_what_works_is_ok_in_every_layer(facts: Facts) -> None:
    found = explain(facts)
    assert {layer.name: layer.text for layer in found.layers if layer.mark is not Mark.OK} == {}
    assert found.first is None


def test_silence_in_a_tunnel_that_had_traffic_is_doubtful_not_broken() -> None:
    found = explain(replace(FINE, after=counted(3, 9, 5, 5, 9)))
    assert found.mark is Mark.UNKNOWN
    assert "nothing comes back" in said(found)


def test_counters_of_sas_that_were_replaced_meanwhile_accuse_nobody() -> None:
    fresh = Sample(3, (sa(0, out=True, spi=0x99), sa(0, out=False, spi=0x98)), sessions={"pw1": {"tx_packets": 9}})
    assert explain(replace(BY_IKE, after=fresh)).mark is not Mark.BROKEN


def test_without_a_daemon_what_only_charon_knows_is_unknown() -> None:
    found = explain(replace(BY_IKE, daemon=False, ike=Ike(SPEC)))
    assert [layer.mark for layer in found.layers if "SA" in layer.name][:2] == [Mark.UNKNOWN, Mark.UNKNOWN]
    assert any("no daemon" in note for note in found.notes)


def test_a_problem_that_no_layer_shows_is_told_all_the_same() -> None:
    found = explain(replace(FINE, things=(), problem="/etc/key: no such file", after=Sample(), before=Sample()))
    assert "/etc/key: no such file" in said(found)


# -- calls -----------------------------------------------------------------------------------------------------------

ASKED = Control(
    "wait_ctl_reply", False, 5, 0, "us", "192.0.2.2 port 1701", retransmissions=1, unacknowledged=1, silent_s=9
)
TALKING = Control("established", True, 5, 6, "us", "192.0.2.2 port 1701", "lns", silent_s=0.1)
PPP_UP = Ppp("network", "up", "anna", "10.9.0.2", "10.9.0.1", 1400, 1400)
DIALING = replace(
    BY_IKE,
    name="home",
    kind=CALL,
    things=THINGS[:2],
    stirred=False,
    before=Sample(0, (sa(1, out=True), sa(0, out=False)), control=ASKED),
    after=Sample(3, (sa(4, out=True), sa(0, out=False)), control=replace(ASKED, retransmissions=4, silent_s=12)),
)
CALLING = replace(
    DIALING,
    ppp=PPP_UP,
    stirred=True,
    before=Sample(0, (sa(1, out=True), sa(1, out=False)), control=TALKING),
    after=Sample(3, (sa(2, out=True), sa(2, out=False)), control=TALKING),
)


def test_l2tp_that_gets_no_answer_though_there_is_an_sa() -> None:
    found = explain(DIALING)
    assert found.first is not None
    assert found.first.name == "ESP packets"
    assert "the peer decrypts our packets and nothing there answers L2TP" in said(found)
    assert "ss -unlp" in said(found)


def test_l2tp_that_is_answered_and_the_answer_does_not_arrive() -> None:
    arrived = replace(DIALING.after, sas=(sa(4, out=True), sa(3, out=False)), errors={"XfrmInTmplMismatch": 3})
    found = explain(replace(DIALING, after=arrived))
    assert found.first is not None
    assert found.first.name == "delivery"
    assert "XfrmInTmplMismatch +3" in said(found)


def test_a_call_that_works_is_told_up_to_its_addresses() -> None:
    found = explain(CALLING)
    assert found.first is None
    assert [layer.name for layer in found.layers][-3:] == ["control connection", "PPP", "addresses"]
    assert found.layers[-1].text == "10.9.0.2 here, 10.9.0.1 there"


def test_a_call_that_waits_for_ike_is_not_broken_by_itself() -> None:
    waiting = failed(CauseKind.NO_ANSWER, peer="192.0.2.2")
    found = explain(replace(waiting, kind=CALL, state="waiting for IKE"))
    assert [layer.name for layer in found.layers if layer.mark is Mark.BROKEN] == ["IKE SA"]


def test_of_a_profile_the_last_client_that_failed_is_told_with_both_proposals() -> None:
    cause = failed(
        CauseKind.NO_PROPOSAL,
        layer="IKE",
        ours="IKE:AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048",
        theirs="IKE:3DES_CBC/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_1024",
    ).ike.negotiation.problem  # type: ignore[union-attr]
    assert cause is not None
    profile = Facts(
        "office",
        PROFILE,
        listening=("192.0.2.1 udp port 1701",),
        clients=3,
        ike=replace(IKE, negotiation=replace(UP, problem=None)),
        strangers=(Stranger("192.0.2.9", cause, 4),),
        protection="IKE",
    )
    text = said(explain(profile))
    for word in (
        "192.0.2.9",
        "4 times",
        "aes256-sha256",
        "3des-sha1",
        "modp1024 there",
        "weak: i-accept-broken-crypto",
    ):
        assert word in text, text


def test_a_session_that_is_over_is_told_with_its_reason() -> None:
    over = Facts("anna", CLIENT, ended="the peer does not answer")
    assert "it ended: the peer does not answer" in said(explain(over))


# -- proposals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("AES_CBC_256", "aes256"),
        ("AES_GCM_16_128", "aes128gcm16"),
        ("AES_CTR_192", "aes192ctr"),
        ("3DES_CBC", "3des"),
        ("CHACHA20_POLY1305_256", "chacha20poly1305"),
        ("HMAC_SHA2_384_192", "sha384"),
        ("HMAC_MD5_96", "md5"),
        ("PRF_HMAC_SHA2_512", "prfsha512"),
        ("PRF_AES128_XCBC", "prfaesxcbc"),
        ("CURVE_25519", "x25519"),
        ("MODP_2048_256", "modp2048s256"),
        ("ECP_256_BP", "ecp256bp"),
        ("SOMETHING_NEW", "something_new"),
    ],
)
def test_names_of_charons_log_are_brought_to_the_words_of_the_configuration(name: str, word: str) -> None:
    assert proposals.word_of(name) == word


def test_the_nearest_two_proposals_are_compared_and_one_that_matches_is_given() -> None:
    ours = proposals.read(("aes256gcm16-prfsha384-ecp384", "aes256-sha256-modp2048"))
    theirs = proposals.read("IKE:AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_3072")
    assert proposals.sides(ours, theirs, "").verdict == "Diffie-Hellman group: modp2048 here, modp3072 there"
    here, there = proposals.matching(ours, theirs, "proposals")
    assert "'aes256-sha256-modp3072'" in here
    assert there.endswith("aes256-sha256-modp2048")


def test_esp_proposals_need_no_group_in_common() -> None:
    (ours,) = proposals.read(("aes256-sha256-modp2048",))
    (theirs,) = proposals.read("ESP:AES_CBC_256/HMAC_SHA2_256_128")
    assert proposals.differences(ours, theirs) == []


# -- small parts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("passes", [69, 576, 1300, 1499])
def test_the_largest_size_is_found_in_few_tries(passes: int) -> None:
    asked: list[int] = []

    def ask(size: int) -> bool:
        asked.append(size)
        return size <= passes

    assert largest(ask, 68, 1500) == passes
    assert len(asked) <= 11


def test_of_rules_that_drop_those_that_have_dropped_more_are_told() -> None:
    before = [Dropping("inet a b", 1, "input", 4), Dropping("inet a b", 2, "input", None)]
    now = [Dropping("inet a b", 1, "input", 6), Dropping("inet a b", 2, "input", None), Dropping("inet a b", 3, "", 1)]
    assert [(drop.handle, count) for drop, count in grown(before, now)] == [(1, 2), (3, 1)]
