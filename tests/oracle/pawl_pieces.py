# SPDX-License-Identifier: Apache-2.0
"""The pieces that the writer puts together: records, headers, numbers (docs/format.md)."""

import struct
from collections import namedtuple

from xxh3 import xxh3_64

BLOCK = 4096
HEADER_BLOCKS = 2 * BLOCK
SEAL_ROOM = 64 * 1024  # kept free at the end of a segment for the SEAL and its INDEX

COMMIT, SPILL, WITNESS, OPEN, CLOSE, CHECKPOINT, SEAL, LOST = 1, 2, 3, 4, 5, 6, 7, 8
R_ORIGINS = 0xC008
R_RECORDS, R_SPILLED, R_POSITIONS, R_PRODUCERS, R_STATE, R_CATALOG, R_SINKS, R_INDEX = (
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    32,
)
R_C_STREAMS = 64

Rec = namedtuple("Rec", "value key headers timestamp")
RunBytes = namedtuple("RunBytes", "type stream partition count base data flags", defaults=(0,))
SpillRef = namedtuple("SpillRef", "lsn hash number stream partition records")
Written = namedtuple("Written", "lsn end kind epoch hash link counts")


def rec(value, key=b"", headers=(), timestamp=0):
    return Rec(value, key, tuple(headers), timestamp)


def padded(data, n=8):
    return data + bytes(-len(data) % n)


def varint(n):
    """Seven bits a byte, the lowest first."""
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def name_bytes(name):
    return name if isinstance(name, bytes) else name.encode()


def record_bytes(record):
    headers = b"".join(
        struct.pack("<HH", len(name), len(value)) + name + value for name, value in record.headers
    )
    return (
        struct.pack("<IHHq", len(record.value), len(record.key), len(headers), record.timestamp)
        + record.key
        + headers
        + record.value
    )


def secret_of(key):
    """The 192 bytes that frames under a key are hashed with."""
    return b"".join(struct.pack("<Q", xxh3_64(key, seed=word)) for word in range(24))


def segment_header(
    log_id,
    size,
    index,
    epoch,
    link,
    seal,
    time,
    cap=0,
    version=1,
    features=(0, 0, 0),
    carried=b"",
    ids=b"",
):
    head = struct.pack(
        "<8sII16s10Q144s",
        b"PAWL\r\n\x1a\n",
        version,
        BLOCK,
        log_id,
        size,
        index,
        epoch,
        link,
        seal,
        time,
        cap,
        *features,
        carried
    )
    head += ids
    head += bytes(BLOCK - 8 - len(head))
    return head + struct.pack("<Q", xxh3_64(head))
