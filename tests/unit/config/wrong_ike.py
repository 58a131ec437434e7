"""Wrong configurations of IKE, one per kind of error. For the marks see `unit.config.wrong`."""

from unit.config.wrong import Wrong, tunnel, two
from unit.config.wrong_calls import USERS, lac, lns
from unit.config.wrong_calls import two as two_calls

PSK = "psk_file: /p"
CERT = "auth: cert, certificate_file: /c, private_key_file: /k, ca_file: /a, remote_id: b.example.org"
PROTECTED = f"ipsec: {{ike: {{{PSK}}}}}"
IDS = "remote: 10.0.0.2, ids: 1"


def ike(keys: str, ipsec: str = "") -> str:
    """A tunnel with IKE that is right but for `keys`. A mark at their beginning means the mapping."""
    return tunnel(f"{IDS}, ipsec: {{ike: {{{keys}}}{ipsec}}}").replace("{§", "§{")


def offers(proposals: str) -> str:
    """A tunnel with IKE that is right but for what protects IKE."""
    return ike(f"{PSK}, proposals: {proposals}")


def esp(proposals: str, keys: str = PSK) -> str:
    """A tunnel with IKE that is right but for what protects the packets."""
    return ike(f"{keys}, esp_proposals: {proposals}")


def office(keys: str, rest: str = "") -> str:
    """An LNS profile with IKE that is right but for `keys`."""
    return lns(f"ipsec: {{ike: {{{keys}}}}}{rest}")


def call(keys: str, ipsec: str = "", rest: str = "") -> str:
    """A call with IKE that is right but for `keys`. A mark at their beginning means the mapping."""
    return lac(f"ipsec: {{ike: {{{keys}}}{ipsec}}}{rest}").replace("{§", "§{")


def defaults(ipsec: str, keys: str) -> str:
    """A tunnel whose ipsec inherits."""
    return f"defaults: {{ipsec: {{{ipsec}}}}}\n" + tunnel(f"{IDS}, {keys}")


UDP = "remote: 10.0.0.2, ids: 1, encapsulation: udp"

