"""Which system user the servers run as. PostgreSQL refuses to run as root."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

UNPRIVILEGED = "nobody"


@dataclass(frozen=True, slots=True)
class Account:
    """A system user; `uid` and `gid` are -1 for the one that this process runs as."""

    uid: int = -1
    gid: int = -1

    def own(self, path: Path) -> None:
        """Give a file or directory to this user."""
        if self.uid != -1:
            os.chown(path, self.uid, self.gid)


SELF = Account()


def server_account(data_dir: Path) -> Account:
    """The user for the servers of this DATA_DIR, which must exist.

    As root: the owner of DATA_DIR, so that `sudo` leaves nothing behind that its owner cannot use; if that is
    root as well, `nobody`. Raises KeyError if there is no such user.
    """
    if os.geteuid() != 0:
        return SELF
    owner = data_dir.stat()
    if owner.st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    nobody = pwd.getpwnam(UNPRIVILEGED)
    return Account(nobody.pw_uid, nobody.pw_gid)


def private_directory(path: Path, account: Account = SELF) -> None:
    """Make a directory that this account alone may enter. Raises PermissionError if it is another user's."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    # It may lie in /tmp, where others could have made it first.
    if path.is_symlink() or found.st_uid not in {os.geteuid(), account.uid}:
        raise PermissionError(f"{path} belongs to another user")
    path.chmod(0o700)
    account.own(path)
