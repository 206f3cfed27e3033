# SPDX-License-Identifier: Apache-2.0
"""The tables that a log's COMMIT frames build up, and the rules that they must keep (docs/format.md, section 5)."""

import copy
import re
from dataclasses import dataclass

import pawl_frames as f
import pawl_state as st


@dataclass
class ProducerRow:
    name: bytes
    epoch: int = 0
    last: int = 0
    stream: int = 0
    partition: int = 0
    offset: int = 0
    cookie: bytes = b""


class Tables:
    """Tables at one LSN.

    `unsure` is set behind a LOST frame: transactions are missing there, so bases and intervals may
    jump forward, and ids may appear that no known CATALOG entry made: they are named lost-N
    (section 9). The next CHECKPOINT, which was written from whole tables, ends that.
    """

    def __init__(self):
        self.streams = {}  # id -> (name, partitions)
        self.ids = [1, 1, 1]  # the next stream, producer and processor
        self.commits = self.changes = 0
        self.counted = False  # these two are known
        self.knew = False  # and were before the last frame
        self.area = 0  # bytes of the LOST frames just passed
        self.area_open = False  # nothing followed one of them when it was repaired
        self.losses = []  # (commits, changes) of lost areas; None: unknown
        self.next = {}  # (stream, partition) -> next offset, only if above 0
        self.producers = {}  # id -> ProducerRow
        self.processors = {}  # id -> name
        self.positions = {}  # (processor, stream, partition) -> position
        self.settings = (0, 0, 0)
        self.sinks = set()  # (processor, name)
        self.spans = {}  # segment -> oldest segment that its commits refer to
        self.st = st.StateTables()
        self.processor_names = {}  # every id ever seen, the forgotten ones too
        self.unsure = False
        self.settled = set()

    def lose(self, size, open_end):
        self.unsure = True
        self.area += size
        self.area_open |= open_end

    def begin_lost(self, ids, segment):
        """The oldest segment has lost its CHECKPOINT: its header says where the ids stand."""
        self.unsure = True
        if ids and ids.stream:
            self._take_ids(ids)
        elif segment:
            self.ids = [(1 << 24) + 1] * 3
            self.st.next_table = (1 << 24) + 1
        if self.st.next_table > 1:
            self.st.next_run = (1 << 24) + 1

    def _take_ids(self, row):
        self.ids = [row.stream, row.producer, row.processor]
        self.st.next_table = max(row.table, 1)
        self.st.any = self.st.any or row.table > 1
        self.commits, self.changes, self.counted = row.commits, row.changes, True

    # ---- Counts

    def count(self, frame, counts, body_of, complain):
        """Compare a frame's counts with what was read, and draw the conclusions of section 9."""
        if frame.kind == f.LOST:
            return
        area, self.area, open_end, self.area_open = self.area, 0, self.area_open, False
        if not counts:
            self.counted = False
            if area:
                self._lost(None, area, frame.lsn)
            return
        stated = None
        for run in frame.runs:
            if frame.kind == f.CHECKPOINT and run.type == f.C_IDS:
                stated = f.entries(run, body_of(run))[0]
        said = (frame.flags >> 12 & 0xFFF, frame.flags >> 24)
        if stated and said != (stated.commits % 4096, stated.changes % 256):
            complain("C_IDS counts otherwise than its frame")
        ahead = ((said[0] - self.commits) % 4096, (said[1] - self.changes) % 256)
        if stated:
            ahead = (stated.commits - self.commits, stated.changes - self.changes)
        known, self.counted = self.counted, True
        self.knew = known
        if known and not self.unsure and ahead != (0, 0):
            complain("%d commits and %d changes are missing before it" % ahead)
        exact = known and not open_end and (area < 524288 or stated)
        if area or (known and ahead != (0, 0)):
            self._lost(ahead if exact else None, area, frame.lsn)
        if known:
            self.commits, self.changes = self.commits + ahead[0], self.changes + ahead[1]
        else:
            self.commits, self.changes = said

    def _lost(self, ahead, area, lsn):
        self.losses.append(ahead)
        self.st.lose(ahead[0] if ahead else None, area, lsn)
        self.ids = [number + (ahead[1] if ahead else area // 24) for number in self.ids]

    # ---- COMMIT ------------------------------------------------------------------------------------------------------

    def apply(self, frame, segment, body_of, complain):
        """Apply a COMMIT. `body_of(run)` gives a run's bytes; `complain(text)` takes what breaks a rule.

        Nothing stops at a broken rule: the commit's own word is taken, so that one fault is reported once.
        """
        parsed = []
        for number, run in enumerate(frame.runs):
            if run.type in f.RUNS_OF_KIND[f.COMMIT] - {f.RECORDS, f.SPILLED}:
                try:
                    parsed.append((run, f.entries(run, body_of(run))))
                except f.FormatError as error:
                    complain("run %d: %s" % (number, error))
        for run, rows in parsed:
            if run.type == f.CATALOG:
                for row in rows:
                    self._apply_catalog(row, complain)
        for run, rows in parsed:
            for row in rows if run.type == st.TABLES else ():
                self.st.apply(row, frame.lsn, self, complain)
        for run in frame.runs:
            if run.type in (f.RECORDS, f.SPILLED):
                self._apply_records(run, complain)
        self.commits += 1
        self.changes += sum(run.count for run in frame.runs if run.type == f.CATALOG)
        first = next((r for r in frame.runs if r.type in (f.RECORDS, f.SPILLED)), None)
        answer = (first.stream, first.partition, first.base) if first else (0, 0, 0)
        for run, rows in parsed:
            for row in rows:
                if run.type == f.POSITIONS:
                    self._apply_position(row, complain)
                elif run.type == f.PRODUCERS:
                    self._apply_producer(row, answer, complain)
                elif run.type == f.SINKS:
                    self._apply_sink(row, complain)
                elif run.type == f.STATE:
                    self.st.change(run, row, frame.lsn, self, complain)
        self.st.note_time(frame.time)

    def span(self, segment, referred):
        if referred < segment:
            self.spans[segment] = min(self.spans.get(segment, referred), referred)

    def _apply_catalog(self, row, complain):
        if row.op not in range(1, 10):
            raise f.CannotOpen("version", "CATALOG op %d must be understood to read" % row.op)
        if row.op in (1, 2, 3):
            self._create(row, complain)
        elif row.op == 4:
            if row.id not in self.processors and not self.unsure:
                complain("processor %d is forgotten but was not there" % row.id)
            self._end(3, row.id)
        elif row.op == 8:
            if row.a or row.b or row.name:
                complain("CATALOG op 8 with a = %d, b = %d or a name" % (row.a, row.b))
            if row.id not in self.streams and not self.unsure:
                complain("stream %d is deleted but was not there" % row.id)
            self._end(1, row.id)
        elif row.op == 9:
            self._rename(row, complain)
        else:
            if row.id or row.name:
                complain("CATALOG op %d with an id or a name" % row.op)
            if row.op == 5:
                self.settings = (row.a, row.b, self.settings[2])
            elif row.op == 7:
                if row.b:
                    complain("CATALOG op 7 with b = %d" % row.b)
            else:
                if row.a > 1 or row.b:
                    complain("CATALOG op 6 with a = %d, b = %d" % (row.a, row.b))
                self.settings = self.settings[:2] + (row.a & 1,)

    def _table(self, kind):
        return (self.streams, self.producers, self.processors)[kind - 1]

    def _find(self, kind, name):
        for ident, value in self._table(kind).items():
            if self._name(kind, value) == name:
                return ident
        return None

    def _end(self, kind, ident):
        """What has the id is there no more, and what hangs on it neither."""
        self._table(kind).pop(ident, None)
        if kind == 1:
            self.next = {key: offset for key, offset in self.next.items() if key[0] != ident}
            self.positions = {key: at for key, at in self.positions.items() if key[1] != ident}
        elif kind == 3:
            self.positions = {key: at for key, at in self.positions.items() if key[0] != ident}
            self.st.forget(ident)

    def _create(self, row, complain):
        what = ("stream", "producer", "processor")[row.op - 1]
        table = self._table(row.op)
        if not row.id:
            complain("a %s with id 0" % what)
        for older in (row.id, self._find(row.op, row.name)):
            if older in table and self.unsure:
                self._end(row.op, older)  # the change that ended it was lost
            elif older in table:
                word = "id %d" % row.id if older == row.id else "name %r" % row.name
                complain("%s %s is used twice" % (what, word))
        if row.b or (row.op != 1 and row.a):
            complain("CATALOG op %d with a = %d, b = %d" % (row.op, row.a, row.b))
        if row.op == 1 and not row.a:
            complain("stream %r has no partitions" % row.name)
        again = row.id < self.ids[row.op - 1] and not self.unsure
        if again and (row.op != 3 or self.counted):
            complain("%s id %d is used again" % (what, row.id))
        self._add(row.op, row.id, row.name, row.a)

    def _add(self, kind, ident, name, partitions=0):
        self.ids[kind - 1] = max(self.ids[kind - 1], ident + 1)
        if kind == 1:
            self.streams[ident] = (name, partitions)
        elif kind == 2:
            self.producers[ident] = ProducerRow(name)
        else:
            self.processors[ident] = self.processor_names[ident] = name

    def _rename(self, row, complain):
        if row.a not in (1, 2, 3) or row.b or not row.name:
            complain("CATALOG op 9 with a = %d, b = %d, name %r" % (row.a, row.b, row.name))
            return
        table = self._table(row.a)
        if row.id not in table:
            if not self.unsure:
                complain("id %d is renamed but was not there" % row.id)
            return
        if self._find(row.a, row.name) not in (None, row.id):
            complain("a rename to %r, which is there" % row.name)
        if row.a == 1:
            table[row.id] = (row.name, table[row.id][1])
        elif row.a == 2:
            table[row.id].name = row.name
        else:
            table[row.id] = self.processor_names[row.id] = row.name

    def _lost_name(self, kind, ident):
        name = b"lost-%d" % ident
        while self._find(kind, name) is not None:
            name += b"+"
        return name

    def _unnamed(self, kind, ident):
        """After damage, an id that no change has made."""
        if ident not in self._table(kind):
            self._add(kind, ident, self._lost_name(kind, ident), 1)

    @staticmethod
    def _name(op, value):
        return value[0] if op == 1 else value.name if op == 2 else value

    def _known_partition(self, stream, partition, complain):
        if stream not in self.streams and not self.unsure:
            complain("stream %d is unknown" % stream)
        elif stream not in self.streams or partition >= self.streams[stream][1]:
            if self.unsure:
                self._unnamed(1, stream)
            name, _ = self.streams[stream]
            if self.unsure and re.fullmatch(rb"lost-[0-9]+\+*", name):
                self.streams[stream] = (name, max(partition + 1, self.streams[stream][1]))
            else:
                complain("stream %d has no partition %d" % (stream, partition))

    def _apply_records(self, run, complain):
        self._known_partition(run.stream, run.partition, complain)
        key = (run.stream, run.partition)
        expected = self.next.get(key, 0)
        jump = self.unsure
        if run.base != expected and not (jump and run.base > expected):
            complain(
                "%s base %d of stream %d partition %d instead of %d"
                % (run.name, run.base, *key, expected)
            )
        if run.base + run.count:
            self.next[key] = run.base + run.count

    def _apply_position(self, row, complain):
        key = row[:3]
        self._known_partition(row.stream, row.partition, complain)
        if row.processor not in self.processors and not self.unsure:
            complain("processor %d is unknown" % row.processor)
        if self.unsure:
            self._unnamed(3, row.processor)
        expected = self.positions.get(key)
        jump = self.unsure
        if row.first > row.end:
            complain("a position interval from %d to %d" % (row.first, row.end))
        if expected is not None and row.first != expected and not (jump and row.first > expected):
            complain(
                "position interval of processor %d, stream %d partition %d from %d instead of %d"
                % (*key, row.first, expected)
            )
        if self.unsure and row.first != (expected or 0):
            self.st.doubt(row.processor, row.partition)
        if self.unsure and row.end > self.next.get(key[1:], 0):
            self.next[key[1:]] = row.end  # what was consumed was there
        self.positions[key] = row.end

    def _apply_producer(self, row, answer, complain):
        known = self.producers.get(row.id)
        if known is None:
            if not self.unsure:
                complain("producer %d is unknown" % row.id)
            self._unnamed(2, row.id)
            known = self.producers[row.id]
        jump = self.unsure
        if row.first != known.last + 1 and not (jump and row.first > known.last + 1):
            complain(
                "sequences of producer %d begin at %d instead of %d"
                % (row.id, row.first, known.last + 1)
            )
        if row.first > row.last + 1:
            complain("sequences of producer %d from %d to %d" % (row.id, row.first, row.last))
        if row.epoch < known.epoch:
            complain("epoch of producer %d falls from %d to %d" % (row.id, known.epoch, row.epoch))
        known.epoch = row.epoch
        # A new holder brings no sequences: the answer and cookie belong to the last sequence and stay.
        if row.first <= row.last:
            known.last = row.last
            known.stream, known.partition, known.offset = answer
            known.cookie = row.cookie

    def _apply_sink(self, row, complain):
        key = (row.processor, row.name)
        if row.processor not in self.processors and not self.unsure:
            complain("processor %d is unknown" % row.processor)
        if row.op == 1:
            if self.unsure:
                self._unnamed(3, row.processor)
            if key in self.sinks:
                complain("sink transaction %r is decided twice" % row.name)
            self.sinks.add(key)
        elif row.op == 2:
            if key not in self.sinks and not self.unsure:
                complain("sink transaction %r is finished but was not decided" % row.name)
            self.sinks.discard(key)
        else:
            raise f.CannotOpen("version", "SINKS op %d must be understood to read" % row.op)

    def unnamed_processor(self, ident):
        if self.unsure:
            self._unnamed(3, ident)

    @staticmethod
    def refuse(text):
        raise f.CannotOpen("version", text)

    # ---- CHECKPOINT --------------------------------------------------------------------------------------------------

    @classmethod
    def of_checkpoint(cls, frame, body_of, complain):
        """The tables that a CHECKPOINT holds."""
        new, seen = cls(), set()
        for number, run in enumerate(frame.runs):
            if run.type not in f.RUNS_OF_KIND[f.CHECKPOINT]:
                continue
            if run.type in seen:
                complain("two %s runs in a CHECKPOINT" % run.name)
            seen.add(run.type)
            try:
                rows = f.entries(run, body_of(run))
            except f.FormatError as error:
                complain("run %d: %s" % (number, error))
                continue
            if run.type in st.NAMES:
                new.st.load(run.type, rows, new, complain)
            else:
                new._load(run, rows, complain)
        new.st.check_loaded(frame.lsn, complain)
        new.st.note_time(frame.time)
        return new

    def _load(self, run, rows, complain):
        ids = {
            f.C_STREAMS: 1,
            f.C_NEXT: 2,
            f.C_PRODUCERS: 1,
            f.C_PROCESSORS: 1,
            f.C_POSITIONS: 3,
            f.C_SINKS: 1,
            f.C_SPANS: 1,
            f.C_IDS: 6,
        }.get(run.type)
        if ids:
            keys = [row[:ids] for row in rows]
            ordered = sorted(keys) if run.type == f.C_SINKS else sorted(set(keys))
            if keys != ordered:
                complain("%s is not in ascending order" % run.name)
        elif len(rows) != 1:
            complain("C_SETTINGS has %d entries" % len(rows))
        for row in rows:
            if run.type == f.C_IDS:
                if [row.stream, row.producer, row.processor] < self.ids or len(rows) != 1:
                    complain("C_IDS has ids that are used, or %d entries" % len(rows))
                if max(row.table, 1) < self.st.next_table:
                    complain("C_IDS has a table's id that is used")
                self._take_ids(row)
            elif run.type == f.C_STREAMS:
                self.ids[0] = max(self.ids[0], row.id + 1)
                if row.partitions:
                    self.streams[row.id] = (row.name, row.partitions)
                elif row.name or row is not rows[-1]:
                    complain("C_STREAMS has a deleted stream with a name, or before others")
            elif run.type == f.C_NEXT:
                if row.next:
                    self.next[row.stream, row.partition] = row.next
            elif run.type == f.C_PRODUCERS:
                self.ids[1] = max(self.ids[1], row.id + 1)
                self.producers[row.id] = ProducerRow(
                    row.name, row.epoch, row.last, row.stream, row.partition, row.offset, row.cookie
                )
            elif run.type == f.C_PROCESSORS:
                self.ids[2] = max(self.ids[2], row.id + 1)
                self.processors[row.id] = self.processor_names[row.id] = row.name
            elif run.type == f.C_POSITIONS:
                self.positions[row[:3]] = row.position
            elif run.type == f.C_SETTINGS:
                self.settings = tuple(row)
            elif run.type == f.C_SINKS:
                self.sinks.add((row.processor, row.name))
            elif run.type == f.C_SPANS:
                self.spans[row.segment] = row.oldest
                if row.oldest >= row.segment:
                    complain(
                        "C_SPANS says that segment %d refers to segment %d"
                        % (row.segment, row.oldest)
                    )

    def differences(self, other, oldest_kept):
        """How `other`, a CHECKPOINT's tables, differ from these.

        Spans of segments that retention has deleted since are left out, for the checkpoint knew them and these may not.
        """
        for name in ("streams", "next", "producers", "processors", "positions"):
            mine, theirs = getattr(self, name), getattr(other, name)
            for key in sorted(set(mine) | set(theirs)):
                if mine.get(key) != theirs.get(key):
                    yield "%s %s is %s in the checkpoint and %s by the log" % (
                        name,
                        key,
                        theirs.get(key),
                        mine.get(key),
                    )
        yield from self.st.differences(other.st)
        both = self.knew and other.counted
        mine = (self.ids, self.commits, self.changes) if both else self.ids[0]
        theirs = (other.ids, other.commits, other.changes) if both else other.ids[0]
        if mine != theirs:
            yield "the next ids are %s in the checkpoint and %s by the log" % (theirs, mine)
        if self.settings != other.settings:
            yield "settings are %s in the checkpoint and %s by the log" % (
                other.settings,
                self.settings,
            )
        if self.sinks != other.sinks:
            yield "sinks are %s in the checkpoint and %s by the log" % (
                sorted(other.sinks),
                sorted(self.sinks),
            )
        mine = {k: v for k, v in self.spans.items() if k >= oldest_kept}
        theirs = {k: v for k, v in other.spans.items() if k >= oldest_kept}
        if mine != theirs:
            yield "spans are %s in the checkpoint and %s by the log" % (theirs, mine)

    def steps_back(self, other):
        """Where `other`, a CHECKPOINT's tables behind a LOST frame, fall below what these already reached."""
        for name in ("next", "positions"):
            theirs = getattr(other, name)
            for key, value in sorted(getattr(self, name).items()):
                if key in theirs and theirs[key] < value:
                    yield "%s %s is %d in the checkpoint and already %d by the log" % (
                        name,
                        key,
                        theirs[key],
                        value,
                    )

    def adopt(self, other, lsn, first):
        """Take over a CHECKPOINT's tables; what no checkpoint holds stays."""
        if not first:
            other.st.compare(self.st, lsn, self.unsure)
        kept = {
            "processor_names": {**self.processor_names, **other.processor_names},
            "losses": self.losses,
        }
        self.__dict__.update(copy.deepcopy(other.__dict__))
        self.__dict__.update(kept)

    # ---- For people --------------------------------------------------------------------------------------------------

    def stream_id(self, name):
        for ident, (known, _) in self.streams.items():
            if known == name:
                return ident
        return None

    def to_json(self):
        streams = {
            text(name): {
                "id": ident,
                "partitions": partitions,
                "next": [self.next.get((ident, p), 0) for p in range(partitions)],
            }
            for ident, (name, partitions) in self.streams.items()
        }
        producers = {
            text(row.name): {
                "id": ident,
                "epoch": row.epoch,
                "last": row.last,
                "answer": (
                    {
                        "stream": self.stream_name(row.stream),
                        "partition": row.partition,
                        "offset": row.offset,
                    }
                    if row.stream
                    else None
                ),
                "cookie": row.cookie.hex(),
            }
            for ident, row in self.producers.items()
        }
        processors = {}
        for ident, name in self.processors.items():
            mine = {}
            for (processor, stream, partition), position in self.positions.items():
                if processor == ident:
                    mine.setdefault(self.stream_name(stream), {})[str(partition)] = position
            processors[text(name)] = {"id": ident, "positions": mine}
        retain_bytes, retain_ms, flags = self.settings
        return {
            "streams": streams,
            "producers": producers,
            "processors": processors,
            "settings": {
                "retain_bytes": retain_bytes,
                "retain_ms": retain_ms,
                "drop_consumed": bool(flags & 1),
            },
            "sinks": sorted([self.processor_name(p), text(name)] for p, name in self.sinks),
            "spans": {str(k): v for k, v in self.spans.items()},
            "tables": self.st.to_json(self.processor_name, text),
            "ids": self.ids + [self.commits, self.changes] if self.counted else None,
        }

    def stream_name(self, ident):
        return text(self.streams[ident][0]) if ident in self.streams else "#%d" % ident

    def processor_name(self, ident):
        return text(self.processor_names[ident]) if ident in self.processor_names else "#%d" % ident


def text(name):
    """A name for people: UTF-8, with other bytes escaped."""
    return "?" if name is None else name.decode("utf-8", "backslashreplace")
