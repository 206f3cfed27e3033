# SPDX-License-Identifier: Apache-2.0
"""Tables of keyed state: their entries in runs, and the rules that they must keep (docs/format.md, sections 5, 6 and 9)."""

import copy
import re
from collections import namedtuple
from dataclasses import dataclass, field

TABLES = 0x8009
C_TABLES, C_DIGESTS, C_RUNS, C_STATE = 0x804A, 0x804B, 0x804C, 0x804D
C_RUN_HASHES = 0xC04E
NAMES = {
    TABLES: "TABLES",
    C_TABLES: "C_TABLES",
    C_DIGESTS: "C_DIGESTS",
    C_RUNS: "C_RUNS",
    C_STATE: "C_STATE",
    C_RUN_HASHES: "C_RUN_HASHES",
}
CREATE, DELETE, VERSION, RUN_ADDED, RUN_REMOVED, FLUSHED, LOST, REPLACES = range(1, 9)
DELETED, EXPIRES = 1, 2  # flags of a change
LOCAL_KEYS, TABLE_EXPIRES = 1, 2  # flags of a table
KEY_MAX, VALUE_MAX = 8192, 4 << 20
ENTRY_SIZE = 48

Table = namedtuple("Table", "op id owner partitions version flags ttl a b name")
Sum = namedtuple("Sum", "low high pairs bytes")
Change = namedtuple("Change", "key value expiry")  # value None: deleted
State = namedtuple("State", "sum changes")
CDigest = namedtuple("CDigest", "table partition sum commits flags")
CRun = namedtuple("CRun", "id level flush bytes")
CRunHash = namedtuple("CRunHash", "id hash")
CState = namedtuple("CState", "next_run flush replay_max")
EMPTY = Sum(0, 0, 0, 0)


class Wrong(Exception):
    """Bytes that don't mean what the format says."""


def sum_possible(s):
    return s == EMPTY if not s.pairs else s.bytes >= s.pairs


def _sum(c):
    found = Sum(*c.fields("<QQQQ"))
    if not sum_possible(found):
        raise Wrong("%d pairs of %d bytes, or a sum of nothing" % (found.pairs, found.bytes))
    return found


def _varint(c):
    value = shift = 0
    while True:
        (byte,) = c.fields("<B")
        value |= (byte & 0x7F) << shift
        shift += 7
        if value >> 64 or shift > 70:
            raise Wrong("a number of more than 64 bits")
        if byte < 0x80:
            return value


def change(c):
    (flags,) = c.fields("<B")
    if flags not in (0, DELETED, EXPIRES):
        raise Wrong("a change with flags %#x" % flags)
    key_length = _varint(c)
    value_length = 0 if flags & DELETED else _varint(c)
    expiry = _varint(c) if flags & EXPIRES else 0
    if not 1 <= key_length <= KEY_MAX or value_length > VALUE_MAX:
        raise Wrong("a key of %d bytes, or a value of %d" % (key_length, value_length))
    key, value = c.bytes(key_length), c.bytes(value_length)
    return Change(key, None if flags & DELETED else value, expiry)


def state_run(c, count):
    found = State(_sum(c), [change(c) for _ in range(count)])
    keys = [each.key for each in found.changes]
    if not count or any(a >= b for a, b in zip(keys, keys[1:])):
        raise Wrong("no changes, or their keys don't ascend")
    return found


def table(c):
    start = c.at
    op, length, *rest = c.fields("<HHIIIIIQQQ")
    name = c.bytes(length)
    c.pad(start)
    return Table(op, *rest, name)


def c_digest(c):
    ident, partition = c.fields("<II")
    found = _sum(c)
    commits, flags = c.fields("<QI")
    c.zeros(4)
    return CDigest(ident, partition, found, commits, flags)


def c_run(c):
    return CRun(*c.fields("<IIQQ"))


def c_run_hash(c):
    (ident,) = c.fields("<I")
    c.zeros(4)
    return CRunHash(ident, *c.fields("<Q"))


def c_state(c):
    (following,) = c.fields("<I")
    c.zeros(4)
    return CState(following, *c.fields("<QQ"))


ENTRIES = {
    TABLES: table,
    C_TABLES: table,
    C_DIGESTS: c_digest,
    C_RUNS: c_run,
    C_STATE: c_state,
    C_RUN_HASHES: c_run_hash,
}


@dataclass
class Part:
    sum: Sum = EMPTY
    commits: int = 0
    lost: bool = False  # for good
    missing: int = 0  # 0, or changes below this LSN are missing in the frames
    doubt: int = 0  # the same, but perhaps none is
    at: int = 0  # LSN of the newest commit that changed it

    def unknown(self):
        return bool(self.lost or self.missing or self.doubt)


@dataclass
class Row:
    name: bytes
    owner: int
    partitions: int
    version: int = 0
    flags: int = 0
    ttl: int = 0
    parts: dict = field(default_factory=dict)

    def part(self, partition):
        return self.parts.setdefault(partition, Part())


