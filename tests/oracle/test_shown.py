# SPDX-License-Identifier: Apache-2.0
# test-label: slow
# test-timeout: 400
"""Strangers' bytes never drive a terminal and never forge a line, whichever command shows them.

    test_shown.py [-v] [TestCase.test_NAME]

Each way in (texts of a log, arguments, pipeline files, file names, records, the answer of a run
socket) is tried with each hostile text. What the command writes, to a pipe and to a terminal, has
no control character but the newline, no character that is invisible, breaks lines or turns the
direction of writing, and nothing that is not UTF-8; and no line begins with what a hostile text
has after its newline."""

import json
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from pawl_writer import Writer, rec  # noqa: E402

PAWL = os.environ["PAWL_COMMAND"]
TIME = 1_700_000_000_000_000_000
FORGED = "log: well"
HOSTILE = {
    "newline": b"a\n" + FORGED.encode(),
    "return": b"a\r" + FORGED.encode(),
    "escape": b"\x1b[2J\x1b]0;title\x07",
    "c1": "\u009b31m".encode(),
    "c1-byte": b"\x9b31m",
    "next-line": ("\u0085" + FORGED).encode(),
    "line-separator": ("\u2028" + FORGED).encode(),
    "override": "\u202egnp.exe\u202c".encode(),
    "isolate": "\u2066x\u2069".encode(),
    "invisible": "a\u200b\ufeffb".encode(),
    "delete": b"a\x7fb",
    "not-utf8": b"\xff\xfe\xc0\x8a",
    "tag": "\U000e0041".encode(),
}
BAD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\U000e0000-\U000e0fff]"
)


