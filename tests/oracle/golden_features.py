# SPDX-License-Identifier: Apache-2.0
"""Golden logs with something of a later version in them, of each class and in each place (docs/format.md, section 8)."""

import struct

import pawl_writer as pw
from golden_base import add, golden, with_stream
from pawl_writer import rec

READ_ONLY = {"writable": False}


def closed(w, more=None):
    w.close()
    return w if more is None else (w, more)


def with_run(kind, flags=0):
    """A run of any type between two RECORDS runs."""
    w = with_stream()
    t = w.txn()
    t.records("s", 0, [rec(b"x")])
    t.run(kind, b"from the future", stream=7, partition=8, count=3, base=9, flags=flags)
    t.records("s", 0, [rec(b"y")])
    t.commit()
    return w


def with_kind(kind_flags):
    w = with_stream()
    add(w, b"x")
    w.put(
        77,
        [pw.RunBytes(99, 1, 2, 3, 4, b"what no one knows", 0xFFFF)],
        kind_flags=kind_flags,
        flags=0xFFFFFFFF,
    )
    w.flush()
    add(w, b"y")
    return w


def with_frame_flags(flags, kind_flags=None):
    w = with_stream()
    t = w.txn()
    t.records("s", 0, [rec(b"x")])
    t.commit(flags=flags, kind_flags=kind_flags)
    add(w, b"y")
    return w


def with_run_flags(flags):
    w = with_stream()
    t = w.txn()
    t.records("s", 0, [rec(b"x")])
    t.flag_runs(flags)
    t.commit()
    add(w, b"y")
    return w


# ---- may be ignored


@golden("Features that may be ignored, and carried bytes: a writer copies them into later headers.")
def features_to_ignore():
    w = with_stream(features=(0, 0, 1 << 63 | 1), carried=bytes(range(1, 33)))
    add(w, b"x")
    w.seal()
    add(w, b"y")
    return closed(w)


@golden("A run of a type of a later version that may be ignored, between two RECORDS runs.")
def unknown_run_skipped():
    return closed(with_run(0xC000 | 99, 0xFFFF))


@golden("A frame of a later version that may be ignored, whatever its flags and runs are.")
def unknown_kind_skipped():
    return closed(with_kind(0))


@golden("Flags of a frame that may be ignored.")
def frame_flags_to_ignore():
    return closed(with_frame_flags(0xFF000000))


@golden("Flags of a run that may be ignored.")
def run_flags_to_ignore():
    return closed(with_run_flags(0xF000))


@golden("A fork: the identity is in its last two segments, and carried on.")
def forked():
    w = with_stream(features=(0, 0, 0))
    add(w, b"x")
    w.features = (0, 8, 0)
    w.carried = bytes(96) + bytes(range(16)) + bytes(32)
    w.seal()
    add(w, b"y")
    w.seal()
    add(w, b"z")
    return closed(w)


# ---- may be read


@golden("A feature that must be known to write.")
def features_to_write():
    w = with_stream(features=(0, 1 << 63, 0))
    add(w, b"x")
    return closed(w, READ_ONLY)


@golden("A run of a type of a later version that may be skipped by a reader.")
def unknown_run_to_write():
    return closed(with_run(0x8000 | 99, 0xFFFF), READ_ONLY)


@golden("A frame of a later version that may be skipped by a reader.")
def unknown_kind_to_write():
    return closed(with_kind(2), READ_ONLY)


@golden("The lowest flag of a frame that must be known to write.")
def frame_flags_to_write():
    return closed(with_frame_flags(1 << 12), READ_ONLY)


@golden("The highest flag of a frame that must be known to write.")
def frame_flags_to_write_highest():
    return closed(with_frame_flags(1 << 23), READ_ONLY)


@golden("The lowest flag of a run that must be known to write.")
def run_flags_to_write():
    return closed(with_run_flags(1 << 6), READ_ONLY)


@golden("The highest flag of a run that must be known to write.")
def run_flags_to_write_highest():
    return closed(with_run_flags(1 << 11), READ_ONLY)


@golden("A setting of a later version.")
def settings_to_write():
    w = with_stream(settings=(0, 0, 2))
    add(w, b"x")
    return closed(w, READ_ONLY)


# ---- must be understood


@golden("A feature that must be known to read.", "version")
def features_to_read():
    return closed(with_stream(features=(1 << 63, 0, 0)))


@golden("A run of a type of a later version that must be understood.", "version")
def unknown_run():
    return closed(with_run(99))


@golden("A run whose type has bit 14 alone: the reader must understand it.", "version")
def unknown_run_bit_14():
    return closed(with_run(0x4000 | 99))


@golden("A frame of a later version that must be understood.", "version")
def unknown_kind():
    return closed(with_kind(1))


@golden("Kind flags that version 1 doesn't know.", "version")
def kind_flags_to_read():
    return closed(with_frame_flags(0, kind_flags=0x80 | 1))


@golden("The lowest flag of a frame that must be understood.", "version")
def frame_flags_to_read():
    return closed(with_frame_flags(1))


@golden("The highest flag of a frame that must be understood.", "version")
def frame_flags_to_read_highest():
    return closed(with_frame_flags(1 << 11))


@golden("The lowest flag of a run that must be understood.", "version")
def run_flags_to_read():
    return closed(with_run_flags(1))


@golden("The highest flag of a run that must be understood.", "version")
def run_flags_to_read_highest():
    return closed(with_run_flags(1 << 5))


@golden("A change of the catalog that version 1 doesn't know.", "version")
def unknown_catalog_op():
    w = with_stream()
    t = w.txn()
    t.catalog(200, 1, 0, 0, b"")
    t.commit()
    return closed(w)


@golden("A sink's decision that version 1 doesn't know.", "version")
def unknown_sink_op():
    w = with_stream()
    t = w.txn()
    t.processor("count")
    t.commit()
    t = w.txn()
    t.run(pw.R_SINKS, pw.padded(struct.pack("<IHH", 1, 3, 4) + b"file"))
    t.commit()
    return closed(w)
