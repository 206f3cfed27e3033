# SPDX-License-Identifier: Apache-2.0
"""Golden logs whose segments were recycled: an older segment's bytes, whole frames among them, lie where nothing was written yet."""

from golden_base import add, damaged_at, golden, with_stream


def over_recycled():
    """Segment 1 is begun over the bytes of segment 0, with frames in all of its first blocks, some of them inside of values."""
    w = with_stream()
    for i in range(20):
        add(w, b"old %d" % i)
    inner = w.peek(w.s.frames[-1].lsn, w.s.frames[-1].end - w.s.frames[-1].lsn)
    for i in range(20):
        add(w, b"x" * (i % 8) + inner * 60)
    w.images[1] = bytearray(w.images[0])
    w.seal()
    add(w, b"new")
    return w


def stale(w, first, end):
    """What was there before the segment was begun anew."""
    w.poke(first, w.peek(first % w.size, end - first))


@golden(
    "A recycled segment whose last group's later blocks never arrived: an older segment's bytes, whole frames among them, go on from there.",
    "torn",
)
def recycled_torn_tail():
    w = over_recycled()
    p = w.s.frames[-1].end
    mark = w.mark()
    torn = add(w, b"torn " * 4000)
    w.back_to(mark)
    stale(w, torn.lsn + 4096, torn.lsn + 24576)
    return w, {"at_lsn": p}


@golden(
    "As recycled-torn-tail, but only the sector with the header of the torn group's frame is missing.",
    "torn",
)
def recycled_torn_head():
    w = over_recycled()
    p = w.s.frames[-1].end
    mark = w.mark()
    torn = add(w, b"torn " * 4000)
    w.back_to(mark)
    stale(w, torn.lsn, torn.lsn + 512)
    return w, {"at_lsn": p}


@golden(
    "In a recycled segment the first of two groups never arrived, the second did, and knew nothing of it being durable.",
    "torn",
)
def recycled_torn_hole():
    w = over_recycled()
    p = w.s.frames[-1].end
    mark = w.mark()
    w.auto_sync = False
    torn = add(w, b"torn")
    add(w, b"whole, and never acknowledged")
    w.back_to(mark)
    stale(w, torn.lsn, torn.lsn + 4096)
    return w, {"at_lsn": p}


@golden("A torn group over an older segment's bytes, and a new incarnation in the block behind it.")
def recycled_reopened():
    w = over_recycled()
    mark = w.mark()
    torn = add(w, b"torn " * 4000)
    w.back_to(mark)
    stale(w, torn.lsn + 512, torn.lsn + 24576)
    w.reopen()
    add(w, b"epoch 2")
    w.close()
    return w


@golden(
    "A write that a later frame knew durable was lost: the older segment's bytes are there in its place.",
    "damaged",
)
def recycled_lost_write():
    w = over_recycled()
    p, shown = w.s.frames[-1].end, w.expected()
    lost = add(w, b"lost")
    behind = add(w, b"behind")
    w.close()
    stale(w, lost.lsn, lost.lsn + 4096)
    return damaged_at(w, p, shown, behind.lsn)


@golden(
    "The power went while a recycled segment was being begun: some sectors of both header copies and of the checkpoint are the older segment's."
)
def recycled_torn_beginning():
    w = with_stream()
    add(w, b"in segment 0")
    w.images[1] = bytearray(w.images[0])
    w.seal()
    stale(w, w.size + 3584, w.size + 4096)
    stale(w, w.size + 4096, w.size + 4608)
    stale(w, w.size + 8192, w.size + 8704)
    return w


@golden(
    "As recycled-torn-beginning, but all except one header copy had arrived: the segment is begun.",
    "torn",
)
def recycled_torn_copy():
    w = with_stream()
    add(w, b"in segment 0")
    w.images[1] = bytearray(w.images[0])
    w.seal()
    stale(w, w.size + 4096, w.size + 8192)
    return w, {"at_lsn": w.s.frames[-1].end}


@golden("Two recycled segments are ready behind the one in use.")
def recycled_two_ahead():
    w = with_stream()
    add(w, b"in segment 0")
    w.seal()
    add(w, b"in segment 1")
    w.seal()
    add(w, b"in segment 2")
    w.images[3] = bytearray(w.images[0])
    w.images[4] = bytearray(w.images[1])
    w.drop_segment(0)
    w.drop_segment(1)
    w.close()
    return w
