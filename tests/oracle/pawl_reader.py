# SPDX-License-Identifier: Apache-2.0
"""A reader of logs, written from docs/format.md alone: it walks the frames, finds the end and checks every rule.

log = Log.open("dir")      # raises CannotOpen if the log must be refused
log.end                    # where the chain ends and why
log.problems, log.notes    # what breaks a rule; what is worth saying and breaks none
log.read(b"stream")        # records
"""

import bisect
import mmap
import os
import re
from collections import Counter, namedtuple
from dataclasses import dataclass

import pawl_frames as f
from pawl_frames import CannotOpen
from pawl_tables import Tables, text
from xxh3 import xxh3_64

NAME = re.compile(r"[0-9a-f]{16}\.seg")

Problem = namedtuple("Problem", "kind segment lsn text")  # kind: "damaged", "invalid" or "header"
Placed = namedtuple(
    "Placed", "base count commit lsn length"
)  # a run's records: bytes at `lsn`, or None if they are gone


@dataclass
class End:
    """`status` is "clean", "torn" or "damaged"; `lsn` is where the chain ends, or the damage begins."""

    status: str
    lsn: int
    witness: int = None
    reason: str = ""


class SegmentFile:
    """One segment's bytes, mapped read-only."""

    def __init__(self, path, index):
        self.index = index
        self.header = None
        self.bad_copies = []
        with open(path, "rb") as stream:
            self.size = os.fstat(stream.fileno()).st_size
            self.data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if self.size else b""
        self._read_header()

    def _read_header(self):
        copies = [
            f.parse_segment_block(self.data[at : at + f.BLOCK], self.index) for at in (0, f.BLOCK)
        ]
        for header, _ in copies:
            if header:
                self.header = header
                break
        if self.header is None:
            return
        for number, (header, reason) in enumerate(copies):
            if header is None:
                self.bad_copies.append("block %d is not a valid header: %s" % (number, reason))
        if not self.bad_copies and self.data[: f.BLOCK] != self.data[f.BLOCK : 2 * f.BLOCK]:
            self.bad_copies.append("blocks 0 and 1 are both valid and differ")

    def close(self):
        if self.size:
            self.data.close()