def run(*args, cwd=None, env=None, given=b""):
    """(code, output, messages) of the command."""
    done = subprocess.run([PAWL, *args], cwd=cwd, env=env, input=given, capture_output=True,
                          timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def run_on_terminal(*args):
    """(code, what a terminal got) of the command."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen([PAWL, *args], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    got = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the last writer has closed it
            break
        if not piece:
            break
        got += piece
    os.close(ours)
    return child.wait(), got.replace(b"\r\n", b"\n")


class Shown(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="pawl-shown-")
        self.addCleanup(shutil.rmtree, self.dir, True)

    def well(self, output, what):
        """Nothing in it does what it must not."""
        try:
            text = output.decode()
        except UnicodeDecodeError:
            self.fail(f"{what}: not UTF-8: {output!r}")
        found = BAD.search(text)
        self.assertIsNone(found, f"{what}: {found and found[0]!r} in {text!r}")
        for line in text.split("\n"):
            self.assertFalse(line.strip().startswith(FORGED), f"{what}: a forged line in {text!r}")
        return text

    def path(self, name):
        return os.path.join(self.dir, name)

    def log(self, *texts, name="log"):
        """A log with the texts in each place where a log may have any bytes."""
        w = Writer(bytes(16), TIME)
        t = w.txn()
        t.stream("s", 1)
        t.producer("p")
        t.processor("q")
        t.commit()
        for text in texts:
            t = w.txn()
            t.records("s", 0, [rec(text, key=text, headers=[(text, text)])])
            t.sequences("p", 1, cookie=text[:32])
            t.sink("q", text)
            t.origin("p", "s", text, 0, 24, [(0, 1)], kind=1, step=1, flags=1, note=text)
            t.commit()
            t = w.txn()
            t.origin("p", "s", text, 100, 200, records=0, flags=4, note=text)  # after a gap
            t.commit()
        w.close()
        w.save(self.path(name))
        return self.path(name)

    def test_texts_of_a_log(self):
        commands = [("status",), ("status", "--json"), ("verify",), ("audit",), ("dump",),
                    ("stream", "list"), ("processor", "list"), ("explain", "s", "0"),
                    ("cat", "s", "--format", "json"), ("retention",), ("repair",)]
        where = self.log(*HOSTILE.values())
        commands += [("explain", "s", str(offset)) for offset in range(1, len(HOSTILE))]
        for command, *rest in commands:
            args = ((command, rest[0], where, *rest[1:])
                    if command in ("stream", "processor") else (command, where, *rest))
            for code, out, err in (run(*args), (*run_on_terminal(*args), b"")):
                self.assertIn(code, (0, 1), f"{args}: {err!r}")
                self.well(out + err, args)

    def test_the_text_is_still_told(self):
        where = self.log(HOSTILE["newline"])
        _, out, _ = run("dump", where)
        self.assertIn(b"decided a\\nlog: well\n", out)
        _, out, _ = run("explain", where, "s", "0")
        self.assertIn(b"outside    a\\nlog: well, byte", out)
        _, out, _ = run("audit", where)
        self.assertIn(b"a\\nlog: well", out)

    def test_names_are_judged_on_load(self):
        for label, text in HOSTILE.items():
            for kind in ("stream", "producer", "processor", "renamed"):
                w = Writer(bytes(16), TIME)
                t = w.txn()
                t.stream("s", 1)
                if kind == "renamed":
                    t.rename("stream", b"s", text)
                else:
                    getattr(t, kind)(text, *([1] if kind == "stream" else []))
                t.commit()
                w.close()
                where = self.path(f"{label}-{kind}")
                w.save(where)
                code, out, err = run("status", where)
                self.assertEqual((code, out), (3, b""), f"{label} {kind}")
                self.assertIn(b"the log holds the name", err)
                for command in ("verify", "audit", "dump", "repair") if kind == "stream" else ():
                    _, out, err = run(command, where)
                    self.well(out + err, f"{label} {kind}: {command}")

    def test_names_that_earlier_logs_may_have(self):
        w = Writer(bytes(16), TIME)
        t = w.txn()
        t.stream("größe/Δ", 1)
        t.producer("lost-1+")
        t.commit()
        w.close()
        w.save(self.path("log"))
        code, out, err = run("status", self.path("log"))
        self.assertEqual((code, err), (0, b""))
        self.assertIn("größe/Δ".encode(), out)

    def test_records(self):
        for label, text in HOSTILE.items():
            where = self.log(text, name=label)
            self.assertEqual(run("cat", where, "s"), (0, text + b"\n", b""))  # a pipe: as it is
            code, out = run_on_terminal("cat", where, "s")
            self.assertEqual(code, 0)
            self.assertEqual(self.well(out, label).count("\n"), 1, label)
            _, out, _ = run("cat", where, "s", "--format", "json")
            record = json.loads(self.well(out, label))
            if "value" in record:
                self.assertEqual(record["value"].encode(), text)
            else:
                self.assertIn("value_base64", record)
        code, out = run_on_terminal("cat", where, "s", "--format", "raw")
        self.assertEqual(code, 2)
        self.assertIn(b"not for a terminal", out)

    def test_arguments(self):
        for label, text in HOSTILE.items():
            hostile = os.fsdecode(text)
            for args in ((hostile,), ("status", hostile), ("cat", self.dir, hostile),
                         ("status", "--" + hostile), ("explain", self.dir, "s", hostile),
                         ("init", hostile + "/x/y"), ("cat", self.dir, "s", "--format", hostile),
                         ("check", hostile), ("run", hostile), ("help", hostile),
                         ("stream", "create", self.dir, hostile), ("dump", hostile),
                         ("verify", hostile), ("crashtest", hostile, "--for", hostile)):
                code, out, err = run(*args, cwd=self.dir)
                self.assertNotEqual(code, 0)
                self.well(out + err, f"{label}: {args}")

    def test_a_log_in_a_hostile_directory(self):
        for label, text in HOSTILE.items():
            where = self.path(os.fsdecode(text).replace("/", "_"))
            self.assertEqual(run("init", where, "--segment-size", "1M")[0], 0)
            for args in (("status", where), ("status", where, "--json"), ("verify", where),
                         ("audit", where), ("repair", where)):
                code, out, err = run(*args)
                self.assertEqual(code, 0, err)
                text = self.well(out + err, f"{label}: {args}")
                if "--json" in args:
                    json.loads(text)

    def test_pipeline_files(self):
        for label, text in HOSTILE.items():
            try:  # YAML's own escapes: \e and \u202e arrive as the characters
                quoted = json.dumps(text.decode())
            except UnicodeDecodeError:
                quoted = f'"{os.fsdecode(text)}"'
            places = (
                f"log: {{directory: {quoted}}}\nname: {quoted}\nstreams: [s]\n"
                f"sources: {{a: {{type: stdin, to: s}}}}\n",
                f"{quoted}: 1\n",
                f"log: {{directory: x}}\nstreams: [{quoted}]\n",
                f"log: {{directory: x}}\nstreams: [s]\nsources: {{{quoted}: {{type: {quoted}}}}}\n",
                f"log: {{directory: x}}\nstreams: [s]\nsources:\n  a: {{type: stdin, to: {quoted}, "
                f"{quoted}: 1, batch_records: {quoted}}}\n",
                f"log: {{directory: x}}\nstreams: [s]\nsources:\n  a: {{type: file, to: s, path: "
                f"{quoted}}}\n  b: {{type: file, to: s, path: {quoted}}}\n",
            )
            for number, place in enumerate(places):
                file = self.path(f"{number}.yaml")
                with open(file, "wb") as out:
                    out.write(os.fsencode(place))
                _, out, err = run("check", file, cwd=self.dir)
                self.well(out + err, f"{label}: {place}")

    def test_file_names_and_records_of_a_pipeline(self):
        """A followed directory with hostile names, delivered to a terminal."""
        data = self.path("data")
        os.mkdir(data)
        for text in HOSTILE.values():
            name = os.fsencode(data) + b"/" + text.replace(b"/", b"_") + b".gz"
            with open(name, "wb") as out:
                out.write(b"\x1f\x8bno gzip\n" + text + b"\n")
            with open(name[:-3] + b".log", "wb") as out:
                out.write(text + b"\n")
        file = self.path("p.yaml")
        with open(file, "w", encoding="utf-8") as out:
            out.write(f"log: {{directory: {self.path('log')}}}\nstreams: [s]\nsources:\n"
                      f"  d: {{type: dir, path: {data}, to: s, compressed: read, on_error: skip}}\n"
                      "sinks:\n  o: {type: stdout, from: s}\n")
        code, out = run_on_terminal("run", file, "--until-idle", "--quiet")
        self.assertIn(code, (0, 1), out)
        self.well(re.sub(rb"^log: well\n", b"", out, flags=re.M), "a run")
        self.assertIn(b"\\u001b[2J", out)
        for args in (("status", self.path("log")), ("audit", self.path("log")),
                     ("dump", self.path("log")), ("explain", self.path("log"), "s", "0")):
            code, out, err = run(*args)
            self.well(out + err, args)

    def test_what_programs_write_to_a_terminal(self):
        lines = b"".join(text.replace(b"\n", b"_") + b"\n" for text in HOSTILE.values())
        lines += b"x" * 10000 + b"\x1b\nlast"
        with open(self.path("in"), "wb") as out:
            out.write(lines)
        file = self.path("p.yaml")
        with open(file, "w", encoding="utf-8") as out:
            out.write(f"log: {{directory: {self.path('log')}, segment_size: 1M}}\nstreams: [s, t]\n"
                      f"sources:\n  f: {{type: file, path: {self.path('in')}, to: s, follow: false}}\n"
                      "sinks:\n  e: {type: exec, from: s, command: 'cat >&2'}\n")
        for args in (("run", "--quiet", file),
                     ("pipe", self.path("log"), "--name", "n", "--from", "s", "--to", "t", "--",
                      "sh", "-c", "cat >&2")):
            code, out = run_on_terminal(*args)
            self.assertEqual(code, 0, out)
            text = self.well(out.replace(b"\r\x1b[K", b""), args)
            self.assertIn("\\u001b[2J\\u001b]0;title\\u0007\n", text)
            self.assertEqual(text.count("x" * 16), 625)  # in pieces of 4096
            self.assertIn("\\u001b\n", text)
            self.assertIn("last", text)

    def answer(self, where, data):
        """A run socket that gives this answer to one who asks."""
        server = socket.socket(socket.AF_UNIX)
        self.addCleanup(server.close)
        server.bind(os.path.join(where, "run.sock"))
        server.listen(4)

        kept = []

        def serve():
            while True:
                try:
                    one, _ = server.accept()
                except OSError:
                    return
                try:
                    one.sendall(data if data is not None else b"{")
                except OSError:
                    pass
                if data is not None:
                    one.close()
                kept.append(one)

        threading.Thread(target=serve, daemon=True).start()

    def test_a_run_socket(self):
        for label, text in HOSTILE.items():
            where = self.path(label)
            run("init", where, "--segment-size", "1M")
            told = text.decode(errors="replace")
            flow = {k: told for k in ("kind", "name", "type", "state", "target", "message")}
            self.answer(where, json.dumps({"name": told, "file": told, "state": told,
                                           "failure": told, "flows": [flow, told]}).encode())
            for args in (("status", where), ("status", where, "--json")):
                code, out, err = run(*args)
                self.assertEqual(code, 0)
                self.well(out + err, f"{label}: {args}")
                self.assertIn(b"flows" if "--json" in args else b"pipeline", out)

    def test_what_a_run_socket_may_not_do(self):
        """No answer that is too long, too slow or no object; nothing but a socket in its place."""
        where = self.path("log")
        run("init", where, "--segment-size", "1M")
        place = os.path.join(where, "run.sock")
        for label, data, words in (("long", b'{"name": "' + b"x" * (5 << 20), b"larger than 4 MiB"),
                                   ("list", b"[1]", b"no JSON object"),
                                   ("garbage", b"\x1b[2J{", b"no JSON object"),
                                   ("deep", b"[" * 100000, b"no JSON object"),
                                   ("slow", None, b"did not come within 3 seconds")):
            self.answer(where, data)
            code, out, err = run("status", where)
            self.assertEqual(code, 0, label)
            self.assertIn(words, err, label)
            self.assertNotIn(b"pipeline", out, label)
            self.well(out + err, label)
            os.unlink(place)
        self.answer(where, b'{"name": "other"}')
        other = self.path("other.sock")
        os.rename(place, other)
        os.symlink(other, place)
        self.assertNotIn(b"pipeline", run("status", where)[1])

    @unittest.skipIf(os.geteuid() != 0, "only root can be another user")
    def test_a_run_socket_of_another_user(self):
        where = self.path("log")
        run("init", where, "--segment-size", "1M")
        for directory in (self.dir, where):
            os.chmod(directory, 0o777)
        server = f"""import os, socket
s = socket.socket(socket.AF_UNIX)
os.setuid(65534)
s.bind({where + '/run.sock'!r})
s.listen(4)
print(flush=True)
while True:
    one = s.accept()[0]
    try:
        one.sendall(b'{{"name": "theirs"}}')
    except BrokenPipeError:
        pass
    one.close()
"""
        with subprocess.Popen([sys.executable, "-c", server], stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            code, out, err = run("status", where)
            self.assertEqual(code, 0)
            self.assertNotIn(b"theirs", out)
            self.assertIn(b"user 65534, is not shown: neither root", err)
            os.chown(where, 65534, -1)  # the owner of the log is listened to
            self.assertIn(b"theirs", run("status", where)[1])
            child.kill()

    def test_a_run_sockets_place(self):
        file = self.path("p.yaml")
        where = self.path("log")
        place = os.path.join(where, "run.sock")

        runs = []

        def running(mode, umask):
            """The mode of the socket while a pipeline runs."""
            with open(file, "w", encoding="utf-8") as out:
                out.write(f"log: {{directory: {where}, segment_size: 1M, socket_mode: {mode}}}\n"
                          "streams: [s]\nsources:\n  i: {type: stdin, to: s}\n")
            child = subprocess.Popen([PAWL, "run", file], stdin=subprocess.PIPE,
                                     stderr=subprocess.PIPE, umask=umask)
            runs.append({"name": "i", "sequence": 0, "epoch": len(runs) + 1})
            deadline = time.monotonic() + 60
            while child.poll() is None and time.monotonic() < deadline:  # until all of it runs
                code, out, _ = run("status", where, "--json")
                if code == 0 and json.loads(out)["producers"] == runs[-1:]:
                    break
            found = os.lstat(place).st_mode
            told = run("status", where)[1]
            child.stdin.close()
            messages = child.stderr.read()
            child.stderr.close()
            self.assertEqual(child.wait(), 0, messages)
            return found, told, messages

        for mode, umask in (("0600", 0), ("0660", 0o077), ("0666", 0o022)):
            found, told, _ = running(mode, umask)
            self.assertEqual(found & 0o777, int(mode, 8))
            self.assertIn(b"pipeline p.yaml", told)
            self.assertFalse(os.path.lexists(place))
        kept = self.path("kept")
        for plant in (lambda: os.symlink(kept, place), lambda: os.mkdir(place),
                      lambda: shutil.copy(file, place)):
            plant()
            before = os.lstat(place)
            _, told, messages = running("0600", 0o022)
            self.assertIn(b"what is there is no socket, and stays", messages)
            self.assertNotIn(b"pipeline", told)
            self.assertEqual(os.lstat(place).st_ino, before.st_ino)
            (os.rmdir if os.path.isdir(place) else os.unlink)(place)
        self.assertFalse(os.path.exists(kept))
        for mode in ("0777", "400", "9", "u+w", "00600"):
            with open(file, "w", encoding="utf-8") as out:
                out.write(f"log: {{directory: x, socket_mode: {mode}}}\nstreams: [s]\n")
            self.assertIn(b"socket_mode must be", run("check", file)[2])


if __name__ == "__main__":
    unittest.main()
