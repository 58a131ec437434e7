"""What the two ends of a call must agree upon."""

from kl2tp.model.value import dataclass

POOL_FIRST, POOL_LAST = "10.9.0.2", "10.9.0.250"
LNS_ADDRESS = "10.9.0.1"
"""Inside the calls."""
CALLER = "caller-{}"
PASSWORD = "correct horse {}"
USERS = range(1, 101)
"""Numbers of those that there are."""
LNS_NAME, LAC_NAME = "the-lns", "the-lac"


@dataclass(frozen=True, slots=True)
class Terms:
    """How a call is made. Every field has what an end that asks for nothing special does."""

    auth: str = "chap"
    """pap, chap, mschapv2, eap-md5; between two kl2tp eap-mschapv2 too."""
    secret: str = ""
    """Of the tunnel; empty: no tunnel authentication."""
    hidden: bool = False
    sequence: bool = False
    ipv6: bool = False
    echo_failures: int = 3
    """So many seconds a peer may be silent. Few, so that a dead one is noticed within a test's patience."""

    def __str__(self) -> str:
        words = [self.auth] + [word for word in ("secret", "hidden", "sequence", "ipv6") if getattr(self, word)]
        return "-".join(words)


def user(number: int) -> str:
    """The name of a user."""
    return CALLER.format(number)


def password(number: int) -> str:
    """The password of that user."""
    return PASSWORD.format(number)