SCALARS = [
    Wrong("a short form of ike", tunnel(f"{IDS}, ipsec: {{ike: §pks}}"),
          "ike: 'pks' is none of psk, cert, eap, legacy-clients, off", "did you mean psk?"),
    Wrong("a psk inline", ike("grace: 1, §psk: hunter2"),
          "psk: a secret never stands in the configuration", "put it into a file"),
    Wrong("a password of ike inline", ike("auth: eap, user: joe, ca_file: /a, remote_id: x, §password: hunter2"),
          "password: a secret never stands in the configuration", "put it into a file"),
    Wrong("a psk for its file", ike("psk_file: §hunter2"),
          "psk_file: the value is not an absolute path", "keys live in files"),
    Wrong("a certificate by strongSwan's word", ike(f"{PSK}, §leftcert: /c"),
          "unknown key 'leftcert' in ike", "did you mean certificate_file?"),
    Wrong("an identity by strongSwan's word", ike(f"{PSK}, §rightid: x"),
          "unknown key 'rightid' in ike", "did you mean remote_id?"),
    Wrong("a version of ike", ike(f"{PSK}, version: §3"), "version: '3' is none of 2, 1, any"),
    Wrong("an unknown profile", ike(f"{PSK}, profile: §windows"),
          "profile: 'windows' is none of strong, legacy-clients"),
    Wrong("an eap server", ike(f"{PSK}, remote_auth: §eap"),
          "remote_auth: peers that prove themselves by EAP are not supported", "users log in by PPP"),
    Wrong("no proof", ike(f"{PSK}, remote_auth: §none"), "remote_auth: 'none' is none of psk, cert"),
    Wrong("a short rekey", ike(f"{PSK}, rekey: §1"), "rekey: '1' is not from 3 to 86400 s"),
    Wrong("a rekey of days", ike(f"{PSK}, rekey: §48h"), "rekey: '48h' is not from 3 to 86400 s"),
    Wrong("a long grace", ike(f"{PSK}, grace: §2h"), "grace: '2h' is not from 0 to 3600 s"),
    Wrong("dpd as a word", ike(f"{PSK}, dpd: §often"), "dpd: 'often' is not a time", "500ms, 10s, 5m, 1h"),
    Wrong("a nat_traversal of static keys", ike(f"{PSK}, nat_traversal: §4500/4500"),
          "nat_traversal: '4500/4500' is none of auto, always"),
    Wrong("nobody as local id", ike(f"{PSK}, local_id: §'%any'"),
          "local_id: %any is nobody in particular", "write who we are"),
    Wrong("a pattern as local id", ike(f"{PSK}, local_id: §'*.example.org'"),
          "local_id: '*.example.org' has a * in it: we are somebody in particular"),
    Wrong("a pattern in the middle", ike(f"{PSK}, remote_id: §b*.example.org"),
          "remote_id: 'b*.example.org': a * stands at the beginning only", "*.example.org"),
    Wrong("an address as id", ike(f"{PSK}, remote_id: §10.0.0.300"),
          "remote_id: '10.0.0.300' is not an IPv4 or IPv6 address", "fqdn:"),
    Wrong("a prefix of an id", ike(f"{PSK}, remote_id: §'name:x'"),
          "remote_id: 'name:x' is not an IPv4 or IPv6 address", "fqdn:"),
    Wrong("an id with a space", ike(f"{PSK}, remote_id: §branch one"),
          "remote_id: 'branch one' is no identity: it has a space in it", "CN=..., O=..."),
    Wrong("an attribute of a subject", ike(f"{PSK}, remote_id: §'CN=b, ORG=Example'"),
          "remote_id: 'CN=b, ORG=Example': there is no attribute 'ORG'", "e.g. CN, O, OU"),
    Wrong("half a subject", ike(f"{PSK}, remote_id: §'CN=b, Example'"),
          "remote_id: 'CN=b, Example' is no distinguished name: 'Example' is not of the form NAME=VALUE"),
    Wrong("an empty part of a subject", ike(f"{PSK}, remote_id: §'CN=b, O='"),
          "remote_id: 'CN=b, O=': O has no value", "write * for any"),
    Wrong("a long id", ike(f"{PSK}, remote_id: §{'x' * 300}"),
          f"remote_id: '{'x' * 77}...' is longer than 255 bytes"),
    Wrong("an id of nothing", ike(f"{PSK}, remote_id: §' '"),
          "remote_id: the value is empty or has control characters in it"),
    Wrong("vici over tcp", "daemon: {charon: §tcp://127.0.0.1:4502}\ntunnels:\n",
          "charon: 'tcp://127.0.0.1:4502' is refused: over TCP everybody who reaches the port can read and change all"
          " keys", "unix:///run/charon.vici"),
    Wrong("a path for a socket", "daemon: {charon: §/run/charon.vici}\ntunnels:\n",
          "charon: '/run/charon.vici' is not unix:// and an absolute path", "unix:///run/charon.vici"),
    Wrong("a long path for a socket", f"daemon: {{charon: §unix:///{'x' * 107}}}\ntunnels:\n",
          f"charon: 'unix:///{'x' * 69}...' is no path for a socket", "at most 107 bytes"),
    Wrong("marks without a mask", "daemon: {marks: §0x6b000000}\ntunnels:\n",
          "marks: '0x6b000000' has no mask", "0x6b000000/0xffff0000"),
    Wrong("a mask with holes", "daemon: {marks: §0x6b000000/0xff00ff00}\ntunnels:\n",
          "marks: '0x6b000000/0xff00ff00': the mask does not leave the last 8 to 24 bits", "0xffff0000"),
    Wrong("a mask that leaves nothing", "daemon: {marks: §0x6b000000/0xffffffff}\ntunnels:\n",
          "marks: '0x6b000000/0xffffffff': the mask does not leave the last 8 to 24 bits"),
    Wrong("marks from 0", "daemon: {marks: §0/0xffff0000}\ntunnels:\n",
          "marks: '0/0xffff0000': the base must be within the mask, and not 0", "0x6b000000/0xffff0000"),
    Wrong("a base beside the mask", "daemon: {marks: §0x6b000001/0xffff0000}\ntunnels:\n",
          "marks: '0x6b000001/0xffff0000': the base must be within the mask, and not 0"),
    Wrong("marks of 33 bits", "daemon: {marks: §0x16b000000/0xffff0000}\ntunnels:\n",
          "marks: '0x16b000000/0xffff0000' has more than 32 bits"),
]  # fmt: skip

