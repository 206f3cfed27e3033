# SPDX-License-Identifier: Apache-2.0
"""The bytes of a log: segment headers, frames, runs, entries and records (docs/format.md, sections 2 to 6).

Nothing here knows about directories or chains; it takes bytes apart and says what is wrong with them.
"""

import functools
import re
import struct
from collections import namedtuple
from dataclasses import dataclass, field

import pawl_state as st
from xxh3 import xxh3_64

BLOCK = 4096
MIB = 1 << 20
SEGMENT_UNIT = 64 << 10
SEGMENT_MAGIC = b"PAWL\r\n\x1a\n"
FRAME_MAGIC = b"PWLF"
VERSION = 1
FIRST_FRAME = 2 * BLOCK
FRAME_HEADER = 80
RUN_ENTRY = 32
NO_BASE = 0xFFFFFFFFFFFFFFFF
MAX_VALUE = 16 * MIB
MAX_COOKIE = 32
SKIP_READING = 0x8000  # in a run's type
SKIP_WRITING = 0x4000
KEYED = 1  # a feature to read: frames are hashed with a key
KNOWN_TO_READ = KEYED
# features to write: frames count what the log holds before them, headers name keys
COUNTS, KEYS, HAS_TABLES = 1, 2, 4
FORKED = 8
KNOWN_TO_WRITE = COUNTS | KEYS | HAS_TABLES | FORKED

COMMIT, SPILL, WITNESS, OPEN, CLOSE, CHECKPOINT, SEAL, LOST = range(1, 9)
KIND_NAMES = {
    COMMIT: "COMMIT",
    SPILL: "SPILL",
    WITNESS: "WITNESS",
    OPEN: "OPEN",
    CLOSE: "CLOSE",
    CHECKPOINT: "CHECKPOINT",
    SEAL: "SEAL",
    LOST: "LOST",
}

RECORDS, SPILLED, POSITIONS, PRODUCERS, STATE, CATALOG, SINKS = range(1, 8)
ORIGINS = 0xC008
INDEX = 32
C_STREAMS, C_NEXT, C_PRODUCERS, C_PROCESSORS, C_POSITIONS, C_SETTINGS, C_SINKS, C_SPANS = range(
    64, 72
)
C_IDS = 0x8048
RUN_NAMES = {
    RECORDS: "RECORDS",
    SPILLED: "SPILLED",
    POSITIONS: "POSITIONS",
    PRODUCERS: "PRODUCERS",
    STATE: "STATE",
    CATALOG: "CATALOG",
    SINKS: "SINKS",
    ORIGINS: "ORIGINS",
    INDEX: "INDEX",
    C_STREAMS: "C_STREAMS",
    C_NEXT: "C_NEXT",
    C_PRODUCERS: "C_PRODUCERS",
    C_PROCESSORS: "C_PROCESSORS",
    C_POSITIONS: "C_POSITIONS",
    C_SETTINGS: "C_SETTINGS",
    C_SINKS: "C_SINKS",
    C_SPANS: "C_SPANS",
    C_IDS: "C_IDS",
    **st.NAMES,
}

RUNS_OF_KIND = {
    COMMIT: {RECORDS, SPILLED, POSITIONS, PRODUCERS, STATE, CATALOG, SINKS, ORIGINS, st.TABLES},
    SPILL: {RECORDS},
    WITNESS: set(),
    OPEN: set(),
    CLOSE: set(),
    CHECKPOINT: {
        C_STREAMS,
        C_NEXT,
        C_PRODUCERS,
        C_PROCESSORS,
        C_POSITIONS,
        C_SETTINGS,
        C_SINKS,
        C_SPANS,
        C_IDS,
        st.C_TABLES,
        st.C_DIGESTS,
        st.C_RUNS,
        st.C_STATE,
        st.C_RUN_HASHES,
    },
    SEAL: {INDEX},
    LOST: set(),
}


class FormatError(Exception):
    """Bytes whose hashes hold but which do not mean what the format says."""


class CannotOpen(Exception):
    """The log must be refused. `kind` is "version", "foreign", "invalid" or "absent"."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind


def align(x, n):
    return (x + n - 1) // n * n


def is_zero(data):
    return data.count(0) == len(data)


_NONZERO = re.compile(rb"[^\0]")


def nonzero_at(buffer, start, end):
    """The first offset in [start, end) of a byte that is not zero, or None; stops at the buffer's end."""
    found = _NONZERO.search(buffer, start, min(end, len(buffer)))
    return found.start() if found else None


# ---- Segment headers -------------------------------------------------------------------------------------------------