class StateTables:
    """Tables, and the files that hold their pairs, at one LSN."""

    def __init__(self):
        self.rows = {}  # id -> Row
        self.runs = {}  # id -> CRun
        self.hashes = {}  # id -> hash in the header, of those that the log says
        self.next_table = self.next_run = 1
        self.flush = self.replay_max = 0
        self.any = False  # the log has a table, or has had one
        self.lost_end = 0  # LSN of the frame after the last area that may have held commits
        self.clock = 0  # in ms, by which pairs expire

    def note_time(self, time):
        """A COMMIT or CHECKPOINT that was applied says a time, in ns."""
        if any(row.flags & TABLE_EXPIRES for row in self.rows.values()):
            self.clock = max(self.clock, time // 1_000_000)

    def lose(self, ahead, area, lsn):
        """`ahead`: commits lost, or None where that is unknown."""
        if ahead != 0:
            more = max(area // ENTRY_SIZE, ahead or 0)
            self.next_table += more
            self.next_run += more
            self.lost_end = lsn

    # ---- COMMIT

    def apply(self, row, lsn, tables, complain):
        if row.op == CREATE:
            self._create(row, tables, complain)
        elif row.op in (DELETE, VERSION, LOST):
            self._change(row, tables, complain)
        elif row.op == REPLACES:
            self._replace(row, tables, complain)
        elif row.op in (RUN_ADDED, FLUSHED):
            self._flush(row, lsn, complain)
        elif row.op == RUN_REMOVED:
            if self.runs.pop(row.id, None) is None and not tables.unsure:
                complain("run %d is removed but was not there" % row.id)
            self.hashes.pop(row.id, None)
        else:
            tables.refuse("TABLES op %d must be understood to read" % row.op)

    def find(self, name):
        return next((ident for ident, row in sorted(self.rows.items()) if row.name == name), None)

    def _create(self, row, tables, complain):
        for older in (row.id, self.find(row.name)):
            if older in self.rows and tables.unsure:
                del self.rows[older]  # the change that ended it was lost
            elif older in self.rows:
                complain("table %d or its name %r is used twice" % (row.id, row.name))
        if row.id < self.next_table and not tables.unsure:
            complain("table id %d is used again" % row.id)
        if row.owner not in tables.processors:
            if not tables.unsure:
                complain("table %d belongs to no processor" % row.id)
            tables.unnamed_processor(row.owner)
        if not row.id or not row.partitions or row.a or row.b or not row.name:
            complain("a table with id %d, %d partitions" % (row.id, row.partitions))
        self.add(row, tables)

    def add(self, row, tables=None):
        if tables and row.flags & ~(LOCAL_KEYS | TABLE_EXPIRES):
            tables.refuse("flags %#x of a table must be understood to read" % row.flags)
        self.rows[row.id] = Row(
            row.name, row.owner, row.partitions, row.version, row.flags, row.ttl
        )
        self.next_table = max(self.next_table, row.id + 1)
        self.any = True

    def _change(self, row, tables, complain):
        if row.id not in self.rows:
            if not tables.unsure:
                complain("table %d is changed but was not there" % row.id)
        elif row.op == DELETE:
            del self.rows[row.id]
        elif row.op == VERSION:
            self.rows[row.id].version = row.version
        elif row.partitions < self.rows[row.id].partitions:
            self.rows[row.id].part(row.partitions).lost = True
        else:
            complain("table %d has no partition %d" % (row.id, row.partitions))

    def _replace(self, row, tables, complain):
        named = self.find(row.name)
        if not tables.unsure:
            if row.a == row.id or row.id not in self.rows or row.a not in self.rows:
                complain("table %d takes the place of table %d" % (row.id, row.a))
            if named not in (None, row.id, row.a):
                complain("table %d takes the name of table %d" % (row.id, named))
        self.rows.pop(row.a, None)
        if row.id in self.rows:
            if named not in (None, row.id):
                self.rows.pop(named, None)
            self.rows[row.id].name = row.name

    def _flush(self, row, lsn, complain):
        if row.a >= lsn:
            complain("a run holds changes up to LSN %d, which is later" % row.a)
        if row.op == RUN_ADDED:
            self.add_run(CRun(row.id, row.owner, row.a, row.b), complain)
            if row.ttl:
                self.hashes[row.id] = row.ttl
        self.any = True
        if row.a > self.flush:
            self.flush = row.a
            for part in (p for r in self.rows.values() for p in r.parts.values()):
                part.missing = part.missing if part.missing > row.a else 0
                part.doubt = part.doubt if part.doubt > row.a else 0

    def add_run(self, run, complain):
        if run.id in self.runs or not run.id or run.level >= 64:
            complain("run %d of level %d is added" % (run.id, run.level))
        self.runs[run.id] = run
        self.next_run = max(self.next_run, run.id + 1)
        self.any = True

    def change(self, run, state, lsn, tables, complain):
        """A STATE run."""
        ident, partition = run.stream, run.partition
        if ident not in self.rows and tables.unsure:
            name = b"lost-%d" % ident
            while self.find(name) is not None:
                name += b"+"
            self.add(Table(CREATE, ident, 0, partition + 1, 0, 0, 0, 0, 0, name), tables)
        row = self.rows.get(ident)
        if row and partition >= row.partitions and tables.unsure:
            if re.fullmatch(rb"lost-[0-9]+\+*", row.name):
                row.partitions = partition + 1
        if not row or partition >= row.partitions:
            complain("table %d has no partition %d" % (ident, partition))
            return
        part = row.part(partition)
        if part.at == lsn:
            complain("table %d partition %d changes twice in a commit" % (ident, partition))
        if run.base != part.commits + 1:
            if not tables.unsure or run.base <= part.commits:
                complain(
                    "table %d partition %d: commit %d after %d"
                    % (ident, partition, run.base, part.commits)
                )
            part.missing = self.lost_end or lsn
        part.doubt, part.commits, part.sum, part.at = 0, run.base, state.sum, lsn

    def doubt(self, processor, partition):
        for row in self.rows.values():
            if self.lost_end and row.owner in (processor, 0) and partition < row.partitions:
                row.part(partition).doubt = self.lost_end

    def forget(self, processor):
        self.rows = {ident: row for ident, row in self.rows.items() if row.owner != processor}

    # ---- CHECKPOINT

    def load(self, run_type, rows, tables, complain):
        keys = [row[:2] if run_type == C_DIGESTS else row.id for row in rows if run_type != C_STATE]
        if keys != sorted(set(keys)):
            complain("%s is not in ascending order" % NAMES[run_type])
        for row in rows:
            if run_type == C_TABLES:
                if row.op != CREATE or (row.owner and row.owner not in tables.processors):
                    complain("C_TABLES has op %d, owner %d" % (row.op, row.owner))
                self.add(row, tables)
            elif run_type == C_DIGESTS:
                if row.table not in self.rows or row.partition >= self.rows[row.table].partitions:
                    complain("C_DIGESTS: table %d has no partition %d" % row[:2])
                    continue
                if row.flags & ~1:
                    tables.refuse("C_DIGESTS flags %#x must be understood to read" % row.flags)
                self.rows[row.table].parts[row.partition] = Part(
                    row.sum, row.commits, bool(row.flags)
                )
            elif run_type == C_RUNS:
                self.add_run(row, complain)
            elif run_type == C_RUN_HASHES:
                if row.id not in self.runs or not row.hash:
                    complain("C_RUN_HASHES has run %d with hash %#x" % row)
                self.hashes[row.id] = row.hash
            else:
                if len(rows) != 1 or row.next_run < self.next_run:
                    complain("C_STATE has %d entries, or a run's id again" % len(rows))
                self.next_run, self.flush, self.replay_max = row
                self.any = True

    def check_loaded(self, lsn, complain):
        if self.flush >= lsn or any(run.flush > self.flush for run in self.runs.values()):
            complain("a CHECKPOINT's runs hold later changes")

    def compare(self, old, lsn, unsure):
        """What a CHECKPOINT, whose tables these are, says of what was lost before it."""
        self.clock = max(self.clock, old.clock)
        lost_end = (old.lost_end or lsn) if unsure else 0
        for ident, run in self.runs.items():
            if ident not in self.hashes and ident in old.hashes and run == old.runs[ident]:
                self.hashes[ident] = old.hashes[ident]
        for ident, row in self.rows.items():
            before = old.rows.get(ident)
            for partition in range(row.partitions):
                part = row.part(partition)
                known = before.part(partition) if before else Part()
                missing = known.missing
                if part.commits > known.commits:
                    missing = max(missing, lost_end)
                part.missing = missing if missing > self.flush else 0

    def digest_of_all(self):
        """For comparing."""
        return {
            "tables": {
                ident: (row.name, row.owner, row.partitions, row.version, row.flags, row.ttl)
                for ident, row in self.rows.items()
            },
            "partitions": {
                (ident, partition): (*part.sum, part.commits, part.unknown())
                for ident, row in self.rows.items()
                for partition, part in row.parts.items()
                if part.commits or part.unknown()
            },
            "runs": self.runs,
            "hashes": self.hashes,
            "next": (self.next_table, self.next_run, self.flush) if self.any else None,
        }

    def differences(self, other):
        mine, theirs = self.digest_of_all(), other.digest_of_all()
        # earlier versions leave hashes out
        theirs["hashes"] = {**self.hashes, **other.hashes}
        for name in mine:
            if mine[name] != theirs[name]:
                yield "state's %s are %s in the checkpoint and %s by the log" % (
                    name,
                    theirs[name],
                    mine[name],
                )

    def copy(self):
        return copy.deepcopy(self)

    def to_json(self, processor_name, text):
        return {
            text(row.name): {
                "id": ident,
                "owner": processor_name(row.owner) if row.owner else None,
                "partitions": [
                    {
                        "pairs": row.part(p).sum.pairs,
                        "bytes": row.part(p).sum.bytes,
                        "digest": "%016x%016x" % (row.part(p).sum.high, row.part(p).sum.low),
                        "commits": row.part(p).commits,
                        "lost": row.part(p).unknown(),
                    }
                    for p in range(row.partitions)
                ],
                "version": row.version,
                "ttl_ms": row.ttl,
            }
            for ident, row in sorted(self.rows.items())
        }