PROPOSALS = [
    Wrong("an unknown algorithm", offers("§aes256-sha257-modp2048"),
          "proposals: 'aes256-sha257-modp2048': there is no algorithm 'sha257'", "did you mean sha256?"),
    Wrong("a group of libreswan", offers("§aes256-sha256-dh14"),
          "proposals: 'aes256-sha256-dh14': there is no algorithm 'dh14'", "did you mean modp2048?"),
    Wrong("an algorithm in capitals", offers("§AES256-sha256-modp2048"),
          "proposals: 'AES256-sha256-modp2048': there is no algorithm 'AES256'", "did you mean aes256?"),
    Wrong("strongSwan's default", offers("§default"),
          "proposals: 'default': default is what strongSwan makes of it, which changes", "leave it out"),
    Wrong("a word of none", offers("§zzzzzz"), "proposals: 'zzzzzz': there is no algorithm 'zzzzzz'",
          "words of strongSwan, joined by dashes"),
    Wrong("proposals with a comma", offers("§'aes256-sha256-ecp256,aes128-sha256-ecp256'"),
          "proposals: 'aes256-sha256-ecp256,aes128-sha256-ecp256' is several proposals in one", "write a list"),
    Wrong("a word twice", offers("§aes256-sha256-sha256-ecp256"),
          "proposals: 'aes256-sha256-sha256-ecp256' names sha256 twice", "remove one"),
    Wrong("ike without encryption", offers("§sha256-modp2048"),
          "proposals: 'sha256-modp2048' names no encryption", "aes256-sha256-ecp256"),
    Wrong("ike without integrity", offers("§aes256-modp2048"),
          "proposals: 'aes256-modp2048' names no integrity: aes256 alone does not authenticate", "add sha256"),
    Wrong("ike without a prf", offers("§aes256gcm16-modp2048"),
          "proposals: 'aes256gcm16-modp2048' names no pseudo-random function", "add prfsha256"),
    Wrong("ike without a prf beside a short hash", offers("§aes256-sha256_96-modp2048"),
          "proposals: 'aes256-sha256_96-modp2048' names no pseudo-random function", "add prfsha256"),
    Wrong("ike without a group", offers("[aes256-sha256-ecp256, §aes256-sha256]"),
          "proposals: 'aes256-sha256' names no Diffie-Hellman group", "add ecp256"),
    Wrong("ike with a second group only", offers("§aes256-sha256-ke1_mlkem768"),
          "proposals: 'aes256-sha256-ke1_mlkem768' names no Diffie-Hellman group"),
    Wrong("two kinds of encryption", offers("§aes256gcm16-aes256-sha256-ecp256"),
          "proposals: 'aes256gcm16-aes256-sha256-ecp256': aes256gcm16 authenticates by itself and aes256 doesn't: they"
          " can't stand in one proposal", "a list"),
    Wrong("esn for ike", offers("§aes256-sha256-ecp256-esn"),
          "proposals: 'aes256-sha256-ecp256-esn': extended sequence numbers are a matter of ESP", "esp_proposals"),
    Wrong("esp without integrity", esp("§aes128"), "esp_proposals: 'aes128' names no integrity: aes128 alone does not"
          " authenticate"),
    Wrong("esp with a prf", esp("§aes256gcm16-prfsha256"), "esp_proposals: 'aes256gcm16-prfsha256': prfsha256 means"
          " nothing here, as ESP has no pseudo-random function", "remove prfsha256"),
    Wrong("esp that authenticates twice", esp("§aes256gcm16-sha256"), "esp_proposals: 'aes256gcm16-sha256': sha256"
          " means nothing here, as the encryption authenticates by itself", "remove sha256"),
    Wrong("3des", offers("§3des-sha256-modp2048"), "proposals: '3des-sha256-modp2048' is refused: 3des: 3DES has 64-bit"
          " blocks: its data can be recovered after some gigabytes (CVE-2016-2183)", "weak: i-accept-broken-crypto"),
    Wrong("des", esp("§des-sha256"), "esp_proposals: 'des-sha256' is refused: des: DES keys are found by trying them"
          " all", "weak: i-accept-broken-crypto"),
    Wrong("md5", esp("§aes256-md5"), "esp_proposals: 'aes256-md5' is refused: md5: MD5 is broken (RFC 6151)"),
    Wrong("sha-1", offers("§aes256-sha1-modp2048"),
          "proposals: 'aes256-sha1-modp2048' is refused: sha1: SHA-1 is broken (RFC 6194)", "weak:"),
    Wrong("modp1024", offers("§aes256-sha256-modp1024"),
          "proposals: 'aes256-sha256-modp1024' is refused: modp1024: 1024 bits can be broken by those who try (RFC"
          " 8247 2.4)"),
    Wrong("modp1536", esp("§aes256gcm16-modp1536"), "esp_proposals: 'aes256gcm16-modp1536' is refused: modp1536: 1536"
          " bits can be broken by those who try (RFC 8247 2.4)"),
    Wrong("modp1024 for old clients", office(f"profile: legacy-clients, {PSK}, proposals: §aes256-sha1-modp1024"),
          "proposals: 'aes256-sha1-modp1024' is refused: modp1024: 1024 bits can be broken by those who try (RFC 8247"
          " 2.4)"),
    Wrong("no encryption at all", esp("§null-sha256", f"{PSK}, weak: i-accept-broken-crypto"),
          "esp_proposals: 'null-sha256' is refused: null: NULL encrypts nothing: packets would leave in clear",
          "use aes256gcm16"),
    Wrong("another word for weak", ike(f"{PSK}, weak: §yes"), "weak: 'yes' is none of no, i-accept-broken-crypto"),
    Wrong("weak without need", ike(f"{PSK}, weak: §i-accept-broken-crypto"),
          "t: weak: i-accept-broken-crypto, but nothing weak is offered", "remove weak"),
    Wrong("gcm with ikev1", ike(f"{PSK}, version: 1, proposals: §aes256gcm16-prfsha256-ecp256"),
          "proposals: 'aes256gcm16-prfsha256-ecp256': aes256gcm16 needs IKEv2, and version is 1", "ESP may have it"),
    Wrong("too many combinations", ike(
          f"{PSK}, version: 1, proposals: §aes256-aes192-aes128-sha256-sha384-sha512-modp2048-modp3072-modp4096"
          "-modp6144-modp8192-ecp256-ecp384-ecp521-ecp256bp-ecp384bp-ecp512bp-x25519"),
          "proposals: 108 combinations are too many for IKEv1", "100 are possible"),
    Wrong("esn without a window", esp("aes256gcm16-esn", f"{PSK}").replace("}, sess", ", replay_window: §0}, sess"),
          "t: esn in esp_proposals needs a replay window", "replay_window: 128"),
]  # fmt: skip