SegmentHeader = namedtuple(
    "SegmentHeader",
    "log_id segment_size index epoch link seal_lsn created cap to_read to_write "
    "to_ignore carried ids",
)
CIds = namedtuple("CIds", "stream producer processor table commits changes")
_IDS = struct.Struct("<IIIIQQ")
_SEGMENT = struct.Struct("<8sII16s10Q144s")
assert _SEGMENT.size == 256


def parse_segment_block(block, index):
    """(header, reason): the header in this block if it is valid for a file named `index`, else why not.

    Raises CannotOpen for a block that is whole but of another version.
    """
    if len(block) < BLOCK:
        return None, "too short"
    magic, version, block_size, log_id, size, own, epoch, link, seal, created, cap, *features = (
        _SEGMENT.unpack_from(block)
    )
    if magic != SEGMENT_MAGIC:
        return None, "no magic"
    if struct.unpack_from("<Q", block, BLOCK - 8)[0] != xxh3_64(block[: BLOCK - 8]):
        return None, "hash does not match"
    if version != VERSION:
        raise CannotOpen("version", "version %d is unknown" % version)
    if block_size != BLOCK:
        return None, "block size is %d" % block_size
    if size % SEGMENT_UNIT or not SEGMENT_UNIT <= size <= 4096 * MIB:
        return None, "segment size %d is out of range" % size
    if own != index:
        return None, "index is %d" % own
    ids = CIds(*_IDS.unpack_from(block, 256)) if features[1] & COUNTS else None
    return SegmentHeader(log_id, size, own, epoch, link, seal, created, cap, *features, ids), None


# ---- Keys ----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def expanded(key):
    """The secret of 192 bytes that a key of 32 stands for: word i is the key's hash with the seed i."""
    return struct.pack("<24Q", *(xxh3_64(key, i) for i in range(24)))


def own_keys(header):
    """What the frames of the header's segment are hashed with."""
    if header.to_read & KEYED:
        return [expanded(header.carried[32:64])]
    return [xxh3_64(header.log_id)]


def following_keys(header):
    """What the frames of the segment after it may be hashed with: its key, or the next one; the
    first key always comes with the segment after the one that names it."""
    if not header.to_write & KEYS:
        return own_keys(header)
    following = [expanded(header.carried[64:96])]
    return following + own_keys(header) if header.to_read & KEYED else following


# ---- Frames ----------------------------------------------------------------------------------------------------------

_FRAME = struct.Struct("<4sBBHQQQQQQQIIQ")
_RUN = struct.Struct("<HHIIIQII")
assert _FRAME.size == FRAME_HEADER and _RUN.size == RUN_ENTRY


@dataclass
class Run:
    type: int
    flags: int
    stream: int
    partition: int
    count: int
    base: int
    start: int
    length: int

    @property
    def name(self):
        return RUN_NAMES.get(self.type, "type %d" % self.type)


@dataclass
class Frame:
    """A frame whose header is good. `end` is the LSN behind it, its padding to 8 included."""

    lsn: int
    kind: int
    kind_flags: int
    run_count: int
    epoch: int
    durable: int
    time: int
    link: int
    directory_hash: int
    body_hash: int
    body_length: int
    flags: int
    hash: int
    end: int
    runs: list = field(default_factory=list)

    @property
    def name(self):
        return KIND_NAMES.get(self.kind, "kind %d" % self.kind)

    @property
    def body_lsn(self):
        return self.lsn + FRAME_HEADER + RUN_ENTRY * self.run_count

    @property
    def next_link(self):
        """The link that the frame behind this one carries."""
        return self.directory_hash if self.kind == LOST else self.hash


def parse_frame_header(buffer, at, lsn, segment_end, key):
    """The frame whose header is good at `lsn`, which is at offset `at` of the buffer, or None."""
    if (
        lsn + FRAME_HEADER > segment_end
        or len(buffer) < at + FRAME_HEADER
        or buffer[at : at + 4] != FRAME_MAGIC
    ):
        return None
    raw = buffer[at : at + FRAME_HEADER]
    (
        _,
        kind,
        kind_flags,
        runs,
        own,
        epoch,
        durable,
        time,
        link,
        directory_hash,
        body_hash,
        body_length,
        flags,
        header_hash,
    ) = _FRAME.unpack(raw)
    if own != lsn or durable > lsn or xxh3_64(raw[:72], key) != header_hash:
        return None
    end = lsn + align(FRAME_HEADER + RUN_ENTRY * runs + body_length, 8)
    if end > segment_end:
        return None
    return Frame(
        lsn,
        kind,
        kind_flags,
        runs,
        epoch,
        durable,
        time,
        link,
        directory_hash,
        body_hash,
        body_length,
        flags,
        header_hash,
        end,
    )


