"""IKE in the configuration: what it means, in short and at length, for tunnels, profiles and calls."""

from dataclasses import replace

import pytest

from kl2tp.config import ConfigError, loads
from kl2tp.config.schema import reference
from kl2tp.model import algorithms, ike
from kl2tp.model.algorithms import SHA1
from kl2tp.model.ike import IkeSpec, Initiate
from kl2tp.model.overhead import for_session
from kl2tp.model.spec import Mode

PSK = "psk_file: /p"
CERT = "auth: cert, certificate_file: /c, private_key_file: /k, ca_file: /a"
USERS = "users: /u\n"
SESSIONS = "sessions: {s: }"


def tunnel(ipsec: str, rest: str = "") -> IkeSpec:
    """What the one tunnel negotiates."""
    text = f"{rest}tunnels: {{t: {{local: 10.0.0.1, remote: 10.0.0.2, ids: 9, {ipsec}, {SESSIONS}}}}}"
    (found,) = loads(text).tunnels
    assert found.ipsec is None
    assert found.ike is not None
    return found.ike


def of(keys: str) -> IkeSpec:
    """What a tunnel with these keys of ike negotiates."""
    return tunnel(f"ipsec: {{ike: {{{keys}}}}}")


def lns(keys: str, rest: str = "") -> IkeSpec:
    """What the one profile negotiates."""
    (profile,) = loads(f"{USERS}{rest}lns: {{a: {{ipsec: {{ike: {keys}}}}}}}").lns
    assert profile.ike is not None
    return profile.ike


def lac(keys: str, name: str = "hq") -> IkeSpec:
    """What the one call negotiates."""
    (call,) = loads(f"{USERS}lac: {{{name}: {{remote: 10.0.0.2, user: j, ipsec: {{ike: {keys}}}}}}}").lac
    assert call.ike is not None
    return call.ike


TUNNEL = IkeSpec(psk_file="/p", reqid=0x6B6C0009)
EVERYTHING = """
tunnels:
  t:
    local: 10.0.0.1
    remote: 10.0.0.2
    ids: 1
    sessions: {s: }
    ipsec:
      mode: tunnel
      reqid: 0x70001
      replay_window: 1024
      ike:
        version: 1
        auth: cert
        certificate_files: [/c, /d, /c]
        private_key_file: credential:hub.key
        ca_files: [/a, /b]
        local_id: "CN=hub, O=Example"
        remote_id: "*.example.org"
        proposals: [aes256-sha256-modp2048, aes256-sha1-modp1024]
        esp_proposals: aes128gcm16
        weak: i-accept-broken-crypto
        initiate: yes
        rekey: 8h
        ike_rekey: 24h
        reauth: 48h
        dpd: 10s
        dpd_timeout: 1m
        grace: 2m
        nat_traversal: always
        aggressive: yes
"""


# Tunnels


def test_a_psk_is_all_that_a_tunnel_needs() -> None:
    assert of(PSK) == TUNNEL
    assert of(PSK).secret_files == ("/p",)


def test_every_key() -> None:
    (found,) = loads(EVERYTHING).tunnels
    assert found.ike == IkeSpec(
        version=1,
        auth="cert",
        remote_auth="cert",
        certificate_files=("/c", "/d"),
        key_file="credential:hub.key",
        ca_files=("/a", "/b"),
        local_id="CN=hub, O=Example",
        remote_id="*.example.org",
        proposals=("aes256-sha256-modp2048", "aes256-sha1-modp1024"),
        esp_proposals=("aes128gcm16",),
        mode=Mode.TUNNEL,
        rekey_time=28_800,
        ike_rekey_time=86_400,
        reauth_time=172_800,
        dpd_delay=10,
        dpd_timeout=60,
        encap=True,
        mobike=False,
        aggressive=True,
        initiate=Initiate.YES,
        grace=120,
        replay_window=1024,
        reqid=0x70001,
        offers_weak=True,
    )
    assert found.ike.files == ("credential:hub.key", "/c", "/d", "/a", "/b")


def test_as_eap_client_we_begin_and_the_server_has_a_certificate() -> None:
    found = of("auth: eap, user: joe, password_file: credential:ike, ca_file: /a, remote_id: hub.example.org")
    assert (found.auth, found.remote_auth, found.initiate) == ("eap", "cert", Initiate.YES)
    assert (found.eap_user, found.eap_password_file, found.psk_file) == ("joe", "credential:ike", "")


