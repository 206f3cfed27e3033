#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a set of small logs, good ones and bad ones, and what a reader must make of each.

    make_golden.py DIR        all of them
    make_golden.py DIR NAME…  some of them

For each log there is DIR/NAME/, the log's directory, and DIR/NAME.json:

    name, description
    expected   "ok"       the chain ends cleanly
               "torn"     bytes lie behind the end that nothing vouches for; reading is as for "ok", and a reader that
                          doesn't tell the two apart may take either
               "damaged"  bytes that were durable are gone
               "foreign"  segments of different logs: refused
               "version"  made by a later version, and not to be read without knowing it: refused
    writable   false: to be read, and not to be written to by a version that knows no more than docs/format.md
    at_lsn     where the chain ends (torn) or the damage begins (damaged)
    witness    damaged: the lowest LSN of a witness, if one is what tells
    bad_header_copies  [[segment, block]] that `verify` must report though the log is read without them
    streams    {stream: {partition: [value in base64]}}: what can be read, for a damaged log up to the damage
    first      {stream: {partition: offset}} of the first of these values; later ones follow without a gap unless `offsets`
    offsets    {stream: {partition: [offset]}} where there are gaps
    tables     next offsets, positions and such at the end, as `pawl_oracle.py tables` prints them (for "ok" and "torn")

