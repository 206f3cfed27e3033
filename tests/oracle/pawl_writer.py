# SPDX-License-Identifier: Apache-2.0
"""Writes small logs byte by byte, good ones and broken ones, always the same bytes for the same calls.

It shares nothing with the reader but the hash and the rows of tables, so that each can find the other's mistakes. The
segments are held in memory until `save`, and may be damaged before that.

    w = Writer(log_id=bytes(16), time=1_700_000_000_000_000_000)
    t = w.txn()
    t.stream("s", 1)
    t.records("s", 0, [rec(b"one")])
    t.commit()
    w.close()
    w.save("dir")
"""

import copy
import os
import struct
from contextlib import contextmanager

from pawl_pieces import *  # noqa: F403
from pawl_state_writer import TableTxn, WriterTables, checkpoint_runs
from xxh3 import xxh3_64


class State:
    """Everything that a transaction may change, so that a mark can be set and gone back to."""

    def __init__(self):
        self.streams = {}  # name -> (id, partitions)
        self.next = {}  # (stream id, partition) -> offset
        self.producers = {}  # name -> dict
        self.processors = {}  # name -> id
        self.positions = {}  # (processor id, stream id, partition) -> position
        self.tables = WriterTables()
        self.settings = [0, 0, 0]
        self.sinks = []
        self.spans = {}
        self.ids = {"stream": 0, "producer": 0, "processor": 0}
        self.commits = self.changes = 0
        self.counts = 0  # of the next frame, in its flags
        self.shown = []  # (stream name, partition, offset, value, segments that it needs)
        self.index = []  # runs of the segment: (stream id, partition, base, LSN)
        self.frames = []
        self.pos = 0
        self.link = 0
        self.epoch = 1
        self.segment = 0
        self.group_start = None
        self.synced = 0
        self.time = 0