def test_with_ikev2_the_two_ends_may_prove_themselves_differently() -> None:
    found = of(f"auth: psk, remote_auth: cert, {PSK}, ca_file: /a, remote_id: '%any'")
    assert (found.psk_file, found.ca_files, found.remote_id) == ("/p", ("/a",), ike.ANYBODY)


@pytest.mark.parametrize(
    ("given", "inherited", "expected"),
    [
        ("ike: psk", "", TUNNEL),
        ("ike: {auth: psk}", "", TUNNEL),
        ("ike: , mode: transport", "", TUNNEL),
        ("ike: {version: any}", "ike: {grace: 5}", None),
        ("ike: {psk_file: /q}", "ike: {psk_dir: /d}", replace(TUNNEL, psk_file="/q")),
        ("ike: psk", "ike: {psk_dir: /d}", replace(TUNNEL, psk_file="/d/t.psk")),
        ("ike: psk", f"ike: {{{CERT}, {PSK}, remote_id: x}}", replace(TUNNEL, remote_id="x")),
        ("mode: tunnel", f"ike: {{{PSK}}}", replace(TUNNEL, mode=Mode.TUNNEL)),
        ("ike: psk", f"ike: {{{PSK}}}, key_dir: /k, proposal: aes128gcm16", TUNNEL),
    ],
)
def test_what_is_inherited(given: str, inherited: str, expected: IkeSpec | None) -> None:
    base = inherited or f"ike: {{{PSK}}}"
    if expected is None:
        with pytest.raises(ConfigError, match="needs a psk_file"):
            tunnel(f"ipsec: {{{given}}}", f"defaults: {{ipsec: {{{base}}}}}\n")
    else:
        assert tunnel(f"ipsec: {{{given}}}", f"defaults: {{ipsec: {{{base}}}}}\n") == expected


def test_a_tunnel_without_ipsec_of_its_own_takes_that_of_the_defaults() -> None:
    text = "defaults: {local: 10.0.0.1, ipsec: {ike: {psk_dir: /d/}}}\ntunnels:\n" + "".join(
        f"  {name}: {{remote: 10.0.0.{n}, ids: {n}, {SESSIONS}{more}}}\n"
        for n, (name, more) in enumerate({"a": "", "b": ", ipsec: off", "c": ", ipsec: {key_file: /k}"}.items(), 2)
    )
    a, b, c = loads(text).tunnels
    assert (a.ike, a.ipsec) == (IkeSpec(psk_file="/d/a.psk", reqid=0x6B6C0002), None)
    assert (b.ike, b.ipsec) == (None, None)
    assert (c.ike, c.ipsec and c.ipsec.key_file) == (None, "/k")


def test_a_set_has_a_key_and_a_name_for_each() -> None:
    text = f"""
sets:
  b{{n}}:
    range: 1-3
    local: 10.0.0.1
    remote: 10.0.1.{{n}}
    ids: "{{n}}"
    ipsec: {{ike: {{psk_file: "/k/{{n:03}}.psk", local_id: hub, remote_id: "b{{n}}.example.org", rekey: 2h}}}}
    {SESSIONS}
"""
    for n, found in enumerate(loads(text).tunnels, 1):
        assert found.ike == IkeSpec(
            psk_file=f"/k/{n:03}.psk",
            local_id="hub",
            remote_id=f"b{n}.example.org",
            rekey_time=7200,
            reqid=0x6B6C0000 + n,
        )


def test_the_short_form_may_depend_on_the_number() -> None:
    text = f"""
defaults: {{ipsec: {{ike: {{{PSK}}}}}}}
sets:
  b{{n}}:
    range: 0-1
    local: 10.0.0.1
    remote: 10.0.1.{{n + 1}}
    ids: "{{n + 1}}"
    ipsec: {{ike: "psk"}}
    {SESSIONS}
"""
    assert [found.ike and found.ike.auth for found in loads(text).tunnels] == ["psk", "psk"]
    with pytest.raises(ConfigError, match=r"ike: 'psk0' is none of .* \(with n=0 and 1 more\)"):
        loads(text.replace('"psk"', '"psk{n}"'))


