#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of the oracle: that the writer and the reader, which share only the hash, agree on good logs and on bad ones."""

import base64
import contextlib
import io
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True  # the source tree stays as it is

import make_golden
import pawl_oracle
import pawl_writer as pw
import xxh3
import xxh3_128
from pawl_reader import CannotOpen, Log
from pawl_writer import Writer, rec

ORACLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pawl_oracle.py")
LOG_ID = bytes(range(16))
TIME = 1_700_000_000_000_000_000
# All bytes of the small log instead of some, which takes minutes.
EVERY_BYTE = bool(os.environ.get("PAWL_ORACLE_EVERY_BYTE"))


def values(log):
    """{stream: {partition: [values]}} of everything that can be read."""
    return {
        name.decode(): {
            str(p): [record.value for _, record in log.read(name, p)] for p in range(partitions)
        }
        for name, partitions in log.tables.streams.values()
        if name is not None
    }


def is_prefix(short, whole):
    return all(
        rows == whole.get(name, {}).get(p, [])[: len(rows)]
        for name, parts in short.items()
        for p, rows in parts.items()
    )


def run_cli(*args):
    done = subprocess.run([sys.executable, "-B", ORACLE, *args], capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


class TestCase(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="pawl-oracle-")
        self.addCleanup(shutil.rmtree, self.dir, True)

    def saved(self, w, name="log"):
        path = os.path.join(self.dir, name)
        w.save(path)
        return path

    def read(self, w):
        log = Log.open(self.saved(w))
        self.addCleanup(log.close)
        return log


class HashTest(unittest.TestCase):
    def test_published_vectors(self):
        self.assertEqual(xxh3.check_vectors(), [])

    def test_pairs(self):
        wrong = xxh3_128.check_library()
        if wrong is None:
            self.skipTest("no libxxhash installed")
        self.assertEqual(wrong, [])

    def test_installed_library(self):
        wrong = xxh3.check_library(rounds=500)
        if wrong is None:
            self.skipTest("no libxxhash installed")
        self.assertEqual(wrong, [])


class GoldenTest(TestCase):
    def check(self, item):
        want = make_golden.make(item, self.dir)
        path = os.path.join(self.dir, item.name)
        if want["expected"] in ("version", "foreign"):
            with self.assertRaises(CannotOpen) as caught:
                Log.open(path).close()
            self.assertEqual(caught.exception.kind, want["expected"])
            return
        with Log.open(path) as log:
            self.assertEqual(log.verdict, want["expected"], log.problems)
            if "at_lsn" in want:
                self.assertEqual(log.end.lsn, want["at_lsn"])
            if want["expected"] == "invalid":
                self.assertEqual({problem.kind for problem in log.problems}, {"invalid"})
                return
            self.assertEqual(log.end.witness, want.get("witness"))
            self.assertEqual(
                not log.not_for_writing, want.get("writable", True), log.not_for_writing
            )
            kinds = {"damaged": ["damaged"]}.get(want["expected"], []) + ["header"] * len(
                want.get("bad_header_copies", [])
            )
            self.assertEqual([problem.kind for problem in log.problems], kinds, log.problems)
            for (segment, block), problem in zip(want.get("bad_header_copies", []), log.problems):
                self.assertEqual(problem.segment, segment)
                self.assertIn("block %d" % block, problem.text)
            decoded = {
                name: {p: [base64.b64decode(value) for value in rows] for p, rows in parts.items()}
                for name, parts in want["streams"].items()
            }
            self.assertEqual(values(log), decoded)
            for name, parts in want["streams"].items():
                for p, rows in parts.items():
                    first = want["first"].get(name, {}).get(p, 0)
                    offsets = (
                        want.get("offsets", {})
                        .get(name, {})
                        .get(p, list(range(first, first + len(rows))))
                    )
                    self.assertEqual(
                        [offset for offset, _ in log.read(name.encode(), int(p))], offsets
                    )
            if "tables" in want:
                self.assertEqual(json.loads(json.dumps(log.tables.to_json())), want["tables"])

    def test_each(self):
        for item in make_golden.GOLDEN:
            with self.subTest(item.name):
                self.check(item)

    def test_same_bytes_again(self):
        trees = []
        for name in ("one", "two"):
            path = os.path.join(self.dir, name)
            with contextlib.redirect_stderr(io.StringIO()):
                self.assertEqual(make_golden.main(["make_golden.py", path]), 0)
                self.assertEqual(make_golden.main(["make_golden.py", path, "one-record"]), 0)
                self.assertEqual(make_golden.main(["make_golden.py", path, "no-such"]), 2)
            tree = {}
            for parent, _, files in os.walk(path):
                for file in files:
                    with open(os.path.join(parent, file), "rb") as stream:
                        tree[os.path.relpath(os.path.join(parent, file), path)] = hash(
                            stream.read()
                        )
            trees.append(tree)
        self.assertGreater(len(trees[0]), len(make_golden.GOLDEN))
        self.assertEqual(*trees)

    def test_record_fields(self):
        w = make_golden.two_partitions()
        log = self.read(w)
        records = [record for _, record in log.read(b"orders", 0)]
        self.assertEqual(records[2].key, b"\x00\xff")
        self.assertEqual(records[2].headers, [(b"h1", b"v1"), (b"", b""), (b"h1", b"again")])
        self.assertEqual([record.timestamp for record in records], [0, 0, -1, 0])
        self.assertEqual([offset for offset, _ in log.read(b"orders", 0, 2)], [2, 3])


class RandomTest(TestCase):
    """Whatever the writer does, the reader must find every rule kept and read the same."""

    def build(self, seed):
        rng = random.Random(seed)
        w = Writer(LOG_ID, TIME, index_every=rng.choice((1, 3, 100)))
        t = w.txn()
        for name, partitions in (("a", 1), ("b", 3)):
            t.stream(name, partitions)
        for name in ("p", "q"):
            t.producer(name)
        t.processor("m")
        t.processor("n")
        t.commit()
        refs = []
        for number in range(rng.randrange(5, 60)):
            action = rng.random()
            rows = [
                rec(
                    rng.randbytes(rng.choice((0, 3, 50, 5000))),
                    rng.randbytes(rng.randrange(5)),
                    [(b"h", b"v")] * rng.randrange(3),
                    rng.randrange(-5, 5),
                )
                for _ in range(rng.randrange(1, 8))
            ]
            name, partition = rng.choice((("a", 0), ("b", 0), ("b", 2)))
            if action < 0.6:
                t = w.txn()
                t.records(name, partition, rows)
                if rng.random() < 0.3 and refs:
                    t.spilled(refs.pop())
                if rng.random() < 0.5:
                    t.sequences(rng.choice("pq"), rng.randrange(3), cookie=b"")
                if rng.random() < 0.5:
                    processor = rng.choice("mn")
                    key = (
                        w.s.processors[processor.encode()],
                        w.s.streams[name.encode()][0],
                        partition,
                    )
                    t.position(
                        processor, name, partition, w.s.positions.get(key, 0) + rng.randrange(4)
                    )
                if rng.random() < 0.2:
                    t.sink("m", "file %d" % number)
                t.commit()
            elif action < 0.7:
                refs += w.spill([(name, partition, rows), ("a", 0, rows[:1])])
            elif action < 0.8:
                w.seal()
            elif action < 0.9:
                w.witness()
            else:
                mark = w.mark()
                with w.group():
                    lost = make_golden.add(w, b"torn" * 300, stream="a")
                w.back_to(mark, keep=lost.lsn + rng.randrange(0, 1000))
                w.reopen()
                refs.clear()
        w.close()
        return w

    def test_many(self):
        for seed in range(25):
            with self.subTest(seed):
                w = self.build(seed)
                with Log.open(self.saved(w, "log%d" % seed)) as log:
                    self.assertEqual((log.verdict, log.problems, log.notes), ("ok", [], []))
                    self.assertEqual(values(log), w.expected()[0])
                    self.assertEqual(json.loads(json.dumps(log.tables.to_json())), w.tables())
                    self.assertEqual(
                        [frame.lsn for frame in log.frames], [frame.lsn for frame in w.s.frames]
                    )


class InvalidTest(TestCase):
    """Frames whose hashes hold and which break a rule."""

    def base(self):
        w = Writer(LOG_ID, TIME)
        t = w.txn()
        t.stream("s", 2)
        t.producer("p")
        t.processor("m")
        t.records("s", 0, [rec(b"one")])
        t.position("m", "s", 0, 1)
        t.sequences("p", 1, epoch=4)
        t.commit()
        return w

    def invalid(self, w, pattern):
        w.close()
        log = self.read(w)
        self.assertEqual(log.verdict, "invalid", log.problems)
        self.assertRegex(" | ".join(problem.text for problem in log.problems), pattern)
        return log

    def commit(self, *runs):
        w = self.base()
        w.put(pw.COMMIT, list(runs))
        w.flush()
        return w

    def test_base_does_not_join(self):
        run = pw.RunBytes(pw.R_RECORDS, 1, 0, 1, 5, pw.record_bytes(rec(b"x")))
        self.invalid(self.commit(run), "base 5 .* instead of 1")

    def test_unknown_partition_and_stream(self):
        data = pw.record_bytes(rec(b"x"))
        self.invalid(self.commit(pw.RunBytes(pw.R_RECORDS, 1, 2, 1, 0, data)), "no partition 2")
        self.invalid(
            self.commit(pw.RunBytes(pw.R_RECORDS, 9, 0, 1, 0, data)), "stream 9 is unknown"
        )

    def test_record_count(self):
        data = pw.record_bytes(rec(b"x"))
        self.invalid(
            self.commit(pw.RunBytes(pw.R_RECORDS, 1, 1, 2, 0, data)), "ends beyond its run"
        )
        self.invalid(
            self.commit(pw.RunBytes(pw.R_RECORDS, 1, 1, 1, 0, data + b"z")),
            "1 bytes behind its records",
        )

    def test_position_gap(self):
        data = struct.pack("<IIIIQQ", 1, 1, 0, 0, 2, 3)
        self.invalid(
            self.commit(pw.RunBytes(pw.R_POSITIONS, 0, 0, 1, 0, data)), "from 2 instead of 1"
        )

    def test_position_reserved(self):
        data = struct.pack("<IIIIQQ", 1, 1, 0, 7, 1, 3)
        self.invalid(self.commit(pw.RunBytes(pw.R_POSITIONS, 0, 0, 1, 0, data)), "must be 0")

    def test_sequence_gap_repeat_and_epoch(self):
        for epoch, first, last, cookie, pattern in (
            (4, 3, 3, 0, "begin at 3 instead of 2"),
            (4, 1, 1, 0, "begin at 1 instead of 2"),
            (3, 2, 2, 0, "falls from 4 to 3"),
            (4, 2, 2, 33, "cookie of 33"),
        ):
            data = struct.pack("<IIQQII32s", 1, epoch, first, last, cookie, 0, b"")
            self.invalid(self.commit(pw.RunBytes(pw.R_PRODUCERS, 0, 0, 1, 0, data)), pattern)

    def test_cookie_not_zero_filled(self):
        data = struct.pack("<IIQQII32s", 1, 4, 2, 2, 1, 0, b"ab")
        self.invalid(self.commit(pw.RunBytes(pw.R_PRODUCERS, 0, 0, 1, 0, data)), "must be 0")

    def test_catalog(self):
        for op, ident, a, name, pattern in (
            (1, 1, 1, b"t", "id 1 is used twice"),
            (1, 2, 1, b"s", "name b's' is used twice"),
            (4, 5, 0, b"", "was not there"),
            (8, 5, 0, b"", "deleted but was not there"),
            (1, 2, 0, b"t", "no partitions"),
        ):
            data = pw.padded(struct.pack("<HHIQQ", op, len(name), ident, a, 0) + name)
            self.invalid(self.commit(pw.RunBytes(pw.R_CATALOG, 0, 0, 1, 0, data)), pattern)

    def test_run_in_wrong_kind(self):
        self.invalid(
            self.commit(pw.RunBytes(pw.R_INDEX, 0, 0, 1, 0, bytes(24))),
            "does not belong in a COMMIT",
        )

    def test_spilled_refers_to_nothing(self):
        data = struct.pack("<QQII", 8192, 1, 0, 0)
        self.invalid(
            self.commit(pw.RunBytes(pw.R_SPILLED, 1, 0, 1, 1, data)), "no such spilled run"
        )

    def test_spilled_of_other_partition(self):
        w = self.base()
        ref = w.spill([("s", 1, [rec(b"x")])])[0]
        data = struct.pack("<QQII", ref.lsn, ref.hash, 0, 0)
        w.put(pw.COMMIT, [pw.RunBytes(pw.R_SPILLED, 1, 0, 1, 1, data)])
        w.flush()
        self.invalid(w, "another partition's")

    def test_checkpoint_differs(self):
        for change, pattern in (
            (lambda s: s.next.update({(1, 0): 2}), "next"),
            (lambda s: s.positions.clear(), "positions"),
            (lambda s: s.producers[b"p"].update(last=7), "producers"),
            (lambda s: s.settings.__setitem__(0, 9), "settings"),
            (lambda s: s.processors.update({b"z": 8}), "processors"),
            (lambda s: s.sinks.append((1, b"f")), "sinks"),
            (lambda s: s.spans.update({0: 0}), "spans|C_SPANS"),
        ):
            w = self.base()
            change(w.s)
            w.seal()
            self.invalid(w, pattern)

    def test_index(self):
        for row in ((1, 0, 1, None), (1, 1, 0, None), (1, 0, 0, 8192)):
            w = self.base()
            w.s.index = [row[:3] + (row[3] or w.s.index[0][3],)]
            w.seal()
            self.invalid(w, "which is not there")

    def test_index_order(self):
        w = self.base()
        t = w.txn()
        t.records("s", 1, [rec(b"x")])
        t.commit()
        w.s.index.reverse()
        w.seal()
        self.invalid(w, "ascending LSN order")

    def test_flags(self):
        w = self.base()
        w.put(pw.WITNESS, kind_flags=1)
        w.flush()
        self.invalid(w, "kind flags of a WITNESS are 1")

    def test_checkpoint_in_the_middle(self):
        w = self.base()
        w.put(pw.CHECKPOINT, w._checkpoint_runs())
        w.flush()
        self.invalid(w, "not its segment's first frame")

    def test_open_in_the_middle(self):
        w = self.base()
        w.put(pw.OPEN)
        w.flush()
        self.invalid(w, "not the first of its epoch")

    def test_header_reserved(self):
        w = self.base()
        block = bytearray(w.peek(0, 4088))
        block[1000] = 1
        whole = bytes(block) + struct.pack("<Q", xxh3.xxh3_64(bytes(block)))
        w.poke(0, whole + whole)
        w.close()
        log = self.read(w)
        self.assertEqual((log.verdict, log.problems), ("ok", []))

    def test_file_size(self):
        w = self.base()
        w.close()
        path = self.saved(w)
        os.truncate(os.path.join(path, "%016x.seg" % 0), 500_000)
        with Log.open(path) as log:
            self.assertEqual(log.verdict, "invalid")

    def test_a_greater_epoch_needs_an_open(self):
        w = self.base()
        end = w.s.frames[-1].end
        w.s.epoch += 1
        w.s.synced = 0
        make_golden.add(w, b"not accepted")
        log = self.read(w)
        self.assertEqual((log.end.status, log.end.lsn), ("torn", end))

    def test_headers_do_not_join(self):
        w = self.base()
        w.seal()
        header = pw.segment_header(LOG_ID, w.size, 1, 1, 12345, w.s.frames[-2].lsn, TIME)
        w.poke(w.size, header + header)
        self.assertEqual(self.read(w).verdict, "damaged")


class FlipTest(TestCase):
    """One changed byte of a closed log is told, or it changes nothing that is read."""

    def small(self, two_segments):
        w = Writer(LOG_ID, TIME)
        t = w.txn()
        t.stream("s", 2)
        t.producer("p")
        t.processor("m")
        t.commit()
        with w.group():
            make_golden.add(w, b"one", b"two")
            make_golden.add(w, b"three", partition=1)
        ref = w.spill([("s", 0, [rec(b"spilled", b"k", [(b"h", b"v")])])])[0]
        if two_segments:
            w.seal()
        t = w.txn()
        t.spilled(ref)
        t.sequences("p", 2, cookie=b"cookie")
        t.position("m", "s", 0, 2)
        t.commit()
        make_golden.add(w, b"last")
        w.close()
        return w

    def flip_all(self, w, stride):
        path = self.saved(w)
        with Log.open(path) as log:
            self.assertEqual(log.verdict, "ok")
            whole = values(log)
        last_commit = max(frame.end for frame in w.s.frames if frame.kind == pw.COMMIT)
        places = set()
        for index in w.images:
            places |= set(range(index * w.size, index * w.size + 8192, 97))
        for frame in w.s.frames:
            places |= set(range(frame.lsn, frame.end, stride)) | set(
                range(frame.end, frame.end + 4096, 211)
            )
        places |= {w.size - 1, w.size // 2}
        if EVERY_BYTE:
            for index in w.images:
                places |= set(range(index * w.size, index * w.size + 8192))
            for frame in w.s.frames:
                places |= set(range(frame.lsn, pw.BLOCK * (frame.end // pw.BLOCK + 1)))
        rng = random.Random(7)
        told = 0
        for lsn in sorted(places):
            name = os.path.join(path, "%016x.seg" % (lsn // w.size))
            with open(name, "r+b", buffering=0) as stream:
                old = os.pread(stream.fileno(), 1, lsn % w.size)
                os.pwrite(
                    stream.fileno(), bytes([old[0] ^ rng.choice((1, 0x80, 0xFF))]), lsn % w.size
                )
                try:
                    with Log.open(path) as log:
                        verdict, got = log.verdict, values(log)
                        problems = [problem.kind for problem in log.problems]
                except CannotOpen as error:
                    verdict, got, problems = error.kind, {}, []
                os.pwrite(stream.fileno(), old, lsn % w.size)
            self.assertIn(verdict, ("ok", "torn", "damaged"), lsn)
            self.assertTrue(is_prefix(got, whole), lsn)
            if got != whole:
                # All records were durable when the log was closed, so their loss is never a mere torn tail.
                self.assertEqual(verdict, "damaged", lsn)
                self.assertLess(lsn, last_commit)
            told += verdict != "ok" or bool(problems)
        return told

    def test_one_segment(self):
        self.assertGreater(self.flip_all(self.small(False), 3), 200)

    def test_two_segments(self):
        self.assertGreater(self.flip_all(self.small(True), 11), 50)

    def test_cut_anywhere(self):
        """What a crash leaves of an unclosed log's last group: always a prefix, and never called damaged."""
        w = Writer(LOG_ID, TIME)
        t = w.txn()
        t.stream("s", 1)
        t.commit()
        make_golden.add(w, b"first")
        before = w.expected()[0]
        mark = w.mark()
        last = make_golden.add(w, b"second " * 1000)
        whole = w.expected()[0]
        for cut in range(last.lsn, last.end + 8, 256):
            torn = Writer.__new__(Writer)
            torn.__dict__.update(w.__dict__, images={0: bytearray(w.images[0])})
            torn.back_to(mark)
            torn.zero(cut, last.end)
            log = self.read(torn)
            self.assertIn(log.verdict, ("ok", "torn"))
            self.assertIn(values(log), (before, whole))


class CommandTest(TestCase):
    def setUp(self):
        super().setUp()
        self.path = self.saved(make_golden.two_partitions())

    def test_cat(self):
        code, out, _ = run_cli("cat", self.path, "orders", "--partition", "1")
        self.assertEqual((code, out), (0, b"other partition\na\nb\nline\nbreak\n"))
        code, out, _ = run_cli("cat", self.path, "orders", "--from", "3")
        self.assertEqual((code, out), (0, b"c\nline\nbreak\n"))
        code, out, _ = run_cli("cat", self.path, "größe/Δ", "--format", "raw")
        self.assertEqual((code, out), (0, struct.pack("<I", 200) + "ß".encode() * 100))
        self.assertEqual(run_cli("cat", self.path, "none")[0], 1)
        self.assertEqual(run_cli("cat", self.path, "orders", "--partition", "2")[0], 1)

    def test_check(self):
        code, out, _ = run_cli("check", self.path)
        self.assertEqual(code, 0)
        self.assertRegex(
            out, rb"^segments=1 frames=5 .*COMMIT=2.* records=9 end=clean at LSN \d+: ok\n$"
        )
        w = make_golden.damaged_body()[0]
        code, out, _ = run_cli("check", self.saved(w, "bad"))
        self.assertEqual(code, 1)
        self.assertRegex(out, rb"problem: segment 0 LSN \d+: damaged")
        code, out, err = run_cli("cat", os.path.join(self.dir, "bad"), "s")
        self.assertEqual((code, out), (1, b"before\n"))
        self.assertIn(b"damaged at LSN", err)

    def test_usage_and_open(self):
        self.assertEqual(run_cli()[0], 2)
        self.assertEqual(run_cli("nonsense", self.path)[0], 2)
        self.assertEqual(run_cli("cat", self.path, "orders", "--from", "-1")[0], 2)
        self.assertEqual(run_cli("check", os.path.join(self.dir, "nothing"))[0], 3)
        self.assertEqual(run_cli("check", self.dir)[0], 3)
        self.assertEqual(run_cli("check", self.saved(make_golden.version_2(), "v2"))[0], 3)

    def test_tables_frames_explain(self):
        w = make_golden.positions_and_producers()
        path = self.saved(w, "positions")
        code, out, _ = run_cli("tables", path)
        self.assertEqual((code, json.loads(out)), (0, w.tables()))
        code, out, _ = run_cli("frames", path)
        self.assertEqual(code, 0)
        self.assertEqual(
            [int(line.split()[0]) for line in out.splitlines()], [frame.lsn for frame in w.s.frames]
        )
        self.assertRegex(out.splitlines()[0], rb"^8192 CHECKPOINT epoch=1 durable=0 runs=0 body=0$")
        code, out, _ = run_cli("explain", path, "out", "0")
        found = json.loads(out)
        self.assertEqual(code, 0)
        self.assertEqual(
            found["positions"],
            [
                {"processor": "count", "stream": "in", "partition": 1, "from": 1, "to": 3},
                {"processor": "copy", "stream": "in", "partition": 1, "from": 0, "to": 2},
            ],
        )
        self.assertIn(
            found["commit_lsn"], [frame.lsn for frame in w.s.frames if frame.kind == pw.COMMIT]
        )
        code, out, _ = run_cli("explain", path, "in", "3", "--partition", "1")
        self.assertEqual((json.loads(out)["base"], json.loads(out)["count"]), (0, 5))
        self.assertEqual(run_cli("explain", path, "out", "1")[0], 1)

    def test_nothing_is_written(self):
        def state():
            return [
                (name, os.stat(os.path.join(self.path, name)).st_mtime_ns)
                for name in sorted(os.listdir(self.path))
            ]

        before = state()
        with contextlib.redirect_stdout(io.StringIO()):
            for command in ("check", "tables", "frames"):
                self.assertEqual(pawl_oracle.main([command, self.path]), 0)
        self.assertEqual(state(), before)


if __name__ == "__main__":
    unittest.main()