def parse_frame(buffer, at, lsn, segment_end, key):
    """The good frame at `lsn` with its directory, or None."""
    frame = parse_frame_header(buffer, at, lsn, segment_end, key)
    if frame is None or len(buffer) < at + (frame.end - lsn):
        return None
    body = at + FRAME_HEADER + RUN_ENTRY * frame.run_count
    if nonzero_at(buffer, body + frame.body_length, at + frame.end - lsn) is not None:
        return None
    if frame.kind == LOST:
        return frame
    directory = buffer[at + FRAME_HEADER : body]
    if xxh3_64(directory, key) != frame.directory_hash:
        return None
    if xxh3_64(buffer[body : body + frame.body_length], key) != frame.body_hash:
        return None
    frame.runs = [Run(*entry) for entry in _RUN.iter_unpack(directory)]
    return frame


Need = namedtuple("Need", "to text")  # to: "read" or "write"


def _flag_needs(what, flags, read, write):
    if flags & read:
        yield Need("read", "%s %#x must be understood to read" % (what, flags & read))
    elif flags & write:
        yield Need("write", "%s %#x must be understood to write" % (what, flags & write))


def header_needs(header):
    """What in a segment's header this version doesn't know and would have to (section 8)."""
    for to, bits in (
        ("read", header.to_read & ~KNOWN_TO_READ),
        ("write", header.to_write & ~KNOWN_TO_WRITE),
    ):
        if bits:
            yield Need(
                to,
                "features %#x in the header of segment %d must be understood to %s"
                % (bits, header.index, to),
            )


def needs(frame, body, counts):
    """What in a frame this version doesn't know and would have to (section 8)."""
    where = " at LSN %d" % frame.lsn
    if frame.kind not in KIND_NAMES:
        if frame.kind_flags & 3:
            to = "read" if frame.kind_flags & 1 else "write"
            yield Need(to, "frame kind %d%s must be understood to %s" % (frame.kind, where, to))
        return
    yield from _flag_needs("kind flags%s" % where, frame.kind_flags, 0xFC, 0)
    yield from _flag_needs("frame flags%s" % where, frame.flags, 0xFFF, 0 if counts else 0xFFF000)
    for run in frame.runs:
        if run.type in RUN_NAMES:
            yield from _flag_needs("run flags%s" % where, run.flags, 0x3F, 0xFC0)
        elif not run.type & SKIP_READING:
            yield Need("read", "run type %#x%s must be understood to read" % (run.type, where))
        elif not run.type & SKIP_WRITING:
            yield Need("write", "run type %#x%s must be understood to write" % (run.type, where))
        if run.type == C_SETTINGS and run.length == 24:
            flags = struct.unpack_from("<Q", body, run.start + 16)[0] & ~1
            if flags:
                yield Need(
                    "write", "settings flags %#x%s must be understood to write" % (flags, where)
                )


def check_frame(frame, body, counts):
    """What of the frame's fixed fields and directory breaks the rules, as texts.

    Raises CannotOpen where the format says that a reader must refuse the log.
    """
    problems = []
    for need in needs(frame, body, counts):
        if need.to == "read":
            raise CannotOpen("version", need.text)
    if frame.kind not in KIND_NAMES:
        return problems
    if frame.kind_flags != (0 if frame.kind == WITNESS else 1):
        problems.append("kind flags of a %s are %d" % (frame.name, frame.kind_flags))
    if frame.kind == LOST:
        if frame.run_count or frame.body_hash:
            problems.append("a LOST frame has runs or a body hash")
        if not is_zero(body):
            problems.append("the body of a LOST frame is not zeros")
        return problems
    at = 0
    for number, run in enumerate(frame.runs):
        where = "run %d (%s)" % (number, run.name)
        if run.type in RUN_NAMES and run.type not in RUNS_OF_KIND[frame.kind]:
            problems.append("%s does not belong in a %s" % (where, frame.name))
        if run.start != at:
            problems.append("%s starts at %d instead of %d" % (where, run.start, at))
        at = run.start + run.length
        if at > frame.body_length:
            raise FormatError("%s ends beyond the body" % where)
        if run.type in RUN_NAMES:
            problems += ["%s: %s" % (where, text) for text in _check_run_fields(frame, run)]
    if at != frame.body_length:
        problems.append("the runs end at %d of a body of %d bytes" % (at, frame.body_length))
    return problems