def test_with_ike_the_mtu_leaves_room_for_the_worst_proposal_and_nat() -> None:
    text = "tunnels: {t: {local: 10.0.0.1, remote: 10.0.0.2, ids: 9, ipsec: %s, sessions: {s: }}}"
    (static,) = loads(text % "{key_file: /k, proposal: aes256-sha256, nat_traversal: 4510, side: left}").tunnels
    (negotiated,) = loads(text % "{ike: {psk_file: /p}}").tunnels
    assert for_session(negotiated, negotiated.sessions[0]).mtu == for_session(static, static.sessions[0]).mtu


def test_ipv6_must_fit_whatever_is_negotiated() -> None:
    text = (
        "tunnels: {t: {local: 10.0.0.1, remote: 10.0.0.2, ids: 9, path_mtu: 1366, ipsec: {ike: {psk_file: /p%s}},"
        " sessions: {s: {interface: {name: i, address: '2001:db8::1/64'}}}}}"
    )
    assert loads(text % ", esp_proposals: aes256gcm16").tunnels
    with pytest.raises(ConfigError, match="a path_mtu of 1366 leaves it 1272 bytes"):
        loads(text % "")


def test_cookies_of_a_tunnel_with_ike_come_from_a_file_of_their_own() -> None:
    text = (
        "tunnels: {t: {local: 10.0.0.1, remote: 10.0.0.2, ids: 9, secret_file: /s, ipsec: {ike: {psk_file: /p}},"
        " sessions: {s: {cookie: auto}}}}"
    )
    (found,) = loads(text).tunnels
    assert (found.secret_file, found.sessions[0].cookie.length) == ("/s", 8)


# Calls


def test_an_lns_waits_for_whoever_knows_the_key() -> None:
    assert lns(f"{{{PSK}}}") == IkeSpec(psk_file="/p", initiate=Initiate.NO)
    assert lns(f"{{{CERT}}}").remote_id == ""


@pytest.mark.parametrize("short", ["legacy-clients", "{profile: legacy-clients}"])
def test_legacy_clients(short: str) -> None:
    found = lns(short, f"defaults: {{lns: {{ipsec: {{ike: {{{PSK}}}}}}}}}\n")
    assert found == IkeSpec(
        version=0,
        psk_file="/p",
        proposals=ike.LEGACY_PROPOSALS,
        esp_proposals=ike.LEGACY_ESP_PROPOSALS,
        rekey_time=0,
        ike_rekey_time=0,
        initiate=Initiate.NO,
    )


def test_what_is_said_wins_over_the_profile() -> None:
    found = lns(f"{{profile: legacy-clients, {PSK}, version: 1, rekey: 8h, esp_proposals: [aes256-sha1]}}")
    assert (found.version, found.rekey_time, found.esp_proposals) == (1, 28_800, ("aes256-sha1",))
    assert not any("gcm" in one for one in found.proposals)
    assert not found.offers_weak


def test_old_telephones_take_a_word() -> None:
    found = lns(
        f"{{profile: legacy-clients, {PSK}, weak: i-accept-broken-crypto,"
        " proposals: [aes256-sha256-modp2048, aes256-sha256-modp1024]}"
    )
    assert found.offers_weak


def test_a_call_begins_and_its_reqid_follows_from_its_name() -> None:
    found = lac(f"{{{PSK}}}")
    assert found == IkeSpec(psk_file="/p", initiate=Initiate.YES, reqid=found.reqid)
    assert ike.LAC_REQIDS <= found.reqid < ike.LAC_REQIDS + (1 << ike.LAC_REQID_BITS)
    assert lac(f"{{{PSK}}}") == found
    assert lac(f"{{{PSK}}}", "backup").reqid != found.reqid


def test_calls_whose_names_make_one_reqid_have_two() -> None:
    taken = lac(f"{{{PSK}}}").reqid
    text = (
        f"{USERS}tunnels: {{t: {{local: 10.0.0.1, remote: 10.0.0.9, ids: 1, {SESSIONS},"
        f" ipsec: {{key_file: /k, reqid: {taken}}}}}}}\n"
        f"lac: {{hq: {{remote: 10.0.0.2, user: j, ipsec: {{ike: {{{PSK}}}}}}}}}"
    )
    (call,) = loads(text).lac
    assert call.ike is not None
    assert call.ike.reqid == taken + 1