class Log:
    """A log directory, read whole when it is opened. Nothing is ever written."""

    def __init__(self, directory):
        self.directory = directory
        self.files = {}
        self.begun = []
        self.problems = []
        self.notes = []
        self.frames = []
        self.kinds = Counter()
        self.tables = Tables()
        self.placed = {}  # (stream, partition) -> [Placed], in offset order
        self.commits = {}  # LSN -> frame
        self.spills = {}  # LSN -> frame
        self.lost = []  # (first, end) of LOST frames
        self.record_count = 0
        self.end = None

    @classmethod
    def open(cls, directory):
        log = cls(directory)
        try:
            log._find()
            log._walk()
        except BaseException:
            log.close()
            raise
        return log

    def close(self):
        for file in self.files.values():
            file.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    @property
    def verdict(self):
        """ "damaged", "invalid", "torn" or "ok": the worst that is to be said of the log."""
        if self.end.status == "damaged":
            return "damaged"
        if any(problem.kind == "invalid" for problem in self.problems):
            return "invalid"
        return "torn" if self.end.status == "torn" else "ok"

    def _problem(self, kind, lsn, message):
        self.problems.append(Problem(kind, lsn // self.size, lsn, message))

    # ---- The directory -----------------------------------------------------------------------------------------------

    def _find(self):
        try:
            names = sorted(name for name in os.listdir(self.directory) if NAME.fullmatch(name))
            for name in names:
                index = int(name[:16], 16)
                self.files[index] = SegmentFile(os.path.join(self.directory, name), index)
        except OSError as error:
            raise CannotOpen("absent", str(error)) from error
        self.begun = sorted(index for index, file in self.files.items() if file.header)
        if not self.begun:
            raise CannotOpen("absent", "no segment with a valid header")
        headers = [self.files[index].header for index in self.begun]
        if len({header.log_id for header in headers}) > 1:
            raise CannotOpen("foreign", "segments of different logs")
        if len({header.segment_size for header in headers}) > 1:
            raise CannotOpen("invalid", "segments of different sizes")
        for header in headers:
            for need in f.header_needs(header):
                if need.to == "read":
                    raise CannotOpen("version", need.text)
        # A writer judges the newest header, and the frames from the newest checkpoint on.
        self.not_for_writing = [need.text for need in f.header_needs(headers[-1])]
        self.log_id = headers[0].log_id
        self.size = headers[0].segment_size
        for index in self.begun:
            file = self.files[index]
            for message in file.bad_copies:
                base = index * self.size
                if (
                    index == self.begun[-1]
                    and self._witness(file.data, base, base, index, 0) is None
                ):
                    self.notes.append(
                        "segment %d: %s: its beginning was cut off" % (index, message)
                    )
                else:
                    self._problem("header", base, message)
            if file.size != self.size:
                self._problem(
                    "invalid",
                    index * self.size,
                    "the file has %d bytes instead of %d" % (file.size, self.size),
                )
            if not index and (file.header.link or file.header.seal_lsn):
                self._problem("invalid", 0, "segment 0 has a link or a seal LSN")

    # ---- The chain ---------------------------------------------------------------------------------------------------

    def _keys(self, segment):
        """What the frames of a segment may be hashed with: of a begun one, its own key; of the file
        after the newest, the key that it would have got."""
        header = self.files[segment].header
        return f.own_keys(header) if header else f.following_keys(self.files[self.begun[-1]].header)

    def _frame_at(self, lsn):
        """The good frame at an LSN of a begun segment, or None."""
        segment = lsn // self.size
        return f.parse_frame(
            self.files[segment].data,
            lsn % self.size,
            lsn,
            (segment + 1) * self.size,
            self._keys(segment)[0],
        )

    @staticmethod
    def _follows(frame, before):
        if frame.link != before.next_link:
            return False
        if frame.epoch == before.epoch:
            return True
        # The frames that a LOST frame covers may have begun an incarnation, so what is behind it may be newer.
        return frame.epoch > before.epoch and (
            frame.kind in (f.OPEN, f.CHECKPOINT, f.SEAL) or before.kind == f.LOST
        )

    def _next(self, before):
        """The frame behind `before` in its segment by rules 2 to 4, or None."""
        segment_end = (before.lsn // self.size + 1) * self.size
        p = before.end
        if p < segment_end:
            frame = self._frame_at(p)
            if frame and self._follows(frame, before):
                return frame
        q = f.align(p, f.BLOCK)
        if p < q < segment_end:
            frame = self._frame_at(q)
            if frame and self._follows(frame, before):
                base = p // self.size * self.size
                data = self.files[p // self.size].data
                newer = frame.kind in (f.OPEN, f.SEAL) and frame.epoch > before.epoch
                if newer or f.nonzero_at(data, p - base, q - base) is None:
                    return frame
        return None

    def _first(self, index, before):
        """The first frame of a segment, or None. `before` is the last frame of the segment before, if that is kept."""
        frame = self._frame_at(index * self.size + f.FIRST_FRAME)
        if frame is None or frame.kind not in (f.CHECKPOINT, f.LOST):
            return None
        if frame.link != self.files[index].header.link:
            return None
        if before and not self._follows(frame, before):
            return None
        return frame

    def _walk(self):
        before = None
        for number, index in enumerate(self.begun):
            start = index * self.size
            header = self.files[index].header
            if number and index != self.begun[number - 1] + 1:
                self._damage(
                    (self.begun[number - 1] + 1) * self.size,
                    None,
                    "no segment with a valid header here",
                )
                return
            if before and not self._joins(header, before):
                self._damage(
                    start, None, "the header's link or seal LSN is not that of the segment before"
                )
                return
            newest = index == self.begun[-1]
            frame = self._first(index, before)
            end = start + f.FIRST_FRAME
            segment = SegmentState(self, index)
            while frame:
                segment.accept(frame, before)
                before, end = frame, frame.end
                if frame.kind == f.SEAL:
                    break
                frame = self._next(frame)
            sealed = (
                before
                and before.lsn >= start
                and (before.kind == f.SEAL or (before.kind == f.LOST and end == start + self.size))
            )
            if not sealed:
                self._finish(index, end, before, newest)
                return
        self._finish_sealed(before)

    def _joins(self, header, before):
        if header.epoch < before.epoch and before.kind != f.LOST:
            return False
        return header.link == before.next_link and (
            header.seal_lsn == before.lsn or before.kind == f.LOST
        )

    def _damage(self, lsn, witness, reason):
        self.end = End("damaged", lsn, witness, reason)
        self._problem("damaged", lsn, reason)

    def _witness(self, data, first, p, segment, epoch):
        """The first witness at a multiple of 8 from `first` on, an LSN of `segment` whose bytes are `data`."""
        base = segment * self.size
        at = data.find(f.FRAME_MAGIC, first - base)
        while at >= 0:
            if at % 8 == 0:
                for key in self._keys(segment):
                    frame = f.parse_frame_header(data, at, base + at, base + self.size, key)
                    if frame and frame.epoch >= epoch and frame.durable > p:
                        return base + at
            at = data.find(f.FRAME_MAGIC, at + 1)
        return None

    def _finish(self, index, p, before, newest):
        """The chain ends at `p` in a segment without reaching a SEAL."""
        if not newest:
            self._damage(p, None, "the chain ends before the segment's SEAL")
            return
        data = self.files[index].data
        epoch = before.epoch if before else self.files[index].header.epoch
        # The padding behind the last frame is durable with its group: a frame that knows no more than that vouches for nothing.
        known, base = (p + f.BLOCK - 1) // f.BLOCK * f.BLOCK, index * self.size
        if f.nonzero_at(data, p - base, known - base) is not None:
            known = p
        # The header and the first frame are written together: whoever knew any of it knew all, in any epoch.
        durable, epoch = (known, epoch) if before else (base, 0)
        witness = self._witness(data, known + 8, durable, index, epoch)
        if witness is not None:
            self._damage(
                p, witness, "a later frame at LSN %d says that these bytes were durable" % witness
            )
            return
        rest = f.nonzero_at(data, p - base, self.size)
        closed = before is not None and before.kind == f.CLOSE
        if rest is None or closed:
            self.end = End("clean", p)
        else:
            self.end = End(
                "torn", p, None, "bytes from LSN %d on that no frame vouches for" % (base + rest)
            )

    def _finish_sealed(self, seal):
        """The newest begun segment is sealed: what comes behind must not have been begun."""
        for index in sorted(index for index in self.files if index > self.begun[-1]):
            p = index * self.size
            witness = self._witness(self.files[index].data, p, p, index, seal.epoch)
            if witness is not None:
                self._damage(
                    p, witness, "the header is damaged, for a frame at LSN %d was written" % witness
                )
                return
        self.end = End("clean", seal.end)

    # ---- What was read -----------------------------------------------------------------------------------------------

    def bytes_at(self, lsn, length):
        data = self.files[lsn // self.size].data
        return data[lsn % self.size : lsn % self.size + length]

    def run_bytes(self, frame, run):
        return self.bytes_at(frame.body_lsn + run.start, run.length)

    def partitions(self, stream):
        """The partitions of a stream by its name (bytes), or None if there is no such stream."""
        ident = self.tables.stream_id(stream)
        return None if ident is None else self.tables.streams[ident][1]

    def read(self, stream, partition=0, start=0):
        """(offset, record) of a partition from an offset on. What retention or damage took is left out."""
        ident = self.tables.stream_id(stream)
        for run in self.placed.get((ident, partition), ()):
            if run.base + run.count <= start or run.lsn is None:
                continue
            for offset, record in enumerate(
                f.records(self.bytes_at(run.lsn, run.length), run.count), run.base
            ):
                if offset >= start:
                    yield offset, record

    def explain(self, stream, partition, offset):
        """What is known of the commit that holds a record, or None."""
        runs = self.placed.get((self.tables.stream_id(stream), partition), [])
        at = bisect.bisect_right([run.base for run in runs], offset) - 1
        if at < 0 or offset >= runs[at].base + runs[at].count:
            return None
        run = runs[at]
        frame = self.commits[run.commit]
        tables, positions, producers = self.tables, [], []
        for entry in frame.runs:
            if entry.type == f.POSITIONS:
                positions += [
                    {
                        "processor": tables.processor_name(row.processor),
                        "stream": tables.stream_name(row.stream),
                        "partition": row.partition,
                        "from": row.first,
                        "to": row.end,
                    }
                    for row in f.entries(entry, self.run_bytes(frame, entry))
                ]
            elif entry.type == f.PRODUCERS:
                for row in f.entries(entry, self.run_bytes(frame, entry)):
                    known = tables.producers.get(row.id)
                    producers.append(
                        {
                            "producer": text(known.name) if known else "#%d" % row.id,
                            "epoch": row.epoch,
                            "first": row.first,
                            "last": row.last,
                            "cookie": row.cookie.hex(),
                        }
                    )
        return {
            "stream": text(stream),
            "partition": partition,
            "offset": offset,
            "commit_lsn": frame.lsn,
            "epoch": frame.epoch,
            "time": frame.time,
            "base": run.base,
            "count": run.count,
            "gone": run.lsn is None,
            "positions": positions,
            "producers": producers,
            "outside": self._outside(frame, self.tables.stream_id(stream), partition, offset),
        }

    def _outside(self, frame, stream, partition, offset):
        """Where outside the log a record of a COMMIT was read, or None."""
        taken = {}  # (stream, partition) -> the offset of its next record that an origin covers
        for run in reversed(frame.runs):
            if run.type in (f.RECORDS, f.SPILLED):
                taken[run.stream, run.partition] = run.base
        for run in frame.runs:
            if run.type != f.ORIGINS:
                continue
            for row in f.entries(run, self.run_bytes(frame, run)):
                at = row.first
                for number, place in enumerate(f.origin_places(row)):
                    mine = taken[place]
                    taken[place] += 1
                    if row.marks_are == 2:
                        at = row.first + number
                    elif row.marks_are == 3:
                        at = row.marks[number]
                    if place == (stream, partition) and mine == offset:
                        return {
                            "thing": text(row.thing),
                            "note": text(row.note),
                            "from": row.first,
                            "to": row.end,
                            "at": at if row.marks_are else None,
                        }
                    if row.marks_are == 1:
                        name = self.tables.streams[place[0]][0]
                        record = next(r for o, r in self.read(name, place[1], mine) if o == mine)
                        at += len(record.value) + row.step
        return None


class SegmentState:
    """Takes the frames of one segment in order: applies them to the log's tables and checks the rules."""

    def __init__(self, log, index):
        self.log = log
        self.index = index
        self.file_header = log.files[index].header
        self.counts = bool(self.file_header.to_write & f.COUNTS)
        self.run_at = set()  # (stream, partition, base, COMMIT LSN) of every run in the segment

    def accept(self, frame, before):
        log = self.log

        def complain(message):
            log._problem(
                "invalid", frame.lsn, "%s at LSN %d: %s" % (frame.name, frame.lsn, message)
            )

        log.frames.append(frame)
        if frame.kind == f.CHECKPOINT and self.index == log.begun[-1]:
            log.not_for_writing = [need.text for need in f.header_needs(self.file_header)]
        log.not_for_writing += [
            need.text
            for need in f.needs(frame, log.bytes_at(frame.body_lsn, frame.body_length), self.counts)
            if need.to == "write"
        ]
        log.kinds[frame.name] += 1
        try:
            body = log.bytes_at(frame.body_lsn, frame.body_length)
            for message in f.check_frame(frame, body, self.counts):
                complain(message)
        except f.FormatError as error:
            complain(str(error))
            return
        self._check_place(frame, before, complain)
        body_of = lambda run: log.run_bytes(frame, run)
        first = frame.lsn == self.index * log.size + f.FIRST_FRAME
        if first and self.index == log.begun[0] and frame.kind == f.LOST:
            log.tables.begin_lost(self.file_header.ids, self.index)
        log.tables.count(frame, self.counts, body_of, complain)
        if frame.kind == f.COMMIT:
            log.commits[frame.lsn] = frame
            self._place(frame, body_of, complain)
            log.tables.apply(frame, self.index, body_of, complain)
        elif frame.kind == f.SPILL:
            log.spills[frame.lsn] = frame
            for run in frame.runs:
                if run.type == f.RECORDS:
                    self._check_records(run, body_of(run), complain)
        elif frame.kind == f.CHECKPOINT:
            self._checkpoint(frame, before, body_of, complain)
        elif frame.kind == f.SEAL:
            self._check_index(frame, body_of, complain)
        elif frame.kind == f.LOST:
            log.lost.append((frame.lsn, frame.end))
            log.tables.lose(frame.end - frame.lsn, frame.next_link == 0)

    def _check_place(self, frame, before, complain):
        first = self.index * self.log.size + f.FIRST_FRAME
        if frame.kind == f.CHECKPOINT and frame.lsn != first:
            complain("a CHECKPOINT that is not its segment's first frame")
        if frame.lsn == first and frame.epoch < self.file_header.epoch:
            complain("epoch %d is below %d of its segment" % (frame.epoch, self.file_header.epoch))
        # A CHECKPOINT comes before the OPEN where an incarnation begins with a segment.
        if (
            frame.kind == f.OPEN
            and before
            and frame.epoch == before.epoch
            and before.kind not in (f.CHECKPOINT, f.LOST)
        ):
            complain("an OPEN that is not the first of its epoch")

    def _check_records(self, run, data, complain):
        count = 0
        try:
            for _ in f.records(data, run.count):
                count += 1
        except f.FormatError as error:
            complain(str(error))
        return count

    def _place(self, frame, body_of, complain):
        """Note where the records of a COMMIT are."""
        log = self.log
        for run in frame.runs:
            if run.type not in (f.RECORDS, f.SPILLED):
                continue
            key = (run.stream, run.partition)
            self.run_at.add((*key, run.base, frame.lsn))
            if run.type == f.RECORDS:
                self._check_records(run, body_of(run), complain)
                where = (frame.body_lsn + run.start, run.length)
            else:
                where = self._resolve(frame, run, body_of(run), complain)
            log.placed.setdefault(key, []).append(Placed(run.base, run.count, frame.lsn, *where))
            log.record_count += run.count if where[0] is not None else 0

    def _resolve(self, frame, run, data, complain):
        """Where the records are that a SPILLED run refers to."""
        log, gone = self.log, (None, 0)
        try:
            ref = f.spilled(data)
        except f.FormatError as error:
            complain(str(error))
            return gone
        segment = ref.lsn // log.size
        log.tables.span(self.index, segment)
        if segment < log.begun[0]:
            log.notes.append(
                "offsets %d to %d of stream %d partition %d went with segment %d"
                % (run.base, run.base + run.count, run.stream, run.partition, segment)
            )
            return gone
        if any(first <= ref.lsn < end for first, end in log.lost):
            log.notes.append(
                "offsets %d to %d of stream %d partition %d are in damaged bytes"
                % (run.base, run.base + run.count, run.stream, run.partition)
            )
            return gone
        spill = log.spills.get(ref.lsn)
        if spill is None or spill.hash != ref.hash or ref.run >= len(spill.runs):
            complain("no such spilled run: LSN %d, run %d" % (ref.lsn, ref.run))
            return gone
        source = spill.runs[ref.run]
        if source.type != f.RECORDS or (source.stream, source.partition, source.count) != (
            run.stream,
            run.partition,
            run.count,
        ):
            complain("the spilled run at LSN %d is another partition's or count" % ref.lsn)
            return gone
        return spill.body_lsn + source.start, source.length

    def _checkpoint(self, frame, before, body_of, complain):
        log = self.log
        stated = Tables.of_checkpoint(frame, body_of, complain)
        if before is not None:
            if log.tables.unsure:
                # Frames before are missing: the checkpoint knows more, and only stepping back would be wrong.
                for message in log.tables.steps_back(stated):
                    complain(message)
            else:
                for message in log.tables.differences(stated, log.begun[0]):
                    complain(message)
        if self.counts != (stated.counted or (self.counts and not self.index)):
            complain("C_IDS where the segment doesn't count, or none where it does")
        if 0 < stated.st.clock < log.tables.st.clock:
            complain("a CHECKPOINT's time is behind the clock by which pairs expire")
        log.tables.adopt(stated, frame.lsn, before is None)

    def _check_index(self, frame, body_of, complain):
        rows = []
        for run in frame.runs:
            if run.type == f.INDEX:
                try:
                    rows += f.entries(run, body_of(run))
                except f.FormatError as error:
                    complain(str(error))
        if [row.lsn for row in rows] != sorted(row.lsn for row in rows):
            complain("the INDEX is not in ascending LSN order")
        for row in rows:
            hidden = any(first <= row.lsn < end for first, end in self.log.lost)
            if tuple(row) not in self.run_at and not hidden:
                complain(
                    "the INDEX names base %d of stream %d partition %d at LSN %d, which is not there"
                    % (row.base, row.stream, row.partition, row.lsn)
                )