def _check_run_fields(frame, run):
    if run.type in (RECORDS, SPILLED):
        if not run.stream:
            yield "no stream"
        if (run.base == NO_BASE) != (frame.kind == SPILL):
            yield "base is %d" % run.base
    else:
        if run.type == STATE:
            if not run.stream or not run.base:
                yield "table %d, commit %d" % (run.stream, run.base)
        elif run.base:
            yield "base is %d instead of 0" % run.base
        if run.type != STATE and (run.stream or run.partition):
            yield "stream or partition is not 0"
    if not run.count and frame.kind == CHECKPOINT:
        yield "a run without entries"


# ---- Entries ---------------------------------------------------------------------------------------------------------


class Cursor:
    """Reads fields one behind the other and complains when the run ends too early."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def fields(self, layout):
        size = struct.calcsize(layout)
        if self.at + size > len(self.data):
            raise FormatError("an entry ends beyond its run")
        values = struct.unpack_from(layout, self.data, self.at)
        self.at += size
        return values

    def bytes(self, size):
        if self.at + size > len(self.data):
            raise FormatError("an entry ends beyond its run")
        self.at += size
        return self.data[self.at - size : self.at]

    def zeros(self, size):
        if not is_zero(self.bytes(size)):
            raise FormatError("a field that must be 0 is not")

    def pad(self, start):
        """Zeros up to a length, counted from `start`, that is a multiple of 8."""
        self.zeros(-(self.at - start) % 8)


Position = namedtuple("Position", "processor stream partition first end")
Producer = namedtuple("Producer", "id epoch first last cookie")
Catalog = namedtuple("Catalog", "op id a b name")
Sink = namedtuple("Sink", "processor op name")
Origin = namedtuple(
    "Origin", "producer stream first end records flags unit marks_are step thing note spans marks"
)
Index = namedtuple("Index", "stream partition base lsn")
Spilled = namedtuple("Spilled", "lsn hash run")
CStream = namedtuple("CStream", "id partitions name")
CNext = namedtuple("CNext", "stream partition next")
CProducer = namedtuple("CProducer", "id epoch last stream partition offset cookie name")
CProcessor = namedtuple("CProcessor", "id name")
CPosition = namedtuple("CPosition", "processor stream partition position")
CSettings = namedtuple("CSettings", "retain_bytes retain_ms flags")
CSink = namedtuple("CSink", "processor name")
CSpan = namedtuple("CSpan", "segment oldest")


def _position(c):
    processor, stream, partition = c.fields("<III")
    c.zeros(4)
    return Position(processor, stream, partition, *c.fields("<QQ"))


def _cookie(c, length):
    if length > MAX_COOKIE:
        raise FormatError("a cookie of %d bytes" % length)
    cookie = c.bytes(length)
    c.zeros(MAX_COOKIE - length)
    return cookie


def _producer(c):
    ident, epoch, first, last, length = c.fields("<IIQQI")
    c.zeros(4)
    return Producer(ident, epoch, first, last, _cookie(c, length))


def _catalog(c):
    start = c.at
    op, length, ident, a, b = c.fields("<HHIQQ")
    name = c.bytes(length)
    c.pad(start)
    return Catalog(op, ident, a, b, name)


def _sink(c):
    start = c.at
    processor, op, length = c.fields("<IHH")
    name = c.bytes(length)
    c.pad(start)
    return Sink(processor, op, name)


def _varints(data):
    """The numbers of seven bits a byte, the lowest first, that fill `data`."""
    found, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            found.append(value)
            value, shift = 0, 0
        if value >> 64 or shift > 63:
            raise FormatError("a number of more than 64 bits")
    if shift:
        raise FormatError("a number that does not end")
    return found


def _origin(c):
    start = c.at
    producer, stream, first, end, records, flags, unit, kind, *lengths = c.fields(
        "<IIQQIHBBBBHII"
    )
    thing_length, note_length, step, order_length, marks_length = lengths
    c.zeros(4)
    thing, note = c.bytes(thing_length), c.bytes(note_length)
    order, marks = _varints(c.bytes(order_length)), _varints(c.bytes(marks_length))
    c.pad(start)
    if not thing or first > end:
        raise FormatError("an origin without a name, or that ends before it begins")
    if len(order) % 3 or not all(order[2::3]) or bool(order) != bool(records):
        raise FormatError("an origin's order is not made of spans")
    if len(marks) != (records if kind == 3 else 0) and kind <= 3:
        raise FormatError("an origin has %d marks for %d records" % (len(marks), records))
    at, absolute = first, []
    for distance in marks:
        at += -(distance + 1) // 2 if distance & 1 else distance // 2
        absolute.append(at)
    if any(not first <= mark <= end for mark in absolute):
        raise FormatError("an origin's marks are not within it")
    spans = list(zip(order[0::3], order[1::3], order[2::3]))
    return Origin(
        producer, stream, first, end, records, flags, unit, kind, step, thing, note, spans, absolute
    )


def origin_places(origin):
    """For each record that an origin covers, in the order of put, (stream, partition)."""
    left = origin.records
    while left:
        for stream, partition, count in origin.spans:
            for _ in range(min(count, left)):
                yield stream, partition
            left -= min(count, left)


def _c_stream(c):
    start = c.at
    ident, partitions, length = c.fields("<III")
    c.zeros(4)
    name = c.bytes(length)
    c.pad(start)
    return CStream(ident, partitions, name)


def _c_producer(c):
    start = c.at
    ident, epoch, last, stream, partition, offset, cookie_length, length = c.fields("<IIQIIQII")
    cookie = _cookie(c, cookie_length)
    name = c.bytes(length)
    c.pad(start)
    return CProducer(ident, epoch, last, stream, partition, offset, cookie, name)


def _c_processor(c):
    start = c.at
    ident, length = c.fields("<II")
    name = c.bytes(length)
    c.pad(start)
    return CProcessor(ident, name)


def _c_position(c):
    processor, stream, partition = c.fields("<III")
    c.zeros(4)
    return CPosition(processor, stream, partition, *c.fields("<Q"))


def _c_sink(c):
    start = c.at
    processor, zero, length = c.fields("<IHH")
    if zero:
        raise FormatError("a field that must be 0 is not")
    name = c.bytes(length)
    c.pad(start)
    return CSink(processor, name)


_ENTRY = {
    POSITIONS: _position,
    PRODUCERS: _producer,
    CATALOG: _catalog,
    SINKS: _sink,
    ORIGINS: _origin,
    INDEX: lambda c: Index(*c.fields("<IIQQ")),
    C_STREAMS: _c_stream,
    C_NEXT: lambda c: CNext(*c.fields("<IIQ")),
    C_PRODUCERS: _c_producer,
    C_PROCESSORS: _c_processor,
    C_POSITIONS: _c_position,
    C_SETTINGS: lambda c: CSettings(*c.fields("<QQQ")),
    C_SINKS: _c_sink,
    C_SPANS: lambda c: CSpan(*c.fields("<QQ")),
    C_IDS: lambda c: CIds(*c.fields("<IIIIQQ")),
    **st.ENTRIES,
}


def entries(run, data):
    """The entries of a run of any type but RECORDS and SPILLED. STATE: one, of all its changes."""
    cursor = Cursor(data)
    try:
        if run.type == STATE:
            found = [st.state_run(cursor, run.count)]
        else:
            found = [_ENTRY[run.type](cursor) for _ in range(run.count)]
    except st.Wrong as error:
        raise FormatError(str(error)) from None
    if cursor.at != len(data):
        raise FormatError(
            "a %s run has %d bytes behind its entries" % (run.name, len(data) - cursor.at)
        )
    return found


def spilled(data):
    """What a SPILLED run refers to."""
    if len(data) != 24:
        raise FormatError("a SPILLED run of %d bytes" % len(data))
    lsn, header_hash, number, zero = struct.unpack("<QQII", data)
    if zero:
        raise FormatError("a field that must be 0 is not")
    return Spilled(lsn, header_hash, number)


# ---- Records ---------------------------------------------------------------------------------------------------------

Record = namedtuple("Record", "timestamp key headers value")
_RECORD = struct.Struct("<IHHq")


def _headers(data):
    cursor, found = Cursor(data), []
    while cursor.at < len(data):
        name_length, value_length = cursor.fields("<HH")
        found.append((cursor.bytes(name_length), cursor.bytes(value_length)))
    return found


def records(data, count):
    """The `count` records that fill `data`, one after the other."""
    at, size = 0, len(data)
    for _ in range(count):
        if at + 16 > size:
            raise FormatError("a record ends beyond its run")
        value_length, key_length, header_length, timestamp = _RECORD.unpack_from(data, at)
        if value_length > MAX_VALUE:
            raise FormatError("a value of %d bytes" % value_length)
        key_end = at + 16 + key_length
        value_at = key_end + header_length
        end = value_at + value_length
        if end > size:
            raise FormatError("a record ends beyond its run")
        yield Record(
            timestamp,
            data[at + 16 : key_end],
            _headers(data[key_end:value_at]) if header_length else [],
            data[value_at:end],
        )
        at = end
    if at != size:
        raise FormatError("a RECORDS run has %d bytes behind its records" % (size - at))
