"""Runs a program under a seccomp profile in Docker's or OCI's format, loaded by libseccomp as container engines do.

As a program: `seccomp.py PROFILE COMMAND...`; exec keeps the pid.
"""

import ctypes
import errno
import json
import os
import pathlib
import sys

# libseccomp's actions and comparisons, by the names of the format (seccomp.h).
ACTIONS = {
    "SCMP_ACT_ALLOW": 0x7FFF0000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
}
COMPARISONS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
UNKNOWN_CALL = -1

IO_URING = ("io_uring_setup", "io_uring_enter", "io_uring_register")

# What an engine gives a container where nothing else is asked for (Docker and Podman agree on these).
CAPABILITIES = {
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT".split()
    )
}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def resolved(profile: dict) -> dict:
    """Docker's format to OCI's, as an engine does it: rules for other capabilities and architectures are left out."""

    def applies(rule: dict) -> bool:
        machine = ARCHITECTURES[os.uname().machine]
        wanted, unwanted = rule.get("includes", {}), rule.get("excludes", {})
        return (
            ("caps" not in wanted or set(wanted["caps"]) <= CAPABILITIES)
            and ("arches" not in wanted or machine in wanted["arches"])
            and not set(unwanted.get("caps", ())) & CAPABILITIES
            and machine not in unwanted.get("arches", ())
        )

    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile.get("defaultErrnoRet", errno.EPERM),
        "syscalls": [
            {key: rule[key] for key in ("names", "action", "errnoRet", "args") if rule.get(key)}
            for rule in profile["syscalls"]
            if applies(rule)
        ],
    }


def without(profile: dict, *calls: str) -> dict:
    """The profile with no rule for these calls: they meet its default action."""
    rules = [rule | {"names": [name for name in rule["names"] if name not in calls]} for rule in profile["syscalls"]]
    return profile | {"syscalls": [rule for rule in rules if rule["names"]]}


def with_rule(profile: dict, calls: tuple[str, ...], action: str, **rule) -> dict:
    """The profile with this rule, and no other, for these calls."""
    found = without(profile, *calls)
    return found | {"syscalls": [*found["syscalls"], {"names": list(calls), "action": action, **rule}]}


def under(profile: dict, path: pathlib.Path) -> list[str]:
    """The start of a command line whose process runs under the profile, which is written to `path`."""
    path.write_text(json.dumps(profile))
    return [sys.executable, __file__, str(path)]


# Loading ------------------------------------------------------------------------------------------


class Comparison(ctypes.Structure):
    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    ]


def load(profile: dict) -> None:
    """Puts this thread, and what it becomes, under the profile, for this machine's own calling convention only."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    default = _action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))
    assert context, "seccomp_init"
    for rule in profile["syscalls"]:
        action = _action(rule["action"], rule.get("errnoRet"))
        if action == default:
            continue  # libseccomp refuses what changes nothing
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == UNKNOWN_CALL:
                continue  # as engines do: newer than the library, or of another architecture
            arguments = rule.get("args", ())
            comparisons = (Comparison * max(len(arguments), 1))(
                *(
                    Comparison(one["index"], COMPARISONS[one["op"]], one["value"], one.get("valueTwo", 0))
                    for one in arguments
                )
            )
            code = library.seccomp_rule_add_array(
                context, ctypes.c_uint32(action), number, len(arguments), comparisons
            )
            assert code == 0, f"{name}: {os.strerror(-code)}"
    code = library.seccomp_load(context)
    assert code == 0, f"seccomp_load: {os.strerror(-code)}"
    library.seccomp_release(context)


def _action(name: str, number: int | None) -> int:
    return ACTIONS[name] | ((errno.EPERM if number is None else number) if name == "SCMP_ACT_ERRNO" else 0)


if __name__ == "__main__":
    load(json.loads(pathlib.Path(sys.argv[1]).read_text()))
    os.execvp(sys.argv[2], sys.argv[2:])
