# SPDX-License-Identifier: Apache-2.0
"""A golden log that names what its records were read from (docs/format.md, section 6)."""

from golden_base import golden, writer
from pawl_writer import rec


@golden(
    "What records were read from: lines, numbers, given marks, partitions in turn, passed over."
)
def origins():
    w = writer()
    t = w.txn()
    t.stream("s", 2)
    t.producer("p")
    t.commit()
    t = w.txn()
    t.records("s", 0, [rec(b"one"), rec(b"three"), rec(b"five")])
    t.records("s", 1, [rec(b"two"), rec(b"four")])
    t.sequences("p", 1, epoch=1, cookie=b"at 24")
    thing = b"file 1:2 a.log"
    t.origin("p", "s", thing, 0, 24, [(0, 1), (1, 1)], records=5, kind=1, step=1, flags=1)
    t.origin("p", "s", thing, 24, 4120, flags=4, note=b"a hole")
    t.commit()
    t = w.txn()
    t.records("s", 1, [rec(b"m7"), rec(b"m8"), rec(b"x" * 300)])
    t.sequences("p", 1)
    t.origin(None, "s", b"tcp client 9", 7, 9, [(1, 2)], kind=2, unit=1, flags=9)
    longer = b"file 1:3 a.log"
    t.origin("p", "s", longer, 4120, 2**40, [(1, 1)], marks=[2**33 + 1], flags=2, note=thing)
    t.commit()
    t = w.txn()
    t.records("s", 0, [rec(b"late"), rec(b"early")])
    t.origin("p", "s", b"file 1:4 b.log", 0, 900, [(0, 2)], marks=[811, 3], flags=1)
    t.commit()
    w.close()
    return w
