"""What the kernel lets a child process do: write below its workspace, use no network, take no more than its share.

Sources: https://docs.kernel.org/userspace-api/landlock.html (system calls, access rights by version of the
interface), ``man 2 unshare``, ``man 2 setrlimit``, ``man 2 prctl``.
"""

import ctypes
import os
import resource
import shutil
import socket
import struct
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
_REFER = 1 << 13
_OF_FILES = _WRITE_FILE | _TRUNCATE
_SCOPE_SIGNALS_AND_ABSTRACT_SOCKETS = 0b11
_REFER_SINCE, _TRUNCATE_SINCE, _SCOPES_SINCE = 2, 3, 6

_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty")
_GPU_DEVICES = "nvidia*"

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1

_MAPPED_SLACK_BYTES = 4 * 2**30
"""Address space for thread stacks and arenas that is mapped and never touched."""
_FILE_BYTES = 64 * 2**30
_OOM_FIRST = "1000"

_libc = ctypes.CDLL(None, use_errno=True)


def control_process(option: int, value: int) -> None:
    """Call ``prctl`` with one argument.

    Raises:
        OSError: the kernel refuses.
    """
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise _last_error()


def landlock_unavailable() -> str | None:
    """Why the kernel cannot keep a child from writing outside of its workspace; None if it can."""
    if _landlock_version() > 0:
        return None
    reason = os.strerror(ctypes.get_errno())
    return f"Landlock is missing ({reason}); it needs Linux 5.13 or newer with landlock in /sys/kernel/security/lsm"


def confine(workspace: Path, memory_mib: int) -> tuple[str, ...]:
    """Confine this process and all that it starts, for good; return what could not be done here, in sentences.

    It can then write only below its workspace and to devices, reaches no network, and signals no process that it did
    not start.

    Args:
        workspace: an existing folder.
        memory_mib: resident memory that it may use; single allocations far beyond it fail at once.
    """
    _limit_resources(workspace, memory_mib)
    return tuple(reason for reason in (_leave_network(), _restrict_writes(workspace)) if reason)


def _limit_resources(workspace: Path, memory_mib: int) -> None:
    mapped = memory_mib * 2**20 + _MAPPED_SLACK_BYTES + _data_bytes()
    free = shutil.disk_usage(workspace).free
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_DATA, mapped)
    _lower(resource.RLIMIT_FSIZE, min(_FILE_BYTES, free // 2))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_FIRST, encoding="ascii")


def _lower(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def _data_bytes() -> int:
    """What ``RLIMIT_DATA`` counts of this process as it stands."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    return pages * resource.getpagesize()


def _leave_network() -> str | None:
    user, group = os.getuid(), os.getgid()
    if _libc.unshare(_CLONE_NEWNET) != 0:
        if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
            return f"the network stays reachable: a network of its own is not allowed here ({_last_error().strerror})"
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    _raise_loopback()
    return None


def _raise_loopback() -> None:
    """Let the process talk to itself: libraries connect their own workers by 127.0.0.1."""
    request = struct.pack("16sH14x", b"lo", _IFF_UP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket, suppress(OSError):
        fd = any_socket.fileno()
        _libc.ioctl(fd, _SIOCSIFFLAGS, request)


def _restrict_writes(workspace: Path) -> str | None:
    version = _landlock_version()
    if version <= 0:
        return f"writes outside of the workspace are not prevented: {landlock_unavailable()}"
    handled = _WRITE_FILE | _REMOVE_AND_MAKE
    handled |= _REFER if version >= _REFER_SINCE else 0
    handled |= _TRUNCATE if version >= _TRUNCATE_SINCE else 0
    scopes = _SCOPE_SIGNALS_AND_ABSTRACT_SOCKETS if version >= _SCOPES_SINCE else 0
    attributes = struct.pack("QQQ", handled, 0, scopes)
    # An older kernel takes the shorter struct only if what it does not know is zero, which it is then.
    ruleset = _libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return f"writes outside of the workspace are not prevented: {_last_error()}"
    try:
        _allow(ruleset, workspace, handled)
        for device in (*map(Path, _DEVICES), *Path("/dev").glob(_GPU_DEVICES)):
            if device.exists() and not device.is_dir():
                _allow(ruleset, device, handled & _OF_FILES)
        control_process(_PR_SET_NO_NEW_PRIVS, 1)
        if _libc.syscall(_RESTRICT_SELF, ruleset, 0) != 0:
            raise _last_error()
    finally:
        os.close(ruleset)
    return None


def _allow(ruleset: int, path: Path, access: int) -> None:
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", access, beneath)
        if _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0) != 0:
            raise _last_error()
    finally:
        os.close(beneath)


def _landlock_version() -> int:
    return int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG))


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
