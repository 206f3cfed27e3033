#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each record is led back to the bytes that it was read from, whatever was done with them.

Every case gives bytes to `pawl run` or `pawl ingest`, and says what each record must have come
from. `pawl explain` must name those bytes, and `pawl audit` must find that what was read joins.
"""

import os
import re
import subprocess
import sys
import tempfile

PAWL = os.environ["PAWL_COMMAND"]
wrong = []


def wide(text, order="le"):
    return text.encode("utf-16" + order)


def run(*args, data=b"", code=0):
    got = subprocess.run([PAWL, *args], input=data, capture_output=True)
    if got.returncode != code:
        raise SystemExit("pawl %s: %d, %s" % (" ".join(args), got.returncode, got.stderr.decode()))
    return got.stdout.decode()


def explain(log, stream, offset, partition=0):
    """(thing, first byte, byte behind the last) of a record."""
    told = run("explain", log, stream, str(offset), "--partition", str(partition))
    found = re.search(r"^outside +(.*?), bytes (\d+) to (\d+)", told, re.M)
    return (found[1], int(found[2]), int(found[3])) if found else (told, -1, -1)


def values(log, stream, partition=0):
    told = subprocess.run(
        [PAWL, "cat", log, stream, "--partition", str(partition), "--format", "raw"],
        capture_output=True,
    ).stdout
    at, found = 0, []
    while at < len(told):
        size = int.from_bytes(told[at : at + 4], "little")
        found.append(told[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def some(records):
    """(offset, value) of the first and last records, and of some between them."""
    last = len(records) - 1
    return [(k, v) for k, v in enumerate(records) if k < 3 or k % 7 == 0 or k >= last - 1]


def check(name, log, stream, data, pieces, partitions=1, thing=None):
    """`pieces`: what the records came from, in order; found in `data` one behind the other."""
    at, want = 0, {}
    for piece in pieces:
        begin = data.index(piece, at)
        at = begin + len(piece)
        want.setdefault(piece, []).append(begin)
    seen = 0
    for partition in range(partitions):
        held = values(log, stream, partition)
        seen += len(held)
        for offset, value in some(held):
            told, first, end = explain(log, stream, offset, partition)
            piece = data[first:end]
            if first not in want.get(piece, ()):
                wrong.append(
                    "%s: record %d/%d %r is led back to %r at %d (%s)"
                    % (name, partition, offset, value[:60], piece[:80], first, told)
                )
            else:
                want[piece].remove(first)
            if thing and thing not in told:
                wrong.append("%s: the thing is %s, not %s" % (name, told, thing))
    if seen != len(pieces):
        wrong.append("%s: %d records, not %d" % (name, seen, len(pieces)))
    told = run("audit", log)
    if "1 thing outside join" not in told:
        wrong.append("%s: audit says %s" % (name, told))
    return told


def pipeline(directory, source, streams):
    path = os.path.join(directory, "p.yaml")
    with open(path, "w") as f:
        f.write("log: {directory: %s/log}\nstreams: %s\n" % (directory, streams))
        f.write("sources: {in: {%s, to: lines}}\n" % source)
    return path


# ---- standard input

BEGIN = ", multiline: {begin: '^\\S'}"
TOO_LONG = ", line_max: 64, on_error: skip"
LINES = [b"line %d of the input\n" % i for i in range(24)]
CRI = [
    b"2026-01-01T00:00:00.000000001Z stdout F one\n",
    b"2026-01-01T00:00:00.000000002Z stdout P tw\n2026-01-01T00:00:00.000000003Z stdout F o\n",
    b"2026-01-01T00:00:00.000000004Z stderr F three\n",
]
JSON = [b'{"a":%d}\n' % i for i in range(5)]
CASES = [
    # name, settings, bytes, what the records came from
    ("lines", "", b"".join(LINES), LINES),
    ("the last line lacks its end", "", b"a\nbb\nccc", [b"a\n", b"bb\n", b"ccc"]),
    ("empty lines", "", b"\n\na\n\n", [b"\n", b"\n", b"a\n", b"\n"]),
    ("crlf", ", crlf: true", b"a\r\nbb\nccc\r\n", [b"a\r\n", b"bb\n", b"ccc\r\n"]),
    ("a byte order mark", "", b"\xef\xbb\xbfa\nb\n", [b"a\n", b"b\n"]),
    ("utf-16", "", wide("\ufeffäa\nb\n"), [wide("äa\n"), wide("b\n")]),
    ("utf-16 unended", "", wide("\ufeffa\nbcd", "be"), [wide("a\n", "be"), wide("bcd", "be")]),
    ("blank lines are skipped", ", blank: skip", b"a\n\n \nb\n\n", [b"a\n\n \n", b"b\n\n"]),
    ("json", ", format: json", b"\n".join(JSON), None),
    ("joined", BEGIN, b"a\n b\n c\nd\ne\n f\n", [b"a\n b\n c\n", b"d\n", b"e\n f\n"]),
    ("cri", ", format: cri", b"".join(CRI), CRI),
    ("a hole", "", b"a\n" + bytes(5000) + b"b\nc\n", [b"a\n", b"b\n", b"c\n"]),
    ("too long, skipped", TOO_LONG, b"a\n" + b"x" * 500 + b"\nb\n", [b"a\n", b"b\n"]),
    ("in turn", "PARTITIONS", b"".join(LINES), LINES),
]


def standard_input():
    for name, settings, data, pieces in CASES:
        if pieces is None:  # the blank lines between belong to the record before them
            pieces = [piece + b"\n" for piece in JSON[:-1]] + [JSON[-1]]
        partitions = 4 if settings == "PARTITIONS" else 1
        with tempfile.TemporaryDirectory() as directory:
            path = pipeline(
                directory,
                "type: stdin" + (settings if partitions == 1 else ""),
                "{lines: {partitions: %d}}" % partitions,
            )
            run("run", path, "--until-idle", data=data)
            check(name, directory + "/log", "lines", data, pieces, partitions, "standard input")


# ---- pawl ingest: with a producer, a part at a time; the last line has no end and gets it later


def ingest(partitions):
    data = b"".join(LINES) + b"no end\nthe last"
    with tempfile.TemporaryDirectory() as directory:
        log, file = directory + "/log", directory + "/input"
        run("init", log, "--segment-size", "1M")
        run("stream", "create", log, "lines", "--partitions", str(partitions))
        for end in (data.index(b"\n", 300) + 1, data.index(b"no end") + 6, len(data)):
            with open(file, "wb") as f:
                f.write(data[:end])
            run("ingest", log, "lines", "--producer", "p", "--batch", "7", file)
        pieces = LINES + [b"no end", b"the last"]
        check("ingest", log, "lines", data, pieces, partitions, "ingest p")
        # the same input as another producer's is the same content twice, and so it is without one
        run("ingest", log, "lines", "--producer", "q", file)
        told = run("audit", log, code=1)
        if "outside-twice" not in told or "of ingest p, and of ingest q" not in told:
            wrong.append("ingest: the same lines came twice, and audit says %s" % told)


# ---- files: every record is led back to bytes that some file had there


class Files:
    def __init__(self, directory, source):
        self.directory = directory
        self.log = directory + "/log"
        self.contents = {}  # name -> all that the file ever held under it
        self.path = pipeline(directory, source.replace("DIR", directory), "{lines: {}}")
        os.mkdir(directory + "/in")

    def name(self, name):
        return os.path.join(self.directory, "in", name)

    def write(self, name, data, mode="ab"):
        with open(self.name(name), mode) as f:
            f.write(data)
        self.note()

    def note(self):
        """Remembers what is there now."""
        for name in os.listdir(self.directory + "/in"):
            with open(self.name(name), "rb") as f:
                self.contents.setdefault(name, []).append(f.read())

    def rename(self, old, new):
        os.rename(self.name(old), self.name(new))
        self.note()

    def longer_copy(self, name, more):
        with open(self.name(name), "rb") as f:
            self.write(name + ".new", f.read() + more, "wb")
        self.rename(name + ".new", name)

    def copy_and_truncate(self, name, copy):
        with open(self.name(name), "rb") as f:
            self.write(copy, f.read(), "wb")
        with open(self.name(name), "wb"):
            pass
        self.note()

    def read(self):
        run("run", self.path, "--until-idle")

    def check(self, case, lines, passed=None, again=0):
        got = values(self.log, "lines")
        if sorted(got) != sorted(lines):
            wrong.append("%s: %d records, not %d" % (case, len(got), len(lines)))
        everything = [data for held in self.contents.values() for data in held]
        for offset, value in some(got):
            told, first, end = explain(self.log, "lines", offset)
            if not any(data[first:end].rstrip(b"\r\n") == value for data in everything):
                wrong.append("%s: %r: bytes %d to %d of %s" % (case, value, first, end, told))
        told = run("audit", self.log)
        if "outside join" not in told or (passed and passed not in told):
            wrong.append("%s: audit says %s" % (case, told))
        if ("%d where a thing began again" % again in told) != (again != 0):
            wrong.append("%s: not %d times again: %s" % (case, again, told))


def numbered(word, first, last):
    return [b"%s %d" % (word, i) for i in range(first, last)]


def text(lines, end=b"\n"):
    return b"".join(line + end for line in lines)


def file_cases():
    a, b, c = numbered(b"a", 0, 40), numbered(b"b", 0, 30), numbered(b"c", 0, 20)
    source = "type: file, path: DIR/in/app.log"

    def plain(f):
        f.write("app.log", text(a[:10]))
        f.read()
        f.write("app.log", text(a[10:]))
        f.read()
        return a

    def crlf(f):
        f.write("app.log", text(a[:10], b"\r\n") + text(a[10:]))
        f.read()
        return a

    def renamed(f):
        f.write("app.log", text(a))
        f.read()
        f.rename("app.log", "app.log.1")
        f.write("app.log", text(b))
        f.write("app.log.1", text(c))
        f.read()
        return a + b + c

    def copies(f):
        f.write("app.log", text(a))
        f.read()
        for i in range(3):
            f.longer_copy("app.log", b"more %d\n" % i)
            f.read()
        return a + numbered(b"more", 0, 3)

    def truncated(f):
        f.write("app.log", text(a))
        f.read()
        f.copy_and_truncate("app.log", "app.log.1")
        f.read()
        f.write("app.log", text(b))
        f.read()
        return a + b

    def from_the_end(f):
        f.write("app.log", text(a))
        f.read()
        f.write("app.log", text(b))
        f.read()
        return b

    def too_long(f):
        long = b"x" * 5000 + b"\n"
        f.write("app.log", text(a) + long + text(b) + b"y" * 70000 + b"\n" + text(c))
        f.read()
        return a + b + c

    def unended(f):
        f.write("app.log", text(a) + b"the end")
        f.read()
        f.write("app.log", b"\n" + text(b))
        f.read()
        return a + [b"the end"] + b

    def several(f):
        f.write("1.log", b"\xef\xbb\xbf" + text(a))
        f.write("2.log", text(b))
        f.write("3.txt", text(c))
        f.read()
        f.write("2.log", text(c))
        f.rename("1.log", "4.log")
        f.write("4.log", b"more 0\n")
        f.read()
        return a + b + c + [b"more 0"]

    def sparse(f):
        f.write("app.log", text(a))
        f.read()
        with open(f.name("app.log"), "r+b") as file:
            file.truncate(50000)
        f.write("app.log", text(b) + bytes(3000) + text(c))
        f.read()
        return a + b + c

    def marked(f):
        f.write("app.log", b"\xef\xbb\xbf" + text(a) + b"\n  \n" + text(b) + b"\n")
        f.read()
        f.write("app.log", b"\n" + text(c))
        f.read()
        return a + b + c

    for case, settings, act, passed, again in (
        ("a file", "", plain, None, 0),
        ("a file with crlf", ", crlf: true", crlf, None, 0),
        ("a renamed file", "", renamed, None, 0),
        ("longer copies", "", copies, None, 0),
        ("a truncated file", "", truncated, None, 1),
        ("start: end", ", start: end", from_the_end, "passed over: start: end", 0),
        ("lines too long", ", line_max: 64, on_error: skip", too_long, "is over line_max", 0),
        ("the end of a file", ", follow: false", unended, None, 0),
        ("holes", "", sparse, "passed over: a hole", 0),
        ("a mark, and blank lines", ", blank: skip", marked, "a byte order mark", 0),
        ("a directory", "dir", several, "bytes 0 to 3 were passed over: a byte order mark", 0),
    ):
        with tempfile.TemporaryDirectory() as directory:
            kind = source + settings
            if settings == "dir":
                kind = "type: dir, path: DIR/in, glob: '*.log'"
            files = Files(directory, kind)
            files.check(case, act(files), passed, again)


# ---- dead letters, and through processors


def dead_letters_and_outputs():
    keep, drop = numbered(b"keep", 0, 15), numbered(b"drop", 0, 9)
    lines = keep[:9] + [b"x" * 500] + drop + keep[9:]
    with tempfile.TemporaryDirectory() as directory:
        log, path, file = directory + "/log", directory + "/p.yaml", directory + "/app.log"
        with open(file, "wb") as f:
            f.write(text(lines))
        with open(path, "w") as f:
            f.write(
                "log: {directory: %s}\nstreams: {lines: {}, kept: {}, last: {}, dead: {}}\n"
                "sources:\n"
                "  in: {type: file, path: %s, to: lines, line_max: 64, dead_letter: dead}\n"
                "processors:\n"
                "  one: {type: filter, from: lines, to: kept, match: '^keep'}\n"
                "  two: {type: filter, from: kept, to: last, match: '4$'}\n" % (log, file)
            )
        run("run", path, "--until-idle")
        data, long = text(lines), lines.index(b"x" * 500)
        begin = len(text(lines[:long]))
        if explain(log, "dead", 0)[1:] != (begin, begin + 501):
            wrong.append("dead letter: %s" % run("explain", log, "dead", "0"))
        told = run("explain", log, "last", "0")
        found = re.search(r"^ +outside +file \S+, bytes (\d+) to (\d+)", told, re.M)
        if not found or b"keep 4\n" not in data[int(found[1]) : int(found[2])]:
            wrong.append("through processors: %s" % told)
        if told.count("by processor") != 2:
            wrong.append("through processors, not two: %s" % told)
        run("audit", log)


standard_input()
dead_letters_and_outputs()
ingest(1)
ingest(3)
file_cases()
print("\n".join(wrong) or "every record leads back to its bytes")
sys.exit(1 if wrong else 0)