The bytes are the same in every run.
"""

import json
import os
import sys

import golden_counts  # noqa: F401
import golden_features  # noqa: F401
import golden_keys  # noqa: F401
import golden_origins  # noqa: F401
import golden_recycled  # noqa: F401
import golden_tables  # noqa: F401
import pawl_writer as pw
from golden_base import GOLDEN, OTHER_ID, add, damaged_at, encode, golden, with_stream, writer
from pawl_writer import rec


def offsets_of(w):
    found = {}
    for name, partition, offset, _, lsns in w.s.shown:
        if all(lsn // w.size in w.images for lsn in lsns):
            found.setdefault(name.decode(), {}).setdefault(str(partition), []).append(offset)
    return found


# ---- Good logs -------------------------------------------------------------------------------------------------------


@golden("An empty log: CHECKPOINT, OPEN, CLOSE.")
def empty():
    w = writer()
    w.close()
    return w


@golden("The shortest log: a CHECKPOINT and nothing else.")
def only_checkpoint():
    return writer(opened=False)


@golden("A segment that was begun, its CHECKPOINT never written.")
def only_header():
    w = writer(opened=False)
    w.zero(pw.HEADER_BLOCKS, pw.HEADER_BLOCKS + 4096)
    return w


@golden("One stream with one record.")
def one_record():
    w = writer()
    t = w.txn()
    t.stream("s", 1)
    t.records("s", 0, [rec(b"hello")])
    t.commit()
    w.close()
    return w


@golden(
    "Two partitions: keys, headers, timestamps (negative ones too), empty values, binary values, a name that is not ASCII."
)
def two_partitions():
    w = writer()
    t = w.txn()
    t.stream("orders", 2)
    t.stream("größe/Δ", 1)
    t.records(
        "orders",
        0,
        [
            rec(b"plain"),
            rec(b"", key=b"empty value"),
            rec(
                bytes(range(256)),
                key=b"\x00\xff",
                headers=[(b"h1", b"v1"), (b"", b""), (b"h1", b"again")],
                timestamp=-1,
            ),
        ],
    )
    t.records("orders", 1, [rec(b"other partition", timestamp=2**63 - 1)])
    t.records("größe/Δ", 0, [rec("ß".encode() * 100, timestamp=-(2**63))])
    t.commit()
    t = w.txn()
    # Two runs of one partition in one transaction, another's between them.
    t.records("orders", 1, [rec(b"a"), rec(b"b")])
    t.records("orders", 0, [rec(b"c")])
    t.records("orders", 1, [rec(b"line\nbreak", headers=[(b"n", b"x" * 300)])])
    t.commit()
    w.close()
    return w


@golden(
    "Positions of two processors, producers with sequences and cookies, a producer's takeover, all over a segment's end."
)
def positions_and_producers():
    w = writer()
    t = w.txn()
    t.stream("in", 2)
    t.stream("out", 1)
    t.producer("p1")
    t.producer("p2")
    t.processor("count")
    t.processor("copy")
    t.commit()
    t = w.txn()
    t.records("in", 1, [rec(b"i%d" % i) for i in range(5)])
    t.sequences("p1", 5, epoch=1, cookie=b"at line 5")
    t.sequences("p2", 0, epoch=3)
    t.commit()
    t = w.txn()
    t.position("count", "in", 1, 3, first=1)
    t.position("copy", "in", 1, 2)
    t.records("out", 0, [rec(b"sum")])
    t.commit()
    t = w.txn()
    # Sequences without records: the answer has stream 0.
    t.sequences("p2", 2, cookie=bytes(range(32)))
    t.position("count", "in", 1, 5)
    t.commit()
    w.seal()
    t = w.txn()
    t.sequences("p1", 0, epoch=2, cookie=b"at line 5")
    t.commit()
    t = w.txn()
    t.records("in", 0, [rec(b"six")])
    t.sequences("p1", 1, cookie=b"at line 6")
    t.position("copy", "in", 1, 5)
    t.commit()
    w.seal()
    w.close()
    return w


@golden(
    "Settings, sinks that are decided and finished, a processor that is forgotten, all of it seen by the next checkpoint."
)
def tables():
    w = writer(cap=1 << 30, settings=(5, 6, 0))
    t = w.txn()
    t.stream("s", 3)
    t.processor("a")
    t.processor("b")
    t.settings(1 << 20, 86_400_000)
    t.drop_consumed(True)
    t.sink("a", "file-1")
    t.sink("b", "file-2")
    t.commit()
    add(w, b"x", partition=2)
    t = w.txn()
    t.position("a", "s", 2, 1)
    t.position("b", "s", 2, 1)
    t.sink("b", "file-2", finished=True)
    t.commit()
    w.seal()
    t = w.txn()
    t.forget("b")
    t.drop_consumed(False)
    t.commit()
    w.seal()
    w.close()
    return w


@golden(
    "A stream that is deleted and made anew, one that was the last and stays deleted, and a disk cap that is changed."
)
def deleted():
    w = writer(cap=1 << 30)
    t = w.txn()
    t.stream("s", 2)
    t.stream("gone", 3)
    t.processor("a")
    t.producer("p")
    t.commit()
    t = w.txn()
    t.records("gone", 1, [rec(b"old")])
    t.records("s", 0, [rec(b"kept")])
    t.sequences("p", 1)
    t.position("a", "gone", 1, 1)
    t.commit()
    w.seal()
    t = w.txn()
    t.delete("gone")
    t.disk_cap(1 << 29)
    t.commit()
    w.seal()
    t = w.txn()
    t.stream("gone", 1)
    t.commit()
    t = w.txn()
    t.records("gone", 0, [rec(b"new")])
    t.commit()
    t = w.txn()
    t.stream("last", 1)
    t.commit()
    t = w.txn()
    t.delete("last")
    t.commit()
    w.seal()
    w.close()
    return w


@golden(
    "A transaction with two spilled parts and an own one, and a spilled part that no commit refers to."
)
def spilled():
    w = with_stream()
    t = w.txn()
    t.stream("t", 2)
    t.commit()
    refs = w.spill([("s", 0, [rec(b"early 0"), rec(b"early 1")]), ("t", 1, [rec(b"t early")])])
    w.spill([("s", 0, [rec(b"abandoned")])])
    add(w, b"between")
    more = w.spill([("s", 0, [rec(b"early 2", key=b"k")])])
    t = w.txn()
    t.spilled(refs[0])
    t.spilled(more[0])
    t.records("s", 0, [rec(b"late")])
    t.spilled(refs[1])
    t.commit()
    w.close()
    return w


@golden(
    "A commit that refers to a SPILL of an earlier segment; later checkpoints say so in C_SPANS."
)
def spilled_across_segments():
    w = with_stream()
    refs = w.spill([("s", 0, [rec(b"in segment 0")])])
    w.seal()
    add(w, b"first in segment 1")
    t = w.txn()
    t.spilled(refs[0])
    t.commit()
    w.seal()
    add(w, b"in segment 2")
    w.seal()
    w.close()
    return w


@golden(
    "Retention took segments 0 and 1, and with them a spilled part and its commit; partition 0 begins at a later offset."
)
def retained():
    w = with_stream()
    refs = w.spill([("s", 0, [rec(b"deleted")])])
    w.seal()
    t = w.txn()
    t.spilled(refs[0])
    t.commit()
    w.seal()
    add(w, b"kept 1", b"kept 2")
    w.seal()
    w.drop_segment(0)
    w.drop_segment(1)
    add(w, b"kept 3")
    w.seal()
    add(w, b"kept 4")
    w.close()
    return w


@golden("Five segments filled with records, each with an INDEX, and several frames in a group.")
def segments():
    w = with_stream()
    for i in range(40):
        with w.group():
            add(w, *(b"%06d.%d " % (i, k) * 300 for k in range(10)))
            add(w, b"%d in the same group" % i)
        if i % 9 == 8:
            w.seal()
    w.close()
    return w


@golden("A frame that covers many blocks, and a value that contains a frame of this log.")
def large_and_nested():
    w = with_stream()
    frame = add(w, bytes(i * 7 % 256 for i in range(300_001)))
    # The copy is a good frame at its own LSN only, and so never one here.
    add(w, w.peek(frame.lsn - 4096, 4096 * 3))
    w.close()
    return w


@golden(
    "A crash tore the second frame of a group, and the log was opened again: void bytes before the OPEN of epoch 2."
)
def reopened_torn_group():
    w = with_stream()
    with w.group():
        add(w, b"whole")
        mark = w.mark()
        torn = add(w, b"never acknowledged " * 20)
    w.back_to(mark, keep=torn.lsn + 200)
    w.reopen()
    add(w, b"after the crash")
    w.close()
    return w


@golden(
    "Of three groups the first was torn, the others reached the disk. Epoch 2 begins in their midst; its frames only count."
)
def stale_epoch():
    w = with_stream()
    add(w, b"kept")
    mark = w.mark()
    w.auto_sync = False
    torn = add(w, b"torn")
    add(w, b"stale 1")
    add(w, b"stale 2")
    w.back_to(mark)
    w.auto_sync = True
    w.zero(torn.lsn, torn.lsn + 512)
    w.reopen()
    w.close()
    return w


@golden(
    "As stale-epoch, without a CLOSE: stale frames of epoch 1 lie right behind the end and must not come back.",
    "torn",
)
def stale_epoch_open():
    w = with_stream()
    add(w, b"kept")
    mark = w.mark()
    w.auto_sync = False
    add(w, b"torn")
    add(w, b"stale 1")
    add(w, b"stale 2")
    w.back_to(mark)
    w.auto_sync = True
    w.reopen()
    end = add(w, b"of epoch 2").end
    return w, {"at_lsn": end}


@golden("A crash near the segment's end: epoch 2 begins with the SEAL, behind void bytes.")
def reopened_with_seal():
    w = with_stream()
    with w.group():
        add(w, b"whole")
        mark = w.mark()
        torn = add(w, b"never acknowledged " * 20)
    w.back_to(mark, keep=torn.lsn + 200)
    w.reopen_full()
    add(w, b"in segment 1")
    w.close()
    return w


@golden("Closed and opened again twice.")
def reopened():
    w = with_stream()
    for i in range(3):
        add(w, b"epoch %d" % (i + 1))
        w.witness()
        w.close()
        if i < 2:
            w.reopen()
    return w


@golden("The newest segment is sealed, and a prepared one of zeros is behind it.")
def prepared_zeros():
    w = with_stream()
    add(w, b"sealed")
    w.seal(begin=False)
    w.image(1)
    return w


@golden("The newest segment is sealed, and nothing is behind it.")
def sealed_alone():
    w = with_stream()
    add(w, b"sealed")
    w.seal(begin=False)
    return w


@golden("Sealed by epoch 1; epoch 2 began the next segment: its CHECKPOINT comes before its OPEN.")
def epoch_begins_with_segment():
    w = with_stream()
    add(w, b"sealed")
    w.seal(begin=False)
    w.reopen()
    add(w, b"epoch 2")
    w.close()
    return w


@golden("A prepared segment that is an older segment under a new name, behind one that is in use.")
def prepared_recycled():
    w = with_stream()
    add(w, b"in segment 0")
    w.seal()
    add(w, b"in segment 1")
    w.images[2] = bytearray(w.images[0])
    w.close()
    return w


@golden(
    "The newest segment is sealed, and behind it is an older segment under a new name: no witness in it."
)
def sealed_then_recycled():
    w = with_stream()
    add(w, b"in segment 0")
    w.seal()
    add(w, b"in segment 1")
    w.seal(begin=False)
    w.images[2] = bytearray(w.images[0])
    return w


@golden("The newest segment was begun over an older segment's bytes, which lie behind its end.")
def begun_over_recycled():
    w = with_stream()
    for i in range(20):
        add(w, b"old %d" % i)
    w.images[1] = bytearray(w.images[0])
    w.seal()
    add(w, b"new")
    w.close()
    return w


@golden(
    "Files that are no segments: a lock, a segment in preparation, bytes that repair took out, others."
)
def other_names():
    w = with_stream()
    add(w, b"x")
    w.close()
    w.other_files = {
        "lock": b"12345\n",
        "%016x.tmp" % 1: b"half",
        "lost-%016x.bin" % 4096: b"\1\2",
        "000000000000000A.seg": b"upper case",
        "1.seg": b"short",
        "notes.txt": b"hello",
    }
    return w


@golden("Block 0 of the header is damaged, block 1 counts.")
def header_block_0_bad():
    w = with_stream()
    add(w, b"x")
    w.close()
    w.flip(50)
    return w, {"bad_header_copies": [[0, 0]]}


@golden("Block 1 of the second segment's header is damaged.")
def header_block_1_bad():
    w = with_stream()
    add(w, b"x")
    w.seal()
    add(w, b"y")
    w.close()
    w.flip(w.size + 4096 + 2000, 0x80)
    return w, {"bad_header_copies": [[1, 1]]}


def begun_with_one_copy(block):
    w = with_stream()
    add(w, b"x")
    w.seal()
    w.zero(w.size + 4096 * block + 3584, w.size + 4096 * (block + 1))
    return w


@golden(
    "The power went while the second segment was being begun: of block 0 of its header the last sector is not there."
)
def torn_beginning_block_0():
    return begun_with_one_copy(0)


@golden(
    "The power went while the second segment was being begun: of block 1 of its header the last sector is not there."
)
def torn_beginning_block_1():
    return begun_with_one_copy(1)


@golden(
    "A LOST frame in the place of two transactions: offsets, positions and sequences jump, a spilled part is gone with it."
)
def lost():
    w = with_stream()
    t = w.txn()
    t.processor("copy")
    t.producer("p")
    t.commit()
    t = w.txn()
    t.records("s", 0, [rec(b"0"), rec(b"1")])
    t.position("copy", "s", 0, 1)
    t.sequences("p", 2, epoch=1)
    t.commit()
    first = add(w, b"2 (lost)")
    t = w.txn()
    t.records("s", 0, [rec(b"3 (lost)")])
    t.position("copy", "s", 0, 3)
    t.sequences("p", 4)
    t.commit()
    t = w.txn()
    t.records("s", 0, [rec(b"4")])
    t.position("copy", "s", 0, 4)
    t.sequences("p", 1)
    end = t.commit()
    add(w, b"5")
    w.lose(first.lsn, end.lsn)
    w.seal()
    add(w, b"6")
    w.close()
    return w, {"offsets": offsets_of(w)}


@golden("A LOST frame up to the end of the first segment stands for its SEAL.")
def lost_with_seal():
    w = with_stream()
    add(w, b"0")
    first = add(w, b"1 (lost)")
    w.seal()
    add(w, b"2")
    w.close()
    w.lose(first.lsn, w.size)
    return w, {"offsets": offsets_of(w)}


@golden("A LOST frame at the end of the newest segment, behind which epoch 2 goes on.")
def lost_at_end():
    w = with_stream()
    add(w, b"0")
    mark = w.mark()
    first = add(w, b"1 (lost)")
    w.back_to(mark)
    w.lose(first.lsn, first.lsn + 3 * 4096)
    w.reopen()
    add(w, b"1")
    w.close()
    return w


# ---- Torn tails ------------------------------------------------------------------------------------------------------


@golden("The last group is cut off within a frame; nothing vouches for it.", "torn")
def torn_tail():
    w = with_stream()
    p = add(w, b"kept").end
    mark = w.mark()
    torn = add(w, b"torn " * 2000)
    w.back_to(mark, keep=torn.lsn + 4096)
    return w, {"at_lsn": p}


@golden(
    "The last group is without its first block, and a whole one behind it knew nothing of it being durable.",
    "torn",
)
def torn_tail_hole():
    w = with_stream()
    p = add(w, b"kept").end
    mark = w.mark()
    w.auto_sync = False
    torn = add(w, b"torn")
    add(w, b"whole, and never acknowledged")
    w.back_to(mark)
    w.zero(torn.lsn, torn.end)
    return w, {"at_lsn": p}


@golden("Garbage behind the end, at the very next byte.", "torn")
def torn_garbage():
    w = with_stream()
    p = add(w, b"kept").end
    w.poke(p, bytes(i * 31 % 251 + 1 for i in range(20_000)))
    return w, {"at_lsn": p}


# ---- Damage ----------------------------------------------------------------------------------------------------------


@golden("A byte of a transaction's body has changed; a later frame knew it durable.", "damaged")
def damaged_body():
    w = with_stream()
    p, shown = add(w, b"before").end, w.expected()
    bad = add(w, b"changed")
    behind = add(w, b"behind")
    w.close()
    w.flip(bad.end - 8, 0x10)
    return damaged_at(w, p, shown, behind.lsn)


@golden("A whole block of zeros where a transaction was; only the CLOSE vouches for it.", "damaged")
def damaged_zeros():
    w = with_stream()
    p, shown = add(w, b"before").end, w.expected()
    bad = add(w, b"zeroed")
    w.close()
    close = w.s.frames[-1]
    w.zero(bad.lsn, bad.lsn + 4096)
    return damaged_at(w, p, shown, close.lsn)


@golden("A byte between two groups is not zero.", "damaged")
def damaged_padding():
    w = with_stream()
    p, shown = add(w, b"before").end, w.expected()
    behind = add(w, b"behind")
    after = add(w, b"witness")
    w.close()
    w.flip(p + 16)
    return damaged_at(w, p, shown, _first_witness(w, p, behind, after))


def _first_witness(w, p, *frames):
    """The first of these frames that was written when the byte at `p` was durable."""
    for frame in frames:
        if int.from_bytes(w.peek(frame.lsn + 24, 8), "little") > p:
            return frame.lsn
    return None


@golden(
    "A damaged transaction, and the only witness is the second frame of a group whose first is damaged too.",
    "damaged",
)
def damaged_witness_mid_group():
    w = with_stream()
    p, shown = add(w, b"before").end, w.expected()
    bad = add(w, b"changed")
    with w.group():
        first = add(w, b"also changed")
        second = add(w, b"witness")
    w.flip(bad.lsn + 100)
    w.flip(first.lsn + 20)
    return damaged_at(w, p, shown, second.lsn)


@golden("Damage in a segment that is not the newest: its chain does not reach the SEAL.", "damaged")
def damaged_old_segment():
    w = with_stream()
    p, shown = add(w, b"before").end, w.expected()
    bad = add(w, b"changed")
    w.seal()
    add(w, b"in segment 1")
    w.close()
    w.flip(bad.lsn + 73)
    return damaged_at(w, p, shown)


@golden("The CHECKPOINT of the newest segment is damaged.", "damaged")
def damaged_checkpoint():
    w = with_stream()
    add(w, b"in segment 0")
    shown = w.expected()
    w.seal()
    opened = w.s.frames[-1]
    behind = add(w, b"in segment 1")
    w.close()
    w.flip(opened.lsn + 30)
    return damaged_at(w, opened.lsn, shown, _first_witness(w, opened.lsn, behind))


@golden(
    "The newest segment's two header blocks are damaged: the one before is sealed, and a witness is behind it.",
    "damaged",
)
def damaged_newest_header():
    w = with_stream()
    add(w, b"in segment 0")
    shown = w.expected()
    w.seal()
    behind = add(w, b"in segment 1")
    w.close()
    w.flip(w.size + 20)
    w.flip(w.size + 4096 + 70)
    return damaged_at(w, w.size, shown, _first_witness(w, w.size, behind))


@golden("A segment between two others is missing.", "damaged")
def damaged_gap():
    w = with_stream()
    add(w, b"in segment 0")
    shown = w.expected()
    w.seal()
    add(w, b"in segment 1")
    w.seal()
    add(w, b"in segment 2")
    w.close()
    del w.images[1]
    return damaged_at(w, w.size, shown)


# ---- Logs that are refused -------------------------------------------------------------------------------------------


@golden("Both header blocks are of version 2.", "version")
def version_2():
    w = with_stream(version=2)
    w.close()
    return w


@golden("The second segment is of another log.", "foreign")
def foreign():
    w = with_stream()
    add(w, b"x")
    w.seal()
    w.close()
    other = with_stream(log_id=OTHER_ID)
    other.seal()
    other.close()
    w.images[1] = other.images[1]
    return w


# ---- Writing them ----------------------------------------------------------------------------------------------------


def make(item, directory):
    """Write one log and its expectation; gives the expectation."""
    made = item.make()
    w, more = made if isinstance(made, tuple) else (made, {})
    expectation = {"name": item.name, "description": item.description, "expected": item.expected}
    expectation.update(
        {"streams": {}} if item.expected in ("foreign", "version") else encode(w.expected())
    )
    if item.expected in ("ok", "torn"):
        expectation["tables"] = w.tables()
    expectation.update(more)
    path = os.path.join(directory, item.name)
    os.makedirs(path, exist_ok=True)
    for name in os.listdir(path):
        # What an earlier run left must not become part of this log.
        if name.endswith(".seg"):
            os.unlink(os.path.join(path, name))
    w.save(path)
    with open(path + ".json", "w", encoding="utf-8") as out:
        json.dump(expectation, out, indent=1, sort_keys=True, ensure_ascii=False)
        out.write("\n")
    return expectation


def main(argv):
    if len(argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    unknown = set(argv[2:]) - {item.name for item in GOLDEN}
    if unknown:
        print("make_golden: no such log: " + " ".join(sorted(unknown)), file=sys.stderr)
        return 2
    for item in GOLDEN:
        if len(argv) == 2 or item.name in argv[2:]:
            make(item, argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
