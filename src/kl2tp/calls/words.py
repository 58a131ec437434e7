"""Sessions in words: for `kl2tp sessions`, for events, for hooks."""

from typing import TYPE_CHECKING, Any

from kl2tp.calls.network import LINK_LOCAL
from kl2tp.calls.session import Session
from kl2tp.control.profiles import client_of
from kl2tp.kernel import clients
from kl2tp.model.addr import prefix, text

if TYPE_CHECKING:
    from kl2tp.control.tunnel import Tunnel


def record(session: Session) -> dict[str, Any]:
    """One session as plain values; what it does not have is None."""
    grant = session.grant
    tunnel = session.call.tunnel
    return {
        "session": session.short,
        "state": session.phase.value,
        "user": session.identity or None,
        "interface": session.device or None,
        "address": text(grant.peer) or None,
        "local_address": text(grant.local) or None,
        "prefix": prefix(grant.prefix, grant.prefix_length) if grant.prefix else None,
        "mtu": session.mtu or None,
        "peer": text(tunnel.peer[0]),
        "peer_port": peer_port(tunnel),
        "peer_host": tunnel.host_name or None,
        "peer_session": f"{tunnel.peer_id}.{session.call.peer_id}",
        "profile": session.profile.name,
        "calling_number": session.call.calling_number or None,
        "since": round(session.up_since or session.since, 3),
        "ipsec": protection(tunnel),
    }


def peer_port(tunnel: "Tunnel") -> int:
    """The port that a peer sends from; on this host it may have another."""
    client, port = client_of(tunnel.peer), tunnel.peer[1]
    return clients.L2TP_PORT if client and clients.BY_PORT and port == clients.port_of(client) else port


def protection(tunnel: "Tunnel") -> dict[str, Any] | None:
    """Whose SA a tunnel goes through."""
    reqid = client_of(tunnel.peer)
    if not reqid:
        return None
    identity = tunnel.note[1] if len(tunnel.note) > 1 else None
    return {"reqid": reqid, "identity": identity, "suspended": tunnel.suspended_at is not None}


def ppp_in_words(session: Session) -> dict[str, Any]:
    """How PPP is."""
    link, grant = session.link, session.grant
    return {
        "phase": link.phase.name.lower(),
        "authenticated": link.identity,
        "mru": link.mru,
        "peer_mru": link.peer_mru,
        "local_iid": grant.local_iid.hex() or None,
        "peer_iid": grant.peer_iid.hex() or None,
        "dns": [text(address) for address in grant.dns],
    }


def tunnel_in_words(session: Session) -> dict[str, Any]:
    """How the control connection is."""
    tunnel = session.call.tunnel
    return {
        "state": tunnel.state.name.lower(),
        "opened_by": "peer" if tunnel.incoming else "us",
        "local": f"{text(tunnel.local[0])} port {tunnel.local[1]}",
        "host_name": tunnel.host_name or None,
        "vendor": tunnel.vendor or None,
        "sessions": len(tunnel.calls),
        "unacknowledged": tunnel.channel.unacked,
        "retransmissions": tunnel.channel.retransmissions,
        "suspended": tunnel.suspended_at is not None,
    }


def environment(session: Session) -> dict[str, str]:
    """What a hook is told."""
    grant = session.grant
    told = {
        "SESSION": session.short,
        "USER": session.identity,
        "INTERFACE": session.device,
        "LOCAL_ADDRESS": text(grant.local),
        "ADDRESS": text(grant.peer),
        "LINK_LOCAL": text(LINK_LOCAL + grant.peer_iid) if grant.peer_iid else "",
        "PREFIX": prefix(grant.prefix, grant.prefix_length) if grant.prefix else "",
        "DNS": " ".join(text(d) for d in grant.dns),
        "PEER": text(session.call.tunnel.peer[0]),
        "PROFILE": session.profile.name,
        "CALLING_NUMBER": session.call.calling_number or "",
        "REASON": session.reason,
    }
    return {f"KL2TP_{name}": value for name, value in told.items()}
