"""Names from outside - users, hosts - as text that is fit to be shown, and the same wherever the name came from."""


def shown(name: str) -> str:
    """A name with all that is not printable as an escape, `\\n` or `\\u200b`."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)


def text(name: bytes) -> str:
    """A name in bytes: UTF-8, and what is not as `\\xff`."""
    return shown(name.decode("utf-8", "backslashreplace"))
