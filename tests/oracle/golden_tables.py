# SPDX-License-Identifier: Apache-2.0
"""Logs with tables of keyed state, whole and damaged (docs/format.md, sections 5, 6 and 9)."""

import struct

import pawl_state as st
from golden_base import add, golden, with_stream
from pawl_pieces import R_STATE
from pawl_state_writer import entry


def with_table(partitions=2, counting=True, **kw):
    """A processor "count" that reads the stream "s", with the table "t"."""
    w = with_stream(features=(0, 1, 0) if counting else (0, 0, 0), **kw)
    t = w.txn()
    t.processor("count")
    t.table("t", "count", partitions, version=3, ttl=86_400_000)
    t.commit()
    return w


def put(w, partition, *changes, table="t"):
    t = w.txn()
    t.state(table, partition, list(changes))
    return t.commit()


def closed(w, **more):
    w.close()
    return w, {"tables": w.tables(), **more}


@golden("A table, changes of its state, and the segments after it: the tables feature is set there.")
def tables_of_state():
    w = with_table()
    put(w, 0, (b"a", b"1"), (b"b", b"2"))
    put(w, 1, (b"c" * 8192, b"x" * 70000, 1 << 40))
    put(w, 0, (b"a", None), (b"b", b"22"), (b"b\0", b""), (b"never", None))
    w.seal()
    put(w, 1, (b"c" * 8192, None))
    t = w.txn()
    t.table("other", "count", 1)
    t.state("other", 0, [(b"k", b"v")])
    t.table_version("t", 4)
    t.commit()
    w.seal()
    w.seal()
    add(w, b"x")
    return closed(w)


@golden("A table takes the place and the name of another one, with the last of its pairs.")
def table_replaced():
    w = with_table()
    put(w, 0, (b"a", b"1"))
    t = w.txn()
    t.table("fresh", "count", 3, version=4)
    t.state("fresh", 2, [(b"a", b"new")])
    t.commit()
    t = w.txn()
    t.replace_table("fresh", "t")
    t.state("t", 0, [(b"b", b"new")])
    t.commit()
    w.seal()
    put(w, 1, (b"c", b"new"))
    return closed(w)


@golden("Runs are added and removed, a flush finds nothing to write; a table is deleted and made anew.")
def tables_with_runs():
    w = with_table()
    frames = [put(w, 0, (b"a", b"%d" % i)) for i in range(4)]
    t = w.txn()
    one = t.run_added(frames[0].lsn)
    two = t.run_added(frames[2].lsn, hash=0x1234567890)
    t.commit()
    w.seal()
    t = w.txn()
    t.run_removed(one)
    t.run_removed(two)
    t.run_added(frames[2].lsn, level=1, hash=1 << 63)
    t.commit()
    t = w.txn()
    t.drop_table("t")
    t.commit()
    t = w.txn()
    t.flushed(frames[3].lsn)
    t.table("t", "count", 3)
    t.state("t", 2, [(b"a", b"new")])
    t.commit()
    w.seal()
    w.reopen()
    return closed(w)


@golden("A commit names a run's hash; a version that doesn't know it wrote the checkpoint.")
def run_hash_left_out():
    w = with_table()
    frames = [put(w, 0, (b"a", b"%d" % i)) for i in range(2)]
    t = w.txn()
    t.run_added(frames[0].lsn, hash=77)
    t.run_added(frames[1].lsn)
    t.commit()
    w.s.tables.hashes.clear()
    w.seal()
    w.s.tables.hashes[1] = 77
    w.seal()
    return closed(w)


@golden("A checkpoint has the hash of a run that isn't there.", "invalid")
def run_hash_of_none():
    w = with_table()
    changed = put(w, 0, (b"a", b"1"))
    t = w.txn()
    t.run_added(changed.lsn, hash=77)
    t.commit()
    w.s.tables.hashes[2] = 78
    w.seal()
    w.close()
    return w


@golden("A table in a log whose segments don't count: the next one does.")
def tables_in_an_old_log():
    w = with_table(counting=False)
    put(w, 0, (b"a", b"1"))
    w.features = (0, 1, 0)
    w.seal()
    put(w, 0, (b"a", b"2"))
    return closed(w)


@golden("Changes of state are lost, and a later commit of the partition shows it.")
def lost_state():
    w = with_table()
    put(w, 0, (b"a", b"1"))
    gone = put(w, 0, (b"a", b"2"))
    kept = put(w, 0, (b"a", b"3"))
    put(w, 1, (b"b", b"1"))
    w.close()
    w.lose(gone.lsn, kept.lsn)
    part = w.s.tables.rows[1].part(0)
    part.missing = kept.lsn
    return w, {"tables": w.tables()}


@golden("Changes of state are lost, but a file has them.")
def lost_state_flushed():
    w = with_table()
    gone = put(w, 0, (b"a", b"1"))
    kept = put(w, 0, (b"a", b"2"))
    t = w.txn()
    t.run_added(kept.lsn)
    t.commit()
    w.close()
    w.lose(gone.lsn, kept.lsn)
    return w, {"tables": w.tables()}


@golden("A commit without state is lost; the checkpoint shows that no state was.")
def lost_nothing_of_state():
    w = with_table()
    put(w, 0, (b"a", b"1"))
    gone = add(w, b"x")
    kept = add(w, b"y")
    w.seal()
    w.close()
    w.lose(gone.lsn, kept.lsn)
    return w, {"tables": w.tables()}


@golden("The creation of a table is lost: it is called lost-1, until the checkpoint names it.")
def lost_table():
    w = with_stream(features=(0, 1, 0))
    t = w.txn()
    t.processor("count")
    gone = t.commit()
    t = w.txn()
    t.table("t", "count", 3)
    t.commit()
    kept = put(w, 1, (b"a", b"1"))
    w.close()
    w.lose(gone.lsn, kept.lsn)
    tables = w.tables()
    row = tables["tables"]["t"]
    row.update(owner=None, partitions=row["partitions"][:2], version=0, ttl_ms=0)
    tables.update(processors={}, tables={"lost-1": row})
    tables["ids"][:3] = [3, 2, 2]  # one change was lost
    return w, {"tables": tables}


@golden("State of a table that was never made.", "invalid")
def state_of_no_table():
    w = with_stream(features=(0, 1, 0))
    t = w.txn()
    t._run(R_STATE, bytes(32) + b"\x01\x01k", 7, 0, 1, 1)
    t.commit()
    w.close()
    return w


@golden("A commit of a table's partition is skipped, and nothing is lost.", "invalid")
def state_skips():
    w = with_table()
    t = w.txn()
    t.s.tables.rows[1].part(0).commits = 1
    t.state("t", 0, [(b"a", b"1")])
    t.commit()
    w.close()
    return w


@golden("A file of state is said to hold later changes.", "invalid")
def run_of_the_future():
    w = with_table()
    t = w.txn()
    t.run_added(1 << 40)
    t.commit()
    w.close()
    return w


@golden("Keys of a STATE run don't ascend.", "invalid")
def state_out_of_order():
    w = with_table()
    t = w.txn()
    data = struct.pack("<QQQQ", 1, 1, 2, 4) + b"\0\x01\x01bx" + b"\0\x01\x01ax"
    t._run(R_STATE, data, 1, 0, 2, 1)
    t.commit()
    w.close()
    return w


@golden("A change of tables that a later version makes.", "version")
def table_op_unknown():
    w = with_table()
    t = w.txn()
    t._run(st.TABLES, entry(99))
    t.commit()
    w.close()
    return w
