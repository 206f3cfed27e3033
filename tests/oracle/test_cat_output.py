# SPDX-License-Identifier: Apache-2.0
"""What `pawl cat` writes is the records, byte for byte, in each format.

Records have every kind of byte in key, value and headers: escapes of JSON, each border of UTF-8,
what is not UTF-8, nothing, and more than the command gathers. Python's own decoders judge."""

import base64
import fcntl
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from pawl_writer import Writer, rec  # noqa: E402

PAWL = os.environ["PAWL_COMMAND"]
F_GETPIPE_SZ = 1032  # Python has it from 3.10 on
TIME = 1_700_000_000_000_000_000
BORDERS = [0, 8, 9, 10, 12, 13, 27, 0x1F, 0x20, 0x22, 0x2F, 0x5C, 0x61, 0x7E, 0x7F, 0x80, 0x9F,
           0xA0, 0xAD, 0x7FF, 0x800, 0x200B, 0x2028, 0x202E, 0xD7FF, 0xE000, 0xFEFF, 0xFFFE,
           0xFFFF, 0x10000, 0xE0001, 0x10FFFF]
NOT_UTF8 = [b"\x80", b"\xc0\x8a", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xef\xbf",
            b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xff"]


def texts():
    rng = random.Random(7)
    yield from (chr(c).encode() for c in BORDERS)
    for bad in NOT_UTF8:
        yield from (bad, b"x" * 7 + bad, b"x" * 8 + bad + b"y")
    for n in list(range(20)) + [200]:
        yield "".join(rng.choice("abc ") for _ in range(n)).encode()
        yield "".join(chr(rng.choice(BORDERS)) if rng.random() < 0.3 else "z"
                      for _ in range(n)).encode()
        yield bytes(rng.randrange(256) for _ in range(n))


def told(name, text):
    """The member of a JSON object that has these bytes."""
    try:
        return {name: text.decode()}
    except UnicodeDecodeError:
        return {name + "_base64": base64.b64encode(text).decode()}


def make_log(log):
    for args in (["init", log], ["stream", "create", log, "s"]):
        subprocess.run([PAWL, *args], check=True, capture_output=True)


def eventually(is_so):
    """Waits until it is so, for a minute at most."""
    end = time.monotonic() + 60
    while not is_so():
        if time.monotonic() > end:
            raise AssertionError("it is not so after a minute")
        time.sleep(0.001)


def waiting_in(pipe):
    """The number of bytes that are in a pipe."""
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]


def catches(pid, number):
    """Has the process a handler for the signal?"""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("SigCgt:"):
                return int(line.split()[1], 16) >> (number - 1) & 1 != 0
    raise AssertionError("no SigCgt")


class CatOutput(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="pawl-cat-")
        cls.log = os.path.join(cls.dir, "log")
        all_texts = list(texts())
        cls.records = []
        w = Writer(bytes(16), TIME)
        t = w.txn()
        t.stream("s", 1)
        t.commit()
        for i, text in enumerate(all_texts):
            other = all_texts[-1 - i]
            one = (text, other[:100], [(text[:50], other), (b"h", b"")][:i % 3])
            cls.records.append(one)
            t = w.txn()
            t.records("s", 0, [rec(one[0], key=one[1], headers=one[2])])
            t.commit()
        w.close()
        w.save(cls.log)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir, True)

    def cat(self, *args, log=None):
        done = subprocess.run([PAWL, "cat", log or self.log, "s", *args], capture_output=True,
                              timeout=60, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout

    def test_text_is_the_value_and_a_newline(self):
        self.assertEqual(self.cat(), b"".join(v + b"\n" for v, _, _ in self.records))

    def test_raw_is_the_length_and_the_value(self):
        self.assertEqual(self.cat("--format", "raw"),
                         b"".join(struct.pack("<I", len(v)) + v for v, _, _ in self.records))

    def test_json_is_the_record(self):
        lines = self.cat("--format", "json").decode().split("\n")
        self.assertEqual(lines.pop(), "")
        self.assertEqual(len(lines), len(self.records))
        for offset, (line, (value, key, headers)) in enumerate(zip(lines, self.records)):
            got = json.loads(line)
            want = {"offset": offset, "partition": 0, "timestamp": got["timestamp"],
                    **(told("key", key) if key else {"key": None}), **told("value", value),
                    "headers": [{**told("name", n), **told("value", v)} for n, v in headers]}
            self.assertEqual(got, want)
            self.assertEqual(list(got), list(want), "the members' order")

    def test_more_than_is_gathered(self):
        log = os.path.join(self.dir, "large")
        lines = [bytes([97 + i % 26]) * n
                 for i, n in enumerate([1, 262143, 262144, 262145, 0, 700000, 5, 131072, 131071])]
        make_log(log)
        subprocess.run([PAWL, "ingest", log, "s"], input=b"".join(v + b"\n" for v in lines),
                       check=True, capture_output=True)
        self.assertEqual(self.cat(log=log).split(b"\n"), lines + [b""])
        got = self.cat("--format", "json", log=log).decode().splitlines()
        self.assertEqual([json.loads(line)["value"].encode() for line in got], lines)

    def test_output_that_fails(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([PAWL, "cat", self.log, "s"], stdout=full, timeout=60,
                                  stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"No space left on device; what it got is not complete", done.stderr)
        ours, theirs = os.pipe()
        os.close(ours)  # like `| head` that has read enough
        done = subprocess.run([PAWL, "cat", self.log, "s"], stdout=theirs, timeout=60,
                              stderr=subprocess.PIPE, check=False)
        os.close(theirs)
        self.assertEqual((done.returncode, done.stderr), (0, b""))

    def test_one_who_follows_gets_each_record_at_once(self):
        log = os.path.join(self.dir, "live")
        make_log(log)
        with subprocess.Popen([PAWL, "cat", log, "s", "--follow"], stdout=subprocess.PIPE) as cat:
            for n in range(3):
                line = b"line %d\n" % n
                subprocess.run([PAWL, "ingest", log, "s"], input=line, check=True,
                               capture_output=True)
                self.assertEqual(cat.stdout.readline(), line)
            cat.terminate()
            self.assertEqual(cat.stdout.read(), b"")

    def test_one_who_follows_and_is_stopped_ends_with_a_whole_record(self):
        lines = [b"%d %s" % (i, b"x" * 900) for i in range(400)]
        log = os.path.join(self.dir, "stopped")
        w = Writer(bytes(16), TIME)
        t = w.txn()
        t.stream("s", 2)
        t.records("s", 0, [rec(line) for line in lines])
        t.commit()
        w.close()
        w.save(log)
        with subprocess.Popen([PAWL, "cat", log, "s", "--follow"], stdout=subprocess.PIPE) as cat:
            room = fcntl.fcntl(cat.stdout, F_GETPIPE_SZ)
            eventually(lambda: waiting_in(cat.stdout) == room)  # it is within the first partition
            cat.terminate()
            eventually(lambda: not catches(cat.pid, signal.SIGTERM))  # its handler has run
            got = cat.stdout.read()
            self.assertEqual(cat.wait(60), 0)
        self.assertEqual(got.count(b"\n"), 400)
        self.assertEqual(got, b"".join(line + b"\n" for line in lines))


if __name__ == "__main__":
    unittest.main()