def test_profiles_may_share_a_place_if_they_agree() -> None:
    text = f"""
{USERS}
defaults: {{lns: {{ipsec: {{ike: {{{PSK}}}}}}}}}
lns:
  a: {{listen: 10.0.0.1}}
  b: {{listen: 10.0.0.1, host_names: x, ipsec: {{ike: psk}}}}
  c: {{listen: 10.0.0.2, ipsec: off}}
  d: {{listen: 10.0.0.3, ipsec: {{ike: {{rekey: 2h}}}}}}
lac:
  e: {{remote: 10.0.0.9, local: 10.0.0.2, user: j}}
  f: {{remote: 10.0.0.9, local: 10.0.0.1, local_port: auto, user: j}}
  g: {{remote: 10.0.0.8, local_port: 1702, user: j, {"ipsec: {ike: {psk_file: /p}}"}}}
  h: {{remote: 10.0.0.8, local_port: 1703, user: j, {"ipsec: {ike: {psk_file: /p}}"}}}
"""
    a, b, c, d = (profile.ike for profile in loads(text).lns)
    assert a == b
    assert c is None
    assert d is not None
    assert d.rekey_time == 7200


# Proposals


@pytest.mark.parametrize(
    ("version", "proposals", "esp"),
    [
        ("2", ike.IKE_PROPOSALS, ike.ESP_PROPOSALS),
        ("1", ike.IKEV1_PROPOSALS, ike.IKEV1_ESP_PROPOSALS),
        ("any", (*ike.IKE_PROPOSALS, *ike.IKEV1_PROPOSALS), ike.IKEV1_ESP_PROPOSALS),
    ],
)
def test_what_is_offered_where_nothing_is_said(version: str, proposals: tuple[str, ...], esp: tuple[str, ...]) -> None:
    found = of(f"{PSK}, version: {version}")
    assert (found.proposals, found.esp_proposals) == (proposals, esp)


OFFERED = {one for name in ("IKE", "IKEV1", "LEGACY") for one in getattr(ike, f"{name}_PROPOSALS")}
OFFERED_ESP = {*ike.ESP_PROPOSALS, *ike.LEGACY_ESP_PROPOSALS}


@pytest.mark.parametrize("proposal", sorted(OFFERED))
def test_what_is_offered_by_default_would_be_taken_from_an_operator(proposal: str) -> None:
    assert of(f"{PSK}, proposals: {proposal}, profile: legacy-clients").proposals == (proposal,)


@pytest.mark.parametrize("proposal", sorted(OFFERED_ESP))
def test_and_so_it_is_with_esp(proposal: str) -> None:
    assert of(f"{PSK}, esp_proposals: {proposal}, profile: legacy-clients").esp_proposals == (proposal,)


def test_only_the_profile_for_old_clients_has_anything_weak_and_that_is_sha1() -> None:
    strong = {*ike.IKE_PROPOSALS, *ike.IKEV1_PROPOSALS, *ike.ESP_PROPOSALS, *ike.IKEV1_ESP_PROPOSALS}
    for proposal in OFFERED | OFFERED_ESP:
        weak = {one.word for one in algorithms.parse(proposal) if one.weak}
        assert weak <= (set() if proposal in strong else SHA1)


@pytest.mark.parametrize("proposals", [ike.IKEV1_PROPOSALS, ike.LEGACY_PROPOSALS[len(ike.IKE_PROPOSALS) :]])
def test_what_is_for_ikev1_has_one_algorithm_of_a_kind(proposals: tuple[str, ...]) -> None:
    for proposal in proposals:
        kinds = [one.kind for one in algorithms.parse(proposal)]
        assert len(set(kinds)) == len(kinds)


def test_ikev1_offers_every_combination() -> None:
    found = of(
        f"{PSK}, version: 1, proposals: aes256-aes128-sha256-modp3072-modp2048, esp_proposals: aes256-sha512-sha256"
    )
    assert found.proposals == (
        "aes256-sha256-modp3072",
        "aes256-sha256-modp2048",
        "aes128-sha256-modp3072",
        "aes128-sha256-modp2048",
    )
    assert found.esp_proposals == ("aes256-sha512", "aes256-sha256")


