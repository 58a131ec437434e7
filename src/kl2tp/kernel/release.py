"""Releases of the kernel, as `uname -r` gives them."""


def version(release: str) -> tuple[int, int]:
    """The first two numbers of a kernel's release."""
    major, minor, *_ = (int("".join(c for c in p if c.isdigit()) or 0) for p in f"{release}.0".split("."))
    return major, minor
