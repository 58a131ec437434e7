"""By what a tunnel's peer is found, and how that changes when it moves."""

from typing import TYPE_CHECKING

from kl2tp.control.profiles import Peer
from kl2tp.control.tables import TunnelEvent

if TYPE_CHECKING:
    from kl2tp.control.tunnel import Tunnel


def be_found(tunnel: "Tunnel", now: float) -> None:
    """By peer and its id; who was found there before is no more."""
    host, key = tunnel.host, (tunnel.peer, tunnel.peer_id)
    before = host.tunnel_of.get(key)
    host.tunnel_of[key] = tunnel
    if before is not None and before is not tunnel:
        host.counters.replaced += 1
        before.handle(TunnelEvent.REPLACED, None, now)


def stop_dialing(tunnel: "Tunnel") -> bool:
    """It is not an answer to our SCCRQ that a tunnel waits for, or no longer; whether it did."""
    host = tunnel.host
    waiting = host.dialing.get(tunnel.peer)
    if not waiting or tunnel not in waiting:
        return False
    waiting.remove(tunnel)
    if not waiting:
        del host.dialing[tunnel.peer]
    return True


def move(tunnel: "Tunnel", peer: Peer, now: float) -> None:
    """The peer is somewhere else: whoever asks for it there finds the tunnel, in whatever state."""
    host, old = tunnel.host, tunnel.peer
    dialing = stop_dialing(tunnel)
    found = host.tunnel_of.get((old, tunnel.peer_id)) is tunnel
    latest = host.latest_of.get((old, tunnel.host_name)) is tunnel
    if found:
        del host.tunnel_of[old, tunnel.peer_id]
    if latest:
        del host.latest_of[old, tunnel.host_name]
    tunnel.peer = peer
    if tunnel.usage is not None:
        tunnel.usage.remove_tunnel(old[0])
        tunnel.usage.add_tunnel(peer[0])
    if dialing:
        host.dialing.setdefault(peer, []).append(tunnel)
    if found:
        be_found(tunnel, now)
    if latest:
        host.latest_of[peer, tunnel.host_name] = tunnel