class Writer:
    def __init__(
        self,
        log_id,
        time,
        segment_size=1 << 20,
        step=1000,
        cap=0,
        version=1,
        features=(0, 0, 0),
        opened=True,
        index_every=4,
        settings=(0, 0, 0),
        carried=b"",
        keys=None,
    ):
        self.log_id, self.size, self.step, self.cap = log_id, segment_size, step, cap
        self.version, self.features, self.index_every = version, features, index_every
        self.carried = carried
        if keys:  # the key before, the log's, and the next one
            self._set_keys(*keys)
        self.keys = {}  # segment -> what its frames are hashed with
        self.images = {}
        self.other_files = {}
        self.s = State()
        self.s.time = time
        self.s.settings = list(settings)
        self.auto_sync = True
        self._begin_segment(0, 0)
        if opened:
            self.put(OPEN)
            self.flush()

    # ---- Bytes -----------------------------------------------------------------------------------

    def image(self, index):
        return self.images.setdefault(index, bytearray(self.size))

    def poke(self, lsn, data):
        at = lsn % self.size
        self.image(lsn // self.size)[at : at + len(data)] = data

    def peek(self, lsn, length):
        at = lsn % self.size
        return bytes(self.image(lsn // self.size)[at : at + length])

    def zero(self, lsn, end):
        self.poke(lsn, bytes(end - lsn))

    def flip(self, lsn, mask=1):
        self.image(lsn // self.size)[lsn % self.size] ^= mask

    @property
    def counting(self):
        return bool(self.features[1] & 1)

    def ids(self):
        """The entry of C_IDS."""
        s = self.s
        following = [s.ids[kind] + 1 for kind in ("stream", "producer", "processor")]
        table = s.tables.next_table if s.tables.any else 0
        return struct.pack("<IIIIQQ", *following, table, s.commits, s.changes)

    def _count(self, commits, changes):
        s = self.s
        s.commits, s.changes = s.commits + commits, s.changes + changes
        s.counts = (s.commits % 4096 << 12 | s.changes % 256 << 24) if self.counting else 0

    # ---- Keys ------------------------------------------------------------------------------------

    def _set_keys(self, before, own, following):
        read, write, ignore = self.features
        self.carried = before + own + following + self.carried[96:]
        self.features = (read & ~1 | (1 if any(own) else 0), write | 2, ignore)

    def turn_key(self, fresh):
        """The next segment gets the next key; a log without keys only names its first one."""
        old = self.carried[:96].ljust(96, b"\0") if self.features[1] & 2 else bytes(96)
        self._set_keys(old[32:64], old[64:96], fresh)

    def _hash(self, data, lsn):
        return xxh3_64(data, self.keys[lsn // self.size])

    # ---- Frames and groups -----------------------------------------------------------------------

    def put(self, kind, runs=(), kind_flags=None, durable=None, epoch=None, link=None, flags=0):
        """A frame at the end of the current group, which it begins if there is none."""
        s = self.s
        if s.group_start is None:
            assert s.pos % BLOCK == 0
            s.group_start = s.pos
        if durable is None:
            durable = min(s.synced, s.pos)
        directory, body = bytearray(), bytearray()
        for run in runs:
            directory += struct.pack(
                "<HHIIIQII",
                run.type,
                run.flags,
                run.stream,
                run.partition,
                run.count,
                run.base,
                len(body),
                len(run.data),
            )
            body += run.data
        link = s.link if link is None else link
        epoch = s.epoch if epoch is None else epoch
        if kind_flags is None:
            kind_flags = 0 if kind == WITNESS else 1
        return self._put_bytes(
            kind,
            kind_flags,
            len(runs),
            epoch,
            durable,
            link,
            self._hash(bytes(directory), s.pos),
            self._hash(bytes(body), s.pos),
            bytes(directory),
            bytes(body),
            flags | s.counts,
        )

    def _put_bytes(
        self,
        kind,
        kind_flags,
        runs,
        epoch,
        durable,
        link,
        directory_hash,
        body_hash,
        directory,
        body,
        flags=0,
    ):
        s = self.s
        head = struct.pack(
            "<4sBBHQQQQQQQII",
            b"PWLF",
            kind,
            kind_flags,
            runs,
            s.pos,
            epoch,
            durable,
            s.time,
            link,
            directory_hash,
            body_hash,
            len(body),
            flags,
        )
        own = self._hash(head, s.pos)
        data = padded(head + struct.pack("<Q", own) + directory + body)
        if s.pos + len(data) > (s.segment + 1) * self.size:
            raise ValueError("the frame does not fit into segment %d" % s.segment)
        self.poke(s.pos, data)
        written = Written(s.pos, s.pos + len(data), kind, epoch, own, link, flags & ~0xFFF)
        s.frames.append(written)
        s.pos += len(data)
        s.link = own
        s.time += self.step
        return written

    def flush(self):
        """End the group: zeros up to a whole block."""
        s = self.s
        if s.group_start is None:
            return
        end = (s.pos + BLOCK - 1) // BLOCK * BLOCK
        self.zero(s.pos, end)
        if self.auto_sync:
            s.synced = end  # a group's padding is durable with it
        s.pos, s.group_start = end, None

    @contextmanager
    def group(self):
        """Frames put inside share a group."""
        self._grouping = True
        try:
            yield
        finally:
            self._grouping = False
        self.flush()

    _grouping = False

    def _end_frame(self):
        if not self._grouping:
            self.flush()

    # ---- Marks -----------------------------------------------------------------------------------

    def mark(self):
        return copy.deepcopy(self.s)

    def back_to(self, mark, keep=None):
        """Forget what was written since the mark, as a crash does; its bytes stay, up to the LSN `keep` if that is given."""
        if keep is not None and keep < self.s.pos:
            self.zero(keep, self.s.pos)
        self.s = copy.deepcopy(mark)

    # ---- Segments and incarnations ---------------------------------------------------------------

    def _begin_segment(self, link, seal_lsn):
        s = self.s
        if s.tables.any:
            self.features = (self.features[0], self.features[1] | 4, self.features[2])
        header = segment_header(
            self.log_id,
            self.size,
            s.segment,
            s.epoch,
            link,
            seal_lsn,
            s.time,
            self.cap,
            self.version,
            self.features,
            self.carried,
            self.ids() if self.counting else b"",
        )
        self._count(0, 0)
        key = self.carried[32:64]
        self.keys[s.segment] = secret_of(key) if self.features[0] & 1 else xxh3_64(self.log_id)
        start = s.segment * self.size
        self.poke(start, header + header)
        s.pos, s.group_start, s.index = start + HEADER_BLOCKS, None, []
        self.put(CHECKPOINT, self._checkpoint_runs())
        self.flush()

    def seal(self, begin=True):
        """SEAL the segment and, unless told otherwise, begin the next."""
        self.flush()
        s = self.s
        rows, seen = [], set()
        for number, row in enumerate(s.index):
            if row[:2] not in seen or number % self.index_every == 0:
                seen.add(row[:2])
                rows.append(row)
        data = b"".join(struct.pack("<IIQQ", *row) for row in rows)
        self.put(SEAL, [RunBytes(R_INDEX, 0, 0, len(rows), 0, data)] if rows else [])
        self.flush()
        s.synced = s.frames[-1].end
        if begin:
            self.begin_next()

    def begin_next(self):
        s = self.s
        seal = s.frames[-1]
        s.segment += 1
        self._begin_segment(seal.hash, seal.lsn)

    def reopen(self, epoch=None):
        """A new incarnation after a crash or a CLOSE."""
        s = self.s
        s.group_start = None
        s.pos = (s.pos + BLOCK - 1) // BLOCK * BLOCK
        s.epoch = s.epoch + 1 if epoch is None else epoch
        if s.frames[-1].kind == SEAL:
            self.begin_next()
        s.synced = s.frames[-1].end
        self.put(OPEN)
        self.flush()

    def reopen_full(self):
        """A new incarnation that finds no room behind the end: it begins with a SEAL."""
        s = self.s
        s.group_start = None
        s.pos = (s.pos + BLOCK - 1) // BLOCK * BLOCK
        s.epoch += 1
        s.synced = s.frames[-1].end
        self.seal()
        self.put(OPEN)
        self.flush()

    def witness(self):
        self.put(WITNESS)
        self._end_frame()

    def close(self):
        self.put(CLOSE)
        self.flush()

    def lose(self, first, end):
        """Put a LOST frame over the bytes from `first` to `end`, where a frame, the segment or the log ends or begins."""
        before = [frame for frame in self.s.frames if frame.end <= first][-1]
        # At a segment's end the LOST frame stands for the SEAL, and the next segment's CHECKPOINT is behind it.
        next_lsn = end + HEADER_BLOCKS if end % self.size == 0 else end
        behind = [frame for frame in self.s.frames if frame.lsn == next_lsn]
        kept = copy.deepcopy(self.s)
        self.s.pos = first
        self._put_bytes(
            LOST,
            1,
            0,
            before.epoch,
            min(kept.synced, first),
            before.hash,
            behind[0].link if behind else before.hash,
            0,
            b"",
            bytes(end - first - 80),
            self._after(before),
        )
        lost = self.s.frames[-1]
        self.s = kept
        if not behind:
            self.s.pos, self.s.link = end, before.hash
        # What the lost frames held is no longer to be shown.
        gone = {frame.lsn for frame in kept.frames if first <= frame.lsn < end}
        self.s.shown = [row for row in self.s.shown if not gone & row[4]]
        return lost

    def _after(self, frame):
        """The counts of the frame that was written after this one."""
        if not self.counting:
            return 0
        later = [row for row in self.s.frames if row.lsn > frame.lsn]
        return later[0].counts if later else self.s.counts

    def drop_segment(self, index):
        """Retention deletes a segment."""
        del self.images[index]
        # Only later checkpoints leave its spans out.
        self.s.spans.pop(index, None)

    # ---- Transactions ----------------------------------------------------------------------------

    def txn(self):
        return Txn(self)

    def spill(self, parts):
        """A SPILL frame; `parts` are (stream name, partition, records). Gives what `Txn.spilled` takes."""
        runs = [
            RunBytes(
                R_RECORDS,
                self.s.streams[name_bytes(name)][0],
                partition,
                len(rows),
                0xFFFFFFFFFFFFFFFF,
                b"".join(map(record_bytes, rows)),
            )
            for name, partition, rows in parts
        ]
        self._make_room(sum(len(run.data) + 32 for run in runs) + 88)
        frame = self.put(SPILL, runs)
        self._end_frame()
        return [SpillRef(frame.lsn, frame.hash, number, *part) for number, part in enumerate(parts)]

    def _make_room(self, size):
        if (
            self.s.group_start is None
            and self.s.pos + size + SEAL_ROOM > (self.s.segment + 1) * self.size
        ):
            self.seal()

    def _checkpoint_runs(self):
        s = self.s
        rows = [[] for _ in range(8)]
        for name, (ident, partitions) in sorted(s.streams.items(), key=lambda item: item[1]):
            rows[0].append(padded(struct.pack("<IIII", ident, partitions, len(name), 0) + name))
        if s.ids["stream"] > max([ident for ident, _ in s.streams.values()], default=0):
            rows[0].append(struct.pack("<IIII", s.ids["stream"], 0, 0, 0))
        for key, offset in sorted(s.next.items()):
            if offset:
                rows[1].append(struct.pack("<IIQ", *key, offset))
        for name, p in sorted(s.producers.items(), key=lambda item: item[1]["id"]):
            rows[2].append(
                padded(
                    struct.pack(
                        "<IIQIIQII32s",
                        p["id"],
                        p["epoch"],
                        p["last"],
                        *p["answer"],
                        len(p["cookie"]),
                        len(name),
                        p["cookie"]
                    )
                    + name
                )
            )
        for name, ident in sorted(s.processors.items(), key=lambda item: item[1]):
            rows[3].append(padded(struct.pack("<II", ident, len(name)) + name))
        for key, position in sorted(s.positions.items()):
            rows[4].append(struct.pack("<IIIIQ", *key, 0, position))
        if any(s.settings):
            rows[5].append(struct.pack("<QQQ", *s.settings))
        for processor, name in sorted(s.sinks):
            rows[6].append(padded(struct.pack("<IHH", processor, 0, len(name)) + name))
        for segment, oldest in sorted(s.spans.items()):
            rows[7].append(struct.pack("<QQ", segment, oldest))
        found = [
            RunBytes(R_C_STREAMS + i, 0, 0, len(row), 0, b"".join(row))
            for i, row in enumerate(rows)
            if row
        ]
        found += checkpoint_runs(s.tables)
        if self.counting and s.segment:
            found.append(RunBytes(0x8048, 0, 0, 1, 0, self.ids()))
        return found

    # ---- Results ---------------------------------------------------------------------------------

    def expected(self):
        """{stream: {partition: [values]}} as a reader must see it, and {stream: {partition: first offset}}."""
        values, firsts = {}, {}
        for name, (_, partitions) in self.s.streams.items():
            values[name.decode()] = {str(p): [] for p in range(partitions)}
            firsts[name.decode()] = {}
        for name, partition, offset, value, lsns in self.s.shown:
            if all(lsn // self.size in self.images for lsn in lsns):
                values[name.decode()][str(partition)].append(value)
                firsts[name.decode()].setdefault(str(partition), offset)
        return values, firsts

    def tables(self):
        """The tables at the end, with names instead of ids."""
        s = self.s
        stream_names = {ident: name.decode() for name, (ident, _) in s.streams.items()}
        producers, processors = {}, {}
        for name, p in s.producers.items():
            stream, partition, offset = p["answer"]
            answer = (
                {
                    "stream": stream_names.get(stream, "#%d" % stream),
                    "partition": partition,
                    "offset": offset,
                }
                if stream
                else None
            )
            producers[name.decode()] = {
                "id": p["id"],
                "epoch": p["epoch"],
                "last": p["last"],
                "cookie": p["cookie"].hex(),
                "answer": answer,
            }
        for name, ident in s.processors.items():
            positions = {}
            for (processor, stream, partition), position in s.positions.items():
                if processor == ident:
                    positions.setdefault(stream_names[stream], {})[str(partition)] = position
            processors[name.decode()] = {"id": ident, "positions": positions}
        names = {ident: name.decode() for name, ident in s.processors.items()}
        return {
            "streams": {
                name.decode(): {
                    "id": ident,
                    "partitions": count,
                    "next": [s.next.get((ident, p), 0) for p in range(count)],
                }
                for name, (ident, count) in s.streams.items()
            },
            "producers": producers,
            "processors": processors,
            "settings": {
                "retain_bytes": s.settings[0],
                "retain_ms": s.settings[1],
                "drop_consumed": bool(s.settings[2] & 1),
            },
            "sinks": sorted([names[processor], name.decode()] for processor, name in s.sinks),
            "spans": {str(segment): oldest for segment, oldest in s.spans.items()},
            "tables": s.tables.to_json(names.get, bytes.decode),
            "ids": (
                [s.ids[kind] + 1 for kind in ("stream", "producer", "processor")]
                + [s.commits, s.changes]
                if self.counting
                else None
            ),
        }

    def save(self, directory):
        """Write the files; blocks of zeros become holes."""
        os.makedirs(directory, exist_ok=True)
        files = {"%016x.seg" % index: image for index, image in self.images.items()}
        for name, data in {**files, **self.other_files}.items():
            with open(os.path.join(directory, name), "wb") as out:
                out.truncate(len(data))
                for at in range(0, len(data), BLOCK):
                    block = data[at : at + BLOCK]
                    if block.count(0) != len(block):
                        out.seek(at)
                        out.write(block)


class Txn(TableTxn):
    """A COMMIT in the making. Runs appear in the order of the calls; entries of one type next to each other share a run."""

    def __init__(self, writer):
        self.w = writer
        self.s = copy.deepcopy(writer.s)
        self.runs = []
        self.bases = []
        self.spans = []
        self.answers = []

    def _run(self, kind, data, stream=0, partition=0, count=1, base=0, join=True):
        last = self.runs[-1] if self.runs else None
        if join and last and last[:3] == (kind, stream, partition):
            self.runs[-1] = last._replace(count=last.count + count, data=last.data + data)
        else:
            self.runs.append(RunBytes(kind, stream, partition, count, base, data))

    def run(self, kind, data, stream=0, partition=0, count=1, base=0, flags=0):
        """A run of any type and content."""
        self._run(kind, data, stream, partition, count, base, join=False)
        self.runs[-1] = self.runs[-1]._replace(flags=flags)

    def flag_runs(self, flags):
        """Flags for every run so far."""
        self.runs = [run._replace(flags=flags) for run in self.runs]

    def catalog(self, op, ident, a, b, name):
        self._run(R_CATALOG, padded(struct.pack("<HHIQQ", op, len(name), ident, a, b) + name))

    def _new_id(self, what):
        self.s.ids[what] += 1
        return self.s.ids[what]

    def stream(self, name, partitions):
        ident = self._new_id("stream")
        self.s.streams[name_bytes(name)] = (ident, partitions)
        self.catalog(1, ident, partitions, 0, name_bytes(name))
        return ident

    def producer(self, name):
        ident = self._new_id("producer")
        self.s.producers[name_bytes(name)] = {
            "id": ident,
            "epoch": 0,
            "last": 0,
            "answer": (0, 0, 0),
            "cookie": b"",
        }
        self.catalog(2, ident, 0, 0, name_bytes(name))
        return ident

    def processor(self, name):
        ident = self._new_id("processor")
        self.s.processors[name_bytes(name)] = ident
        self.catalog(3, ident, 0, 0, name_bytes(name))
        return ident

    def forget(self, processor):
        ident = self.s.processors.pop(name_bytes(processor))
        self.s.positions = {
            key: value for key, value in self.s.positions.items() if key[0] != ident
        }
        self.catalog(4, ident, 0, 0, b"")

    def delete(self, stream):
        ident, _ = self.s.streams.pop(name_bytes(stream))
        self.s.next = {key: offset for key, offset in self.s.next.items() if key[0] != ident}
        self.s.positions = {
            key: value for key, value in self.s.positions.items() if key[1] != ident
        }
        self.s.shown = [row for row in self.s.shown if row[0] != name_bytes(stream)]
        self.catalog(8, ident, 0, 0, b"")

    def rename(self, kind, old, new):
        """`kind` is "stream", "producer" or "processor"; the names are bytes."""
        table = getattr(self.s, kind + "s")
        value = table[new] = table.pop(old)
        ident = value[0] if kind == "stream" else value["id"] if kind == "producer" else value
        if kind == "stream":
            self.s.shown = [(new, *row[1:]) if row[0] == old else row for row in self.s.shown]
        self.catalog(9, ident, ("stream", "producer", "processor").index(kind) + 1, 0, new)

    def disk_cap(self, size):
        self.w.cap = size
        self.catalog(7, 0, size, 0, b"")

    def settings(self, retain_bytes, retain_ms):
        self.s.settings[:2] = [retain_bytes, retain_ms]
        self.catalog(5, 0, retain_bytes, retain_ms, b"")

    def drop_consumed(self, on):
        self.s.settings[2] = int(on)
        self.catalog(6, 0, int(on), 0, b"")

    def _append(self, kind, name, partition, rows, data, needs):
        name = name_bytes(name)
        ident = self.s.streams[name][0]
        base = self.s.next.get((ident, partition), 0)
        self._run(kind, data, ident, partition, len(rows), base, join=False)
        self.bases.append((ident, partition, base))
        for offset, row in enumerate(rows, base):
            self.s.shown.append((name, partition, offset, row.value, needs))
        self.s.next[ident, partition] = base + len(rows)

    def records(self, stream, partition, rows):
        self._append(R_RECORDS, stream, partition, rows, b"".join(map(record_bytes, rows)), {-1})

    def spilled(self, ref):
        data = struct.pack("<QQII", ref.lsn, ref.hash, ref.number, 0)
        self._append(R_SPILLED, ref.stream, ref.partition, ref.records, data, {-1, ref.lsn})
        self.spans.append(ref.lsn // self.w.size)

    def position(self, processor, stream, partition, end, first=None):
        key = (
            self.s.processors[name_bytes(processor)],
            self.s.streams[name_bytes(stream)][0],
            partition,
        )
        if first is None:
            first = self.s.positions.get(key, 0)
        self.s.positions[key] = end
        self._run(R_POSITIONS, struct.pack("<IIIIQQ", *key, 0, first, end))

    def sequences(self, producer, count, epoch=None, cookie=b""):
        """The producer's next `count` sequence numbers; 0 of them is a new holder."""
        p = self.s.producers[name_bytes(producer)]
        if epoch is not None:
            p["epoch"] = epoch
        first, last = p["last"] + 1, p["last"] + count
        self._run(
            R_PRODUCERS,
            struct.pack("<IIQQII32s", p["id"], p["epoch"], first, last, len(cookie), 0, cookie),
        )
        if count:
            p["last"], p["cookie"] = last, cookie
            self.answers.append(p)

    def sink(self, processor, name, finished=False):
        key = (self.s.processors[name_bytes(processor)], name_bytes(name))
        if finished:
            self.s.sinks.remove(key)
        else:
            self.s.sinks.append(key)
        self._run(
            R_SINKS, padded(struct.pack("<IHH", key[0], 2 if finished else 1, len(key[1])) + key[1])
        )

    def origin(
        self,
        producer,
        stream,
        thing,
        first,
        end,
        places=(),
        records=None,
        marks=None,
        kind=0,
        flags=0,
        unit=0,
        step=0,
        note=b"",
    ):
        """What the records since the last call were read from. `places`: (partition, count)."""
        ident = self.s.streams[name_bytes(stream)][0]
        order = b"".join(varint(n) for p, count in places for n in (ident, p, count))
        gaps = [b - a for a, b in zip([first] + list(marks or ()), marks or ())]
        given = b"".join(varint(2 * gap if gap >= 0 else -2 * gap - 1) for gap in gaps)
        head = struct.pack(
            "<IIQQIHBBBBHIII",
            self.s.producers[name_bytes(producer)]["id"] if producer else 0,
            ident,
            first,
            end,
            sum(count for _, count in places) if records is None else records,
            flags,
            unit,
            3 if marks is not None else kind,
            len(thing),
            len(note),
            step,
            len(order),
            len(given),
            0,
        )
        self._run(R_ORIGINS, padded(head + thing + note + order + given))

    def commit(self, durable=None, flags=0, kind_flags=None):
        """Put the frame. The transaction must have been begun behind the last one that was committed."""
        w = self.w
        for p in self.answers:
            p["answer"] = self.bases[0] if self.bases else (0, 0, 0)
        size = 88 + sum(32 + len(run.data) for run in self.runs)
        w._make_room(size)
        for name in (
            "streams",
            "next",
            "producers",
            "processors",
            "positions",
            "settings",
            "sinks",
            "ids",
            "shown",
            "tables",
        ):
            setattr(w.s, name, getattr(self.s, name))
        frame = w.put(COMMIT, self.runs, durable=durable, flags=flags, kind_flags=kind_flags)
        w.s.shown = [
            row if -1 not in row[4] else (*row[:4], row[4] - {-1} | {frame.lsn})
            for row in w.s.shown
        ]
        w.s.index += [(*base, frame.lsn) for base in self.bases]
        for segment in self.spans:
            if segment < w.s.segment:
                w.s.spans[w.s.segment] = min(w.s.spans.get(w.s.segment, segment), segment)
        w._count(1, sum(run.count for run in self.runs if run.type == R_CATALOG))
        w._end_frame()
        return frame
