"""Files of Debian's strongSwan as L2TP users write them: swanctl.conf for IKEv2, ipsec.conf for IKEv1."""

from interop.ike.rig.charon import Files
from interop.ike.rig.ways import CLIENT, PSK, SERVER, Credentials, Way

CONNECTION = "vpn"
"""How a client calls its connection."""
CHILD = "l2tp"
"""The name of its SAs with swanctl; ipsec.conf has but one name."""

_SWANCTL = """\
connections {{
    {connection} {{
        version = 2
{addresses}
        local {{
            auth = {auth}
{local}
        }}
        remote {{
            auth = {auth}
{remote}
        }}
        children {{
            {child} {{
                mode = transport
                local_ts = dynamic[udp/1701]
                remote_ts = dynamic[{remote_selector}]
                start_action = {action}
            }}
        }}
    }}
}}
secrets {{
    ike-{connection} {{
        secret = "{psk}"
    }}
}}
"""


def child(way: Way) -> str:
    """The name of a client's IPsec SAs."""
    return CONNECTION if way.version == 1 else CHILD


def _indented(*lines: str) -> str:
    return "\n".join(f"            {line}" for line in lines)


def _swanctl(way: Way, addresses: str, ids: tuple[str, str], remote_selector: str, action: str) -> str:
    local, remote = ids
    certificate = way.auth == "cert"
    return _SWANCTL.format(
        connection=CONNECTION,
        child=CHILD,
        addresses=f"        {addresses}",
        auth="pubkey" if certificate else "psk",
        local=_indented(f"certs = {local}.pem", f"id = {local}") if certificate else "",
        remote=_indented(f"id = {remote}") if certificate and remote else "",
        remote_selector=remote_selector,
        action=action,
        psk=PSK,
    )


def _credentials(own: Credentials | None) -> Files:
    """Certificates where swanctl looks for them."""
    if not own:
        return {}
    return {
        "swanctl/x509ca/ca.pem": own.ca.read_text(),
        f"swanctl/x509/{own.name}.pem": own.certificate.read_text(),
        f"swanctl/private/{own.name}.key": own.key.read_text(),
    }


_IPSEC_CONF = """\
config setup
    uniqueids = {unique}

conn %default
    keyexchange = ikev1
    authby = secret
    ike = aes256-sha256-modp2048,aes128-sha1-modp2048
    esp = aes256-sha256,aes128-sha1
    rekey = {rekey}
    keyingtries = 1

conn {connection}
    type = transport
    left = {left}
    leftprotoport = 17/1701
    right = {right}
    rightprotoport = 17/{right_port}
    auto = {auto}
"""


def client(way: Way, server: str, own: Credentials | None = None, *, auto: str = "") -> Files:
    """The files of a client of the server with that address.

    By default an IKEv2 client negotiates when its first packet wants to leave; one with IKEv1 is told to, as by
    `ipsec up vpn`. `auto = route` makes the latter do it like the former.
    """
    if way.version == 1:
        auto = auto or "add"
        conf = _IPSEC_CONF.format(
            connection=CONNECTION,
            unique="yes",
            rekey="yes",
            left="%defaultroute",
            right=server,
            right_port="1701",
            auto=auto,
        )
        return {"ipsec.conf": conf, "ipsec.secrets": f'%any {server} : PSK "{PSK}"\n'}
    conf = _swanctl(way, f"remote_addrs = {server}", (CLIENT if not own else own.name, SERVER), "udp/1701", "trap")
    return {"swanctl/swanctl.conf": conf, **_credentials(own)}


def server(way: Way, address: str, own: Credentials | None = None) -> Files:
    """The files of a server for everybody who knows the secret, or has a certificate."""
    if way.version == 1:
        conf = _IPSEC_CONF.format(
            connection="L2TP-PSK",
            unique="no",
            rekey="no",
            left=address,
            right="%any",
            right_port="%any",
            auto="add",
        )
        return {"ipsec.conf": conf, "ipsec.secrets": f'{address} %any : PSK "{PSK}"\n'}
    conf = _swanctl(way, f"local_addrs = {address}", (SERVER, ""), "udp", "none")
    return {"swanctl/swanctl.conf": conf, **_credentials(own)}