@pytest.mark.parametrize(
    "proposal",
    [
        "aes256gcm16-aes128gcm16-prfsha384-prfsha256-ecp384-x25519",
        "chacha20poly1305-prfsha256-curve25519",
        "aes256gcm16-sha256-modp3072",
        "aes256-sha384-ecp384bp",
        "aes256gcm16-prfsha384-x25519-ke1_mlkem768",
        "camellia256-sha512-modp4096",
    ],
)
def test_strong_proposals_are_taken_as_they_are(proposal: str) -> None:
    assert of(f"{PSK}, proposals: {proposal}").proposals == (proposal,)


@pytest.mark.parametrize("proposal", ["aes256gcm16-ecp256-esn", "aes128ccm12", "aes192ctr-sha256_96", "aes256-aesxcbc"])
def test_strong_proposals_of_esp_are_taken_as_they_are(proposal: str) -> None:
    assert of(f"{PSK}, esp_proposals: [{proposal}, {proposal}]").esp_proposals == (proposal,)


@pytest.mark.parametrize("word", sorted(one.word for one in algorithms.ALGORITHMS.values() if one.weak))
def test_what_is_weak_is_refused_with_its_reason(word: str) -> None:
    kind = algorithms.ALGORITHMS[word].kind
    rest = {
        algorithms.Kind.ENCRYPTION: f"{word}-sha256-ecp256",
        algorithms.Kind.AEAD: f"{word}-prfsha256-ecp256",
        algorithms.Kind.INTEGRITY: f"aes256-{word}-ecp256",
        algorithms.Kind.PRF: f"aes256-sha256-{word}-ecp256",
        algorithms.Kind.GROUP: f"aes256-sha256-{word}",
    }[kind]
    with pytest.raises(ConfigError, match=f"is refused: {word}: "):
        of(f"{PSK}, proposals: {rest}")
    accepted = f"{PSK}, proposals: {rest}, weak: i-accept-broken-crypto"
    if algorithms.ALGORITHMS[word].never:
        with pytest.raises(ConfigError, match=f"is refused: {word}: "):
            of(accepted)
    else:
        assert of(accepted).offers_weak


# Identities


@pytest.mark.parametrize(
    "identity",
    [
        "hub",
        "hub.example.org",
        "@hub.example.org",
        "joe@example.org",
        "192.0.2.1",
        "2001:db8::1",
        "CN=hub, O=Example GmbH, C=DE",
        "/C=DE/O=Example GmbH/CN=hub",
        "fqdn:192.0.2.1",
        "keyid:0x0102",
        "asn1dn:#301a3118",
    ],
)
def test_identities(identity: str) -> None:
    found = of(f"{PSK}, local_id: '{identity}', remote_id: '{identity}'")
    assert (found.local_id, found.remote_id) == (identity, identity)


@pytest.mark.parametrize("identity", ["any", "%any", "*.example.org", "*@example.org", "CN=*, O=Example"])
def test_identities_of_several_peers(identity: str) -> None:
    assert of(f"{PSK}, remote_id: '{identity}'").remote_id == identity.replace("any", "%any").replace("%%", "%")


# The rest


@pytest.mark.parametrize(("dpd", "timeout"), [("", 120), ("dpd: 1m", 240), ("dpd: never", 120)])
def test_dpd_has_time_for_several_questions(dpd: str, timeout: int) -> None:
    assert of(f"{PSK}, version: 1, {dpd}").dpd_timeout == timeout


def test_nobody_is_disturbed_by_ports_of_charon_where_there_is_none() -> None:
    text = (
        "tunnels: {t: {local: 10.0.0.1, remote: 10.0.0.2, ids: 1, encapsulation: udp, ports: 4500, sessions: {s: }},"
        " u: {local: 10.0.0.1, remote: 10.0.0.3, ids: 2, netns: x, encapsulation: udp, ports: 500, sessions: {s: }}}"
    )
    assert len(loads(text).tunnels) == 2


def test_the_reference_names_sha1_and_the_danger_of_aggressive_mode() -> None:
    text = " ".join(reference().split())
    assert "proposals and esp_proposals have SHA-1" in text
    assert "Dangerous with a PSK" in text
    assert "i-accept-broken-crypto" in text
