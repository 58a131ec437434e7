"""Files with secrets: read only if nobody else can read or change them; nothing in them ever gets into a message.

They are named by path, or as `credential:NAME` for a systemd credential (LoadCredential= of the unit).
"""

import errno
import os
import pwd
import shlex
import stat
from typing import TypeAlias

_CREDENTIAL = "credential:"

Signature: TypeAlias = tuple[int, ...] | None
"""What changes when a file is written, replaced or has its mode changed; None: there is no file."""


class SecretFileError(Exception):
    """A file cannot be used. Says where, why and what mends it, and never what is in the file."""

    def __init__(self, path: str, line: int, problem: str, hint: str) -> None:
        super().__init__(path, line, problem, hint)
        self.path = path
        self.line = line
        """1 is the first; 0: the file as a whole."""
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else self.path
        return f"{where}: {self.problem}; {self.hint}"


def read(path: str, limit: int, make: str = "install -m 600 /dev/null {path}") -> bytes:
    """The file's bytes, once type, owner, mode and size are right: those of what is open, not of a name.

    `limit` is the longest it may be, bytes; `make` the command that makes one where there is none. Raises
    SecretFileError.
    """
    real = _resolve(path)
    try:
        fd = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise _unopened(path, real, error, make) from None
    try:
        check_file(path, real, os.fstat(fd))
        content = _read_all(fd, limit)
    except OSError as error:
        raise SecretFileError(path, 0, f"cannot be read: {error.strerror}", "check the file system") from None
    finally:
        os.close(fd)
    if len(content) > limit:
        raise SecretFileError(path, 0, f"is longer than {limit} bytes", "name another file, or split it")
    return content


def signature(path: str) -> Signature:
    """What tells whether a file is still the one that was read: one stat(2)."""
    try:
        s = os.stat(_resolve(path))
    except (OSError, ValueError, SecretFileError):
        return None
    return (s.st_mtime_ns, s.st_size, s.st_ino, s.st_dev, s.st_ctime_ns)


def _resolve(path: str) -> str:
    """Where `path` or `credential:NAME` is on disk. Raises SecretFileError."""
    if not path.startswith(_CREDENTIAL):
        return path
    name = path.removeprefix(_CREDENTIAL)
    if not name or "/" in name or name in (".", ".."):
        raise SecretFileError(path, 0, "is not a credential's name", "write `credential:NAME`, without slashes")
    if not (directory := os.environ.get("CREDENTIALS_DIRECTORY")):
        problem = "there are no credentials here ($CREDENTIALS_DIRECTORY is not set)"
        raise SecretFileError(path, 0, problem, f"add to the unit: LoadCredential={name}")
    return os.path.join(directory, name)


def _read_all(fd: int, limit: int) -> bytes:
    """Up to one byte more than the file may have."""
    parts = []
    length = 0
    while length <= limit and (more := os.read(fd, limit + 1 - length)):
        parts.append(more)
        length += len(more)
    return b"".join(parts)


def _unopened(path: str, real: str, error: OSError | ValueError, make: str) -> SecretFileError:
    """Why a file could not be opened."""
    quoted = shlex.quote(real)
    if isinstance(error, ValueError):
        return SecretFileError(path, 0, "is no file name", "a name has no NUL character")
    if error.errno == errno.ENOENT:
        hint = f"make one: {make.format(path=quoted)}"
        if path.startswith(_CREDENTIAL):
            hint = f"add to the unit: LoadCredential={path.removeprefix(_CREDENTIAL)}"
        return SecretFileError(path, 0, "does not exist", hint)
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = f"as root: chown {_user()} {quoted} && chmod 600 {quoted}"
        return SecretFileError(path, 0, "may not be read", hint)
    return SecretFileError(path, 0, f"cannot be opened: {error.strerror}", "check the path")


def check_file(path: str, real: str, status: os.stat_result) -> None:
    """Refuse what is not a regular file, or what others own or could read or change. Raises SecretFileError."""
    quoted = shlex.quote(real)
    mode = stat.S_IMODE(status.st_mode)
    credential = path.startswith(_CREDENTIAL)
    if not stat.S_ISREG(status.st_mode):
        raise SecretFileError(path, 0, "is not a regular file", "name the file itself")
    mends, problems = [], []
    if not credential and status.st_uid not in (0, os.geteuid()) and not _keeps_keys(status.st_uid, real):
        problems.append(f"belongs to another user (uid {status.st_uid})")
        mends.append(f"chown {_user()} {quoted}")
    if mode & (0o007 if credential else 0o077):
        problems.append(f"is open to others (mode {mode:04o})")
        mends.append(f"chmod 600 {quoted}")
    if problems:
        raise SecretFileError(path, 0, " and ".join(problems), f"mend it: {' && '.join(mends)}")


def _keeps_keys(uid: int, real: str) -> bool:
    """Whether root may take this user's file: it lies in a directory that only this user (or root) can change.

    So root reads what the daemon's own user keeps in its key directory.
    """
    if os.geteuid() != 0:
        return False
    directory = os.stat(os.path.dirname(os.path.abspath(real)))
    return directory.st_uid == uid and not stat.S_IMODE(directory.st_mode) & 0o022


def _user() -> str:
    """Name of the user we run as."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
