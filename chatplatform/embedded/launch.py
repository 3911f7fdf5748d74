"""Becomes another program whose life is tied to its parent's. Run by path, in an own small interpreter.

    python -I -S launch.py PARENT_PID SIGNAL UID GID PROGRAM ARGUMENTS…

Done here rather than between fork and exec in the parent, which may have threads and hold locks. On Linux the
kernel sends SIGNAL to the program when its parent dies, however it dies; elsewhere the next start cleans up.
If UID is not -1 (the caller is root) the program runs as that user, which PostgreSQL insists on. Such a user
may be unable to reach a checkout below a private directory, so the program keeps one capability: to read and
to traverse.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG, PR_SET_SECUREBITS, PR_CAP_AMBIENT = 1, 28, 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 4
LINUX_CAPABILITY_VERSION_3 = 0x20080522
# The first is the lesser right; containers commonly grant only the second.
CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE = 2, 1


class CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


def main(parent: int, signal: int, uid: int, gid: int, command: list[str]) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if uid != -1:
            become_with_capability(libc, uid, gid)
        # After the change of user, which would clear it.
        libc.prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)  # the parent died before the request was made
    elif uid != -1:
        become(uid, gid)
    os.execv(command[0], command)


def become(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def become_with_capability(libc: ctypes.CDLL, uid: int, gid: int) -> None:
    # Without this bit access(2) ignores the capabilities of a process that is not root,
    # and PostgreSQL asks access(2) whether its own programs are there.
    kept = libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) == 0
    become(uid, gid)
    if not kept:
        return  # a container that forbids it: the change of user has dropped everything
    for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
        if set_capabilities(libc, 1 << capability):
            libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)
            return
    set_capabilities(libc, 0)


def set_capabilities(libc: ctypes.CDLL, mask: int) -> bool:
    header = CapabilityHeader(LINUX_CAPABILITY_VERSION_3, 0)
    effective_permitted_inheritable = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    return bool(libc.capset(ctypes.byref(header), effective_permitted_inheritable) == 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
