"""Which shared libraries a program of the guest asks for (ELF-64, little endian)."""

import struct
from pathlib import Path

_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB = 0, 1, 5


def needed(path: Path) -> list[str]:
    """The names in the DT_NEEDED entries of `path`; empty for static programs and for files that are not ELF."""
    data = path.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        return []
    offset, size, count = *struct.unpack_from("<Q", data, 32), *struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", data, offset + index * size) for index in range(count)]
    dynamic = next((header for header in headers if header[0] == _PT_DYNAMIC), None)
    if dynamic is None:
        return []
    names: list[int] = []
    strings = 0
    for at in range(dynamic[2], dynamic[2] + dynamic[5], 16):
        tag, value = struct.unpack_from("<QQ", data, at)
        if tag == _DT_NULL:
            break
        if tag == _DT_NEEDED:
            names.append(value)
        elif tag == _DT_STRTAB:
            strings = value
    for kind, _, file_offset, address, _, length, _, _ in headers:
        if kind == _PT_LOAD and address <= strings < address + length:
            strings += file_offset - address
            break
    return [data[strings + name : data.index(b"\0", strings + name)].decode() for name in names]