PROOFS = [
    Wrong("no psk", tunnel(f"{IDS}, ipsec: {{ike: §psk}}"), "t: auth: psk needs a psk_file",
          "psk_file: /etc/kl2tp/ike.psk"),
    Wrong("two places of a psk", ike("psk_file: /p, psk_dir: §/d"),
          "t: psk_file and psk_dir both say where the key is", "keep one of them"),
    Wrong("no certificate", ike("§auth: cert, private_key_file: /k, ca_file: /a, remote_id: x"),
          "t: auth: cert needs a certificate_file", "/etc/kl2tp/pki/hub.pem"),
    Wrong("no private key", ike("§auth: cert, certificate_file: /c, ca_file: /a, remote_id: x"),
          "t: auth: cert needs a private_key_file", "/etc/kl2tp/pki/hub.key"),
    Wrong("no ca", ike("§auth: cert, certificate_file: /c, private_key_file: /k, remote_id: x"),
          "t: remote_auth: cert needs a ca_file", "/etc/kl2tp/pki/ca.pem"),
    Wrong("no user", ike("§auth: eap, password_file: /p, ca_file: /a, remote_id: x"),
          "t: auth: eap needs a user", "user: branch1"),
    Wrong("no password", ike("§auth: eap, user: joe, ca_file: /a, remote_id: x"),
          "t: auth: eap needs a password_file", "/etc/kl2tp/ike.password"),
    Wrong("a certificate with a psk", ike(f"{PSK}, certificate_file: §/c"),
          "t: certificate_file means nothing with auth: psk", "set auth: cert"),
    Wrong("a psk with certificates", ike(f"{CERT}, psk_file: §/p"), "t: psk_file means nothing with auth: cert",
          "set auth: psk"),
    Wrong("a ca with a psk", ike(f"{PSK}, ca_file: §/a"), "t: ca_file means nothing with auth: psk",
          "set remote_auth: cert"),
    Wrong("any certificate", ike("§auth: cert, certificate_file: /c, private_key_file: /k, ca_file: /a"),
          "t: any certificate of the CA would do for the peer's", "remote_id: branch1.example.org"),
    Wrong("any certificate for a call", call("§auth: cert, certificate_file: /c, private_key_file: /k, ca_file: /a"),
          "a: any certificate of the CA would do for the peer's", "remote_id: any, if that is meant"),
    Wrong("eap with ikev1", ike("version: 1, auth: §eap, user: j, password_file: /p, ca_file: /a, remote_id: x"),
          "t: auth: eap needs IKEv2, and version is 1", "version: 2"),
    Wrong("eap with a psk", ike(f"auth: eap, user: j, password_file: /p, remote_auth: §psk, {PSK}"),
          "t: with auth: eap the peer must prove itself by a certificate (RFC 7296 2.16)", "remote_auth: cert"),
    Wrong("eap for an lns", office("auth: §eap, user: j, password_file: /p, ca_file: /a"),
          "a: auth: eap is for the end that calls", "users log in by PPP"),
    Wrong("two proofs with ikev1",
          ike(f"version: any, auth: psk, {PSK}, remote_auth: §cert, ca_file: /a, remote_id: x"),
          "t: auth: psk and remote_auth: cert need version: 2", "in IKEv1 both ends prove themselves alike"),
    Wrong("aggressive with ikev2", ike(f"{PSK}, aggressive: §true"), "t: aggressive is a matter of IKEv1, and version"
          " is 2", "remove aggressive"),
    Wrong("mobike with ikev1", ike(f"{PSK}, version: 1, mobike: §true"), "t: mobike is a matter of IKEv2, and version"
          " is 1", "remove mobike"),
    Wrong("dpd_timeout with ikev2", ike(f"{PSK}, dpd_timeout: §60s"), "t: dpd_timeout is a matter of IKEv1, and version"
          " is 2", "remove dpd_timeout"),
    Wrong("an early dpd_timeout", ike(f"{PSK}, version: 1, dpd: ¤60s, dpd_timeout: §30s"),
          "t: a dpd_timeout of 30 s is not over dpd, 60 s (at {other})", "several times dpd"),
    Wrong("an lns that begins", office(f"{PSK}, initiate: §yes"), "a: an LNS never begins", "remove initiate"),
    Wrong("a call that waits", call(f"{PSK}, initiate: §no"), "a: a call that we place always begins",
          "remove initiate"),
    Wrong("eap that waits", ike("auth: eap, user: j, password_file: /p, ca_file: /a, remote_id: x, initiate: §no"),
          "t: with auth: eap it is us who begin", "initiate: yes"),
]  # fmt: skip

