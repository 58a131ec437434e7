"""What daemon and keeper say to each other: messages on a SOCK_SEQPACKET UNIX socket, each request with one answer.

    keep NAMES     with a descriptor for each name; what had the name before is closed    -> ok
    drop NAMES     close them; a name that is not known is no error                       -> ok
    list START     names in the order in which they came, from the one with this number  -> ok NAMES
    fetch NAMES    descriptors by name; a name that is not known is left out              -> ok NAMES, with descriptors

A message is words with line feeds between them, the first says what it is. A refusal is `no` and a sentence.
"""

SOCKET = "keeper"
"""In the run directory."""
KEEP, DROP, LIST, FETCH, OK, NO = b"keep", b"drop", b"list", b"fetch", b"ok", b"no"
FDS = 200
"""Descriptors in one message, at most (the kernel takes 253)."""
NAMES = 1000
"""Names in one message without descriptors, at most."""
NAME = 60
"""Bytes of a name, at most."""
MESSAGE = 64 << 10
"""Bytes of a message, at most."""
