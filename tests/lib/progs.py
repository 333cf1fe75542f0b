"""BPF programs that are loaded, from bpf(2): what the verifier walked, how often they ran and for how long."""
import ctypes
import errno
import os
import platform
import re
import struct
from dataclasses import dataclass
from pathlib import Path

NUMBER = {"x86_64": 321, "aarch64": 280}.get(platform.machine())
PROG_GET_NEXT_ID, PROG_GET_FD_BY_ID, OBJ_GET_INFO_BY_FD = 11, 13, 15
LIBC = ctypes.CDLL(None, use_errno=True)


class Info(ctypes.Structure):
    """struct bpf_prog_info to verified_insns (5.16); the kernel fills what it knows, zero is left for the rest."""
    _fields_ = [
        ("type", ctypes.c_uint32), ("id", ctypes.c_uint32), ("tag", ctypes.c_uint8 * 8),
        ("jited_len", ctypes.c_uint32), ("xlated_len", ctypes.c_uint32),
        ("jited_insns", ctypes.c_uint64), ("xlated_insns", ctypes.c_uint64),
        ("load_time", ctypes.c_uint64), ("created_by_uid", ctypes.c_uint32), ("nr_map_ids", ctypes.c_uint32),
        ("map_ids", ctypes.c_uint64), ("name", ctypes.c_char * 16),
        ("ifindex", ctypes.c_uint32), ("flags", ctypes.c_uint32), ("netns_dev", ctypes.c_uint64), ("netns_ino", ctypes.c_uint64),
        ("nr_jited_ksyms", ctypes.c_uint32), ("nr_jited_func_lens", ctypes.c_uint32),
        ("jited_ksyms", ctypes.c_uint64), ("jited_func_lens", ctypes.c_uint64),
        ("btf_id", ctypes.c_uint32), ("func_info_rec_size", ctypes.c_uint32), ("func_info", ctypes.c_uint64),
        ("nr_func_info", ctypes.c_uint32), ("nr_line_info", ctypes.c_uint32),
        ("line_info", ctypes.c_uint64), ("jited_line_info", ctypes.c_uint64),
        ("nr_jited_line_info", ctypes.c_uint32), ("line_info_rec_size", ctypes.c_uint32), ("jited_line_info_rec_size", ctypes.c_uint32),
        ("nr_prog_tags", ctypes.c_uint32), ("prog_tags", ctypes.c_uint64),
        ("run_time_ns", ctypes.c_uint64), ("run_cnt", ctypes.c_uint64), ("recursion_misses", ctypes.c_uint64),
        ("verified_insns", ctypes.c_uint32), ("pad", ctypes.c_uint32),
    ]


@dataclass
class Program:
    name: str
    kind: int  # enum bpf_prog_type
    instructions: int  # after the verifier's rewriting
    verified: int
    nanoseconds: int  # while kernel.bpf_stats_enabled is on
    runs: int
    missed: int


def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    result = LIBC.syscall(NUMBER, command, buffer, 128)
    if result < 0:
        fault = ctypes.get_errno()
        raise OSError(fault, f"bpf({command}): {os.strerror(fault)}")
    return result


def program(identity):
    """None if it is gone."""
    try:
        handle = bpf(PROG_GET_FD_BY_ID, struct.pack("I", identity))
    except OSError as fault:
        if fault.errno == errno.ENOENT:
            return None
        raise
    try:
        info = Info()
        bpf(OBJ_GET_INFO_BY_FD, struct.pack("IIQ", handle, ctypes.sizeof(info), ctypes.addressof(info)))
    finally:
        os.close(handle)
    return Program(info.name.decode(), info.type, info.xlated_len // 8, info.verified_insns, info.run_time_ns, info.run_cnt, info.recursion_misses)


def loaded():
    """All programs of the kernel, whoever holds them."""
    buffer, found = ctypes.create_string_buffer(struct.pack("II", 0, 0), 128), []
    while LIBC.syscall(NUMBER, PROG_GET_NEXT_ID, buffer, 128) == 0:
        identity = struct.unpack_from("II", buffer)[1]
        one = program(identity)
        found += [one] if one else []
        struct.pack_into("II", buffer, 0, identity, 0)
    if ctypes.get_errno() != errno.ENOENT:
        raise OSError(ctypes.get_errno(), "BPF_PROG_GET_NEXT_ID")
    return found


def of_process(pid):
    """{name: Program} of all that the process holds open. Names are cut to 15 characters."""
    found = {}
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            match = re.search(r"^prog_id:\s+(\d+)$", file.read_text(), re.M)
        except FileNotFoundError:
            continue
        one = match and program(int(match[1]))
        if one:
            found[one.name] = one
    return found