TOGETHER = [
    Wrong("ike and a key", tunnel(f"{IDS}, ipsec: {{ike: ¤{{{PSK}}}, key_file: §/k}}"),
          "t: key_file is for static keys, but ike (at {other}) negotiates", "keep one of them: ike or key_file"),
    Wrong("ike and a static cipher", tunnel(f"{IDS}, ipsec: {{proposal: §aes256gcm16, ike: ¤{{{PSK}}}}}"),
          "t: proposal is for static keys, but ike (at {other}) negotiates", "keep one of them: ike or proposal"),
    Wrong("a mark beside ike of the defaults", defaults(f"ike: ¤{{{PSK}}}", "ipsec: {mark: §7}"),
          "t: mark is for static keys, but ike (at {other}) negotiates", "keep one of them: ike or mark"),
    Wrong("defaults with both", f"defaults: {{ipsec: {{ike: §{{{PSK}}}, key_dir: ¤/k}}}}\n"
          + tunnel(f"{IDS}, ipsec: {{mode: tunnel}}"),
          "t: the defaults have both ike and key_dir (at {other})", "ike: psk, or ike: off"),
    Wrong("ike off without a key", defaults(f"ike: {{{PSK}}}", "ipsec: §{ike: off}"), "t: ipsec has no key",
          "name a key_file"),
    Wrong("ike in a namespace", tunnel(f"{IDS}, netns: §uplink, {PROTECTED}"),
          "t: ike is possible in the daemon's own namespace only, and netns is 'uplink'", "use static keys"),
    Wrong("a small reqid", tunnel(f"{IDS}, ipsec: {{ike: {{{PSK}}}, reqid: §7}}"),
          "t: with ike a reqid of 7 is charon's own, for clients of an LNS", "from 0x10000 on"),
    Wrong("a tunnel id that makes a small reqid", tunnel(f"remote: 10.0.0.2, ids: §2492727301, {PROTECTED}"),
          "t: with ike a reqid of 5 is charon's own, for clients of an LNS", "another tunnel id"),
    Wrong("a reqid of a static tunnel", two("remote: 10.0.0.2, ids: 1, ipsec: {key_file: /k, reqid: ¤0x70000}",
          f"remote: 10.0.0.3, ids: 2, ipsec: {{ike: {{{PSK}}}, reqid: §0x70000}}"),
          "b: the reqid 0x70000 is taken by a at {other}", "leave reqid out"),
    Wrong("cookies without a key", tunnel(f"{IDS}, {PROTECTED}", "s: {cookie: §auto}"),
          "t/s: there is no key from which cookies could be derived", "IPsec keeps forged packets out"),
    Wrong("two tunnels that ike can't tell apart", two(
          f"{UDP}, ports: 2001, ipsec: {{ike: ¤{{{PSK}}}}}",
          f"{UDP.replace('ids: 1', 'ids: 2')}, ports: 2002, ipsec: {{ike: §{{{PSK}}}}}"),
          "b: IKE can't tell this tunnel to 10.0.0.2 from the one of a at {other}", "local_id and remote_id"),
    Wrong("two tunnels between the same identities", two(
          f"remote: 10.0.0.2, ids: 1, ipsec: {{ike: ¤{{{PSK}, local_id: x, remote_id: y}}}}",
          f"remote: 10.0.0.3, ids: 2, ipsec: {{ike: §{{{PSK}, local_id: x, remote_id: y}}}}"),
          "b: IKE can't tell this tunnel to 10.0.0.3 from the one of a at {other}", "local_id and remote_id"),
    Wrong("a tunnel at charon's port", two(f"{UDP}, ports: §4500/1701",
          f"remote: 10.0.0.3, ids: 2, ipsec: {{ike: ¤{{{PSK}}}}}"),
          "a: the UDP port 4500 is charon's, which serves b at {other}", "choose another one"),
    Wrong("static nat traversal at charon's port", two(f"remote: 10.0.0.3, ids: 2, ipsec: {{ike: ¤{{{PSK}}}}}",
          f"{IDS}, ipsec: {{key_file: /k, side: left, nat_traversal: §4500/4500}}"),
          "b: the UDP port 4500 is charon's, which serves a at {other}", "4510/4510"),
]  # fmt: skip

