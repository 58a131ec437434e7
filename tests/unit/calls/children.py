"""IPsec SAs, as charon tells of them."""

from kl2tp.ipsec.ike import ChildSa


def child(
    reqid: int,
    remote: bytes,
    *,
    identity: str = "192.168.1.5",
    name: str = "kl2tp:lns:office",
    number: int = 1,
    orphaned: bool = False,
) -> ChildSa:
    """One pair."""
    return ChildSa(
        name=name,
        unique_id=number,
        ike_id=number,
        reqid=reqid,
        spi_in=0x100 + reqid,
        spi_out=0x200 + reqid,
        local=bytes((198, 51, 100, 1)),
        remote=remote,
        local_port=4500,
        remote_port=4500,
        local_id="198.51.100.1",
        remote_id=identity,
        encap=True,
        transport=True,
        encryption="AES_GCM_16-256",
        integrity="",
        group="",
        local_ts=(),
        remote_ts=(),
        since=1.0,
        rekey_at=None,
        expires_at=None,
        orphaned=orphaned,
    )
