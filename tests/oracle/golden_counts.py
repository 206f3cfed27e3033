# SPDX-License-Identifier: Apache-2.0
"""Golden logs whose segments count, and what damage means in them (docs/format.md, section 9)."""

from golden_base import add, golden, with_stream
from pawl_writer import rec

COUNTS = (0, 1, 0)


def offsets_of(w):
    found = {}
    for name, partition, offset, _, _ in w.s.shown:
        found.setdefault(name.decode(), {}).setdefault(str(partition), []).append(offset)
    return found


def unname(w, kind, name):
    """Damage took the name of a stream, producer or processor: it is lost-N then."""
    table = getattr(w.s, kind + "s")
    value = table.pop(name)
    ident = value[0] if kind == "stream" else value["id"] if kind == "producer" else value
    fresh = b"lost-%d" % ident
    table[fresh] = value
    if kind == "stream":
        w.s.shown = [(fresh, *row[1:]) if row[0] == name else row for row in w.s.shown]


def filled(**kw):
    """A log with two of everything, one of each gone."""
    w = with_stream(**kw)
    t = w.txn()
    t.stream("t", 2)
    t.producer("p")
    t.processor("copy")
    t.processor("gone")
    t.commit()
    t = w.txn()
    t.stream("deleted", 1)
    t.records("s", 0, [rec(b"0"), rec(b"1")])
    t.sequences("p", 2, epoch=1)
    t.position("copy", "s", 0, 1)
    t.commit()
    t = w.txn()
    t.forget("gone")
    t.delete("deleted")
    t.commit()
    return w


@golden("Segments that count, with ids that are gone for ever.")
def counted():
    w = filled(features=COUNTS)
    w.seal()
    add(w, b"2")
    t = w.txn()
    t.processor("next")
    t.stream("next", 1)
    t.commit()
    w.seal()
    add(w, b"3")
    w.close()
    return w


@golden("A log of an earlier version, which counts from its second segment on.")
def counted_from_the_second_segment():
    w = filled()
    w.features = COUNTS
    w.s.commits = w.s.changes = 0  # whatever its writer begins with
    w.s.ids["processor"] = 1
    w.seal()
    add(w, b"2")
    w.seal()
    add(w, b"3")
    w.close()
    return w


@golden("More commits and changes than the counts in a frame hold.")
def counted_around():
    w = with_stream(features=COUNTS)
    with w.group():
        for number in range(300):
            t = w.txn()
            t.settings(number, 0)
            t.commit()
    w.s.commits += 4000
    w.s.changes += 60000
    w.seal()
    for _ in range(3):
        add(w, b"x")
    w.close()
    w.drop_segment(0)
    return w


def lost_catalog(**kw):
    """The change that makes everything is lost; what uses it stays."""
    w = with_stream(features=COUNTS, **kw)
    add(w, b"before")
    t = w.txn()
    t.stream("t", 3)
    t.producer("p")
    t.processor("copy")
    lost = t.commit()
    t = w.txn()
    t.records("t", 1, [rec(b"0"), rec(b"1")])
    t.sequences("p", 2, epoch=1)
    t.position("copy", "t", 1, 1)
    t.commit()
    w.lose(lost.lsn, lost.lsn + 4096)
    return w


def unnamed(w, partitions=2):
    for kind, name in (("stream", b"t"), ("producer", b"p"), ("processor", b"copy")):
        unname(w, kind, name)
    ident, _ = w.s.streams[b"lost-2"]
    w.s.streams[b"lost-2"] = (ident, partitions)
    w.s.ids = {"stream": 4, "producer": 3, "processor": 3}  # three changes of any kind
    return w


@golden("A catalog change is lost in the newest segment: its ids have no names any more.")
def after_a_lost_name():
    w = lost_catalog()
    add(w, b"behind")
    w.close()
    return unnamed(w)


@golden("A catalog change is lost, and the checkpoint that follows has the names.")
def after_a_lost_name_found_again():
    w = lost_catalog()
    w.seal()
    add(w, b"behind", stream="t", partition=2)
    w.close()
    return w


@golden("What has lost its name gets it back.")
def after_a_lost_name_given_back():
    w = unnamed(lost_catalog())
    t = w.txn()
    t.rename("stream", b"lost-2", b"t")
    t.rename("producer", b"lost-1", b"p")
    t.commit()
    t = w.txn()
    t.rename("processor", b"lost-1", b"copy")
    t.commit()
    w.seal()
    add(w, b"2", stream="t", partition=1)
    w.close()
    return w


@golden("A deletion and a forgetting are lost; what is created anew under those names counts.")
def after_a_lost_end():
    w = with_stream(features=COUNTS)
    t = w.txn()
    t.processor("copy")
    t.commit()
    add(w, b"old")
    t = w.txn()
    t.position("copy", "s", 0, 1)
    t.commit()
    t = w.txn()
    t.delete("s")
    t.forget("copy")
    lost = t.commit()
    t = w.txn()
    t.stream("s", 2)
    t.processor("copy")
    t.commit()
    add(w, b"new", partition=1)
    w.close()
    w.lose(lost.lsn, lost.lsn + 4096)
    w.s.ids = {"stream": 3, "producer": 2, "processor": 3}  # two changes of any kind
    return w


@golden("The CHECKPOINT of the oldest kept segment is lost: the header knows the ids.")
def after_a_lost_oldest_checkpoint():
    w = filled(features=COUNTS)
    w.seal()
    lost = w.s.frames[-1]
    t = w.txn()
    t.records("s", 0, [rec(b"2")])
    t.position("copy", "s", 0, 2)
    t.commit()
    add(w, b"x", stream="t", partition=1)
    w.close()
    w.drop_segment(0)
    w.lose(lost.lsn, lost.lsn + 4096)
    s = w.s
    s.shown = [row for row in s.shown if row[3] in (b"2", b"x")]
    s.streams = {b"lost-1": (1, 1), b"lost-2": (2, 2)}
    s.processors, s.producers = {b"lost-1": 1}, {}
    s.shown = [({b"s": b"lost-1", b"t": b"lost-2"}[row[0]], *row[1:]) for row in s.shown]
    return w, {"offsets": offsets_of(w)}


@golden("A whole area of commits is lost: offsets, positions and sequences jump.")
def lost_and_counted():
    w = with_stream(features=COUNTS)
    t = w.txn()
    t.processor("copy")
    t.producer("p")
    t.commit()
    first = add(w, b"0 (lost)")
    t = w.txn()
    t.records("s", 0, [rec(b"1 (lost)")])
    t.position("copy", "s", 0, 1)
    t.sequences("p", 1, epoch=1)
    t.commit()
    t = w.txn()
    t.records("s", 0, [rec(b"2")])
    t.position("copy", "s", 0, 2)
    t.sequences("p", 1)
    end = t.commit()
    w.lose(first.lsn, end.lsn)
    w.close()
    return w, {"offsets": offsets_of(w)}