PLACES = [
    Wrong("ipsec without ike", lns("ipsec: §{replay_window: 7}"), "a: ipsec says nothing of ike", "ipsec: off"),
    Wrong("a mode for calls", call(PSK, ", §mode: tunnel"), "unknown key 'mode' in lac ipsec", "static keys"),
    Wrong("a small reqid of a call", call(PSK, ", reqid: §7"),
          "a: with ike a reqid of 7 is charon's own, for clients of an LNS", "from 0x10000 on"),
    Wrong("a reqid of two calls", two_calls(
          f"remote: 10.0.0.2, user: j, ipsec: {{ike: {{{PSK}}}, reqid: ¤0x70000}}",
          f"remote: 10.0.0.3, user: j, ipsec: {{ike: {{{PSK}}}, reqid: §0x70000}}", "lac"),
          "b: the reqid 0x70000 is taken by a at {other}", "leave reqid out"),
    Wrong("a place with and without", two_calls(f"listen: 10.0.0.1, ipsec: ¤{{ike: {{{PSK}}}}}",
          "listen: 10.0.0.1, host_names: x, ipsec: §off"),
          "b: calls to 10.0.0.1 port 1701 are taken in clear here, and in IPsec only by a at {other}",
          "let both have ike"),
    Wrong("every place and one", two_calls("listen: 10.0.0.1, ipsec: ¤off", f"ipsec: §{{ike: {{{PSK}}}}}"),
          "b: calls to port 1701 of every address are taken in IPsec only here, and in clear by a at {other}",
          "listen at different addresses"),
    Wrong("two kinds of ike at one address", two_calls(f"listen: 10.0.0.1, ipsec: ¤{{ike: {{{PSK}}}}}",
          f"listen: 10.0.0.1:1702, ipsec: §{{ike: {{{PSK}, rekey: 2h}}}}"),
          "b: IKE can't tell which profile a peer at 10.0.0.1 port 1702 means: it is configured differently in a at"
          " {other}", "the same ike"),
    Wrong("a clear call from a protected place", f"{USERS}lns: {{a: {{ipsec: ¤{{ike: {{{PSK}}}}}}}}}\n"
          "lac: {b: {remote: §10.0.0.2, user: joe}}\n",
          "b: this call is in clear, and from the same port 1701 calls are taken in IPsec only by a at {other}",
          "local_port: auto"),
    Wrong("two calls to one server", two_calls(f"remote: ¤10.0.0.2, user: j, {PROTECTED}",
          f"remote: §10.0.0.2, user: k, {PROTECTED}", "lac"),
          "b: two calls to 10.0.0.2 port 1701 from ports that may be the same, both in IPsec: there is also a at"
          " {other}", "local_port: 1702"),
    Wrong("a clear call to the same server", two_calls(f"remote: ¤10.0.0.2, user: j, {PROTECTED}",
          "remote: [10.0.0.3, 10.0.0.2], user: k, local_port: auto", "lac").replace("[10.0.0.3", "§[10.0.0.3"),
          "b: two calls to 10.0.0.2 port 1701 from ports that may be the same, one in IPsec and one in clear: there is"
          " also a at {other}", "a local_port of its own"),
    Wrong("a clear tunnel beside a call", tunnel(UDP.replace("remote: ", "remote: ¤") + ", ports: 2001/1701") +
          f"\n{USERS}lac: {{a: {{remote: §10.0.0.2, user: joe, local_port: auto, {PROTECTED}}}}}\n",
          "a: this call is in IPsec, and to the same peer 10.0.0.2 port 1701 there is the clear tunnel t at {other}",
          "give the tunnel other ports"),
    Wrong("a profile at charon's port", lns(f"listen: 10.0.0.1:4500, ipsec: §¤{{ike: {{{PSK}}}}}"),
          "a: the UDP port 4500 is charon's, which serves a at {other}", "1701 is free"),
]  # fmt: skip

IKE = [*SCALARS, *PROPOSALS, *PROOFS, *TOGETHER, *PLACES]
