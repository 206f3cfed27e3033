# SPDX-License-Identifier: Apache-2.0
"""Golden logs whose frames are hashed with a secret key, and records that imitate frames."""

import struct

from golden_base import LOG_ID, add, damaged_at, golden, with_stream
from xxh3 import xxh3_64

BEFORE, OWN, NEXT, FRESH = (bytes([n] * 32) for n in (1, 2, 3, 4))
KEYED = {"features": (0, 1, 0), "keys": (BEFORE, OWN, NEXT)}


def forged(lsn, key=None):
    """The header of a frame that knew all to be durable: right in every field, but for the key."""
    key = xxh3_64(LOG_ID) if key is None else key
    head = struct.pack("<4sBBHQQQQQQQII", b"PWLF", 3, 0, 0, lsn, 1 << 40, lsn, 0, 0, 0, 0, 0, 0)
    return head + struct.pack("<Q", xxh3_64(head, key))


def imitate(w, first, end, key=None):
    """Such headers at every place between, as records of a recycled segment leave them."""
    for lsn in range(first, end - 80, 80):
        w.poke(lsn, forged(lsn, key))


@golden("A keyed log of three segments, with records that are longer than 240 bytes.")
def keyed():
    w = with_stream(**KEYED)
    add(w, b"one" * 1000, b"two")
    w.seal()
    add(w, b"three" * 50)
    w.seal()
    add(w, b"four")
    w.close()
    return w


@golden("A log of an earlier version: its second segment names a key, its third has it.")
def keyed_from_the_third_segment():
    w = with_stream(features=(0, 1, 0))
    add(w, b"one")
    w.turn_key(OWN)
    w.seal()
    add(w, b"two")
    w.turn_key(NEXT)
    w.seal()
    add(w, b"three")
    w.close()
    return w


@golden("The key was turned with the second segment.")
def keyed_anew():
    w = with_stream(**KEYED)
    add(w, b"one")
    w.turn_key(FRESH)
    w.seal()
    add(w, b"two" * 100)
    w.seal()
    add(w, b"three")
    w.close()
    return w


@golden("What lies beyond a keyed log's end imitates frames of every place, without the key.")
def keyed_end_imitated():
    w = with_stream(**KEYED)
    add(w, b"one")
    w.close()
    imitate(w, w.s.pos, 300_000)
    imitate(w, 300_000, 400_000, BEFORE * 6)
    return w


@golden("The same in the place of a torn tail.", "torn")
def keyed_tail_imitated():
    w = with_stream(**KEYED)
    add(w, b"one")
    imitate(w, w.s.pos, 300_000)
    return w, {"at_lsn": w.s.frames[-1].end}


@golden("Beyond the seal of a keyed log's newest segment lies a file that imitates a begun one.")
def keyed_next_imitated():
    w = with_stream(**KEYED)
    add(w, b"one")
    w.seal(begin=False)
    w.image(1)
    imitate(w, w.size + 8192, w.size + 200_000)
    return w


@golden("A keyed log: bytes that were durable are gone, and a frame beyond them tells.", "damaged")
def keyed_damaged():
    w = with_stream(**KEYED)
    add(w, b"one")
    shown, p = w.expected(), w.s.frames[-1].end
    lost = add(w, b"two")
    witness = add(w, b"three")
    w.flip(lost.lsn + 20)
    return damaged_at(w, p, shown, witness.lsn)


@golden(
    "The header that brought the key is gone: the key is known from the one before.",
    "damaged",
)
def keyed_header_gone():
    w = with_stream(**KEYED)
    add(w, b"one")
    shown = w.expected()
    w.turn_key(FRESH)
    w.seal()
    add(w, b"two")
    w.zero(w.size, w.size + 8192)
    return damaged_at(w, w.size, shown, w.s.frames[-1].lsn)
