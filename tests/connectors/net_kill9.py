#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sources that listen, in a `pawl run` that is killed with -9 again and again, while its senders
cut their connections and start again. A seed decides what is sent, in which pieces, and after how
many acknowledged lines the next kill comes: net_kill9.py [SEED].

    numbered, over a Unix socket (whose name a killed process leaves behind), TCP and TLS
            each line once and in order; a line that is too long once as a dead letter; what was
            acknowledged is never asked for again
    syslog, counted octets over TCP
            each message at most once, whole, those of a connection in order; all of them after
            the last kill

Hostile peers beside them, from other addresses, change nothing of that.
"""
import bisect
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

PAWL = os.environ["PAWL_COMMAND"]
TOTAL = 3000  # lines of each numbered sender
KILLS = 8
LINE_MAX = 2000
END = time.monotonic() + 250


class Failed(Exception):
    pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def text_of(name, n):
    size = LINE_MAX + 500 if n % 97 == 0 else (n * 37) % 200
    return "%s:%d:%s#" % (name, n, "x" * size)


def too_long(n):
    return n % 97 == 0


class Sender(threading.Thread):
    def __init__(self, name, connect, seed):
        super().__init__(daemon=True)
        self.name, self.dial = name, connect
        self.rng = random.Random(seed)
        self.wrong = None

    def run(self):
        try:
            while not self.finished() and time.monotonic() < END:
                try:
                    with self.dial() as s:
                        s.settimeout(20)
                        self.talk(s)
                except OSError:
                    time.sleep(0.01)  # the pipeline is down; nothing is decided by this
        except Failed as e:
            self.wrong = str(e)


class Numbered(Sender):
    acked = 0
    most = 0  # the largest number sent
    greeted = False

    def finished(self):
        return self.acked == TOTAL

    def heard(self, lines):
        for line in lines:
            word, number = line.split(" ", 1)
            if line.startswith(("ERR silent", "ERR too many connections")):
                raise OSError(line)  # others wait for its place: it comes again
            if word not in ("OK", "ACK"):
                raise Failed("%s: %s" % (self.name, line))
            if int(number) > self.most:
                raise Failed("%s: %s, but %d were sent" % (self.name, line, self.most))
            if word == "OK" and int(number) < self.acked:
                raise Failed("%s: %s, but %d was acknowledged" % (self.name, line, self.acked))
            self.greeted |= word == "OK"
            self.acked = max(self.acked, int(number))

    def talk(self, s):
        rest = b""

        def hear():
            nonlocal rest
            got = s.recv(4096)
            if not got:
                raise OSError("ended")
            *lines, rest = (rest + got).split(b"\n")
            self.heard(line.decode() for line in lines)

        s.sendall(b"PAWL1 %s\n" % self.name.encode())
        self.greeted = False
        while not self.greeted:
            hear()
        first = self.acked + 1
        last = min(TOTAL, self.acked + self.rng.randrange(50, 900))
        self.most = max(self.most, last)
        out = b"".join(b"%d %s\n" % (n, text_of(self.name, n).encode())
                       for n in range(first, last + 1))
        while out:
            n = self.rng.choice((1, 7, 100, 3000, 30000))
            s.sendall(out[:n])
            out = out[n:]
            if self.rng.random() < 0.01:
                return  # goes, in the middle of a line
        until = self.acked if self.rng.random() < 0.3 else last  # 0.3: goes without listening
        while self.acked < until:
            hear()


class Syslog(Sender):
    sent = 0
    stop = False
    certain = None  # the first message that can't be lost any more

    def __init__(self, *args):
        super().__init__(*args)
        self.begins = []  # the first message of each connection

    def finished(self):
        return self.stop

    def talk(self, s):
        self.begins.append(self.sent)
        while not self.stop:
            text = "<13>" + text_of(self.name, self.sent)
            s.sendall(b"%d %s" % (len(text), text.encode()))
            self.sent += 1
            if self.rng.random() < 0.02:
                return
            if self.sent % 50 == 0:
                time.sleep(0.005)  # so that it doesn't fill the log


class Hostile(threading.Thread):
    """Floods the listeners, from another address: greetings, names and numbers of others, silence,
    bytes one by one, endless lines, garbage."""

    stop = False

    def __init__(self, ports, seed):
        super().__init__(daemon=True)
        self.ports, self.rng, self.open = ports, random.Random(seed), []

    def bytes(self):
        name, rng = self.rng.choice(("t1", "s1", "u1", "x%d" % self.rng.randrange(9999))), self.rng
        number = rng.choice((1, 2, 10 ** 6, 2 ** 63, 2 ** 64 - 1))
        return rng.choice((b"", b"P", b"PAWL1 %s\n" % name.encode(),
                           b"PAWL1 %s\n%d stolen\n" % (name.encode(), number),
                           b"x" * rng.randrange(9000), rng.randbytes(200), b"99999 <13>",
                           b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"))

    def run(self):
        while not self.stop:
            try:
                s = socket.create_connection(("127.0.0.1", self.rng.choice(self.ports)), 5,
                                             ("127.0.0.%d" % self.rng.randrange(2, 5), 0))
                s.setblocking(False)
                s.send(self.bytes())
                self.open.append(s)
            except OSError:
                pass  # the pipeline is down, or it has had enough
            while len(self.open) > 90:
                self.open.pop(self.rng.randrange(len(self.open))).close()
            time.sleep(0.003)
        for s in self.open:
            s.close()


def connectors(work, tcp, tls):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def unix():
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(work + "/lines.sock")
        except OSError:
            s.close()
            raise
        return s

    def over(port):
        return lambda: socket.create_connection(("127.0.0.1", port))

    def secure():
        return context.wrap_socket(socket.create_connection(("127.0.0.1", tls)))

    return unix, over(tcp), secure, over


def pipeline(work, tcp, tls, syslog, with_tls):
    sources = {
        "u": {"type": "socket", "to": "lines", "address": "unix:" + work + "/lines.sock"},
        "t": {"type": "socket", "to": "lines", "address": "127.0.0.1:%d" % tcp},
        "y": {"type": "syslog", "to": "logs", "address": "127.0.0.1:%d" % syslog,
              "transport": "tcp", "format": "raw"},
    }
    if with_tls:
        sources["s"] = {"type": "socket", "to": "lines", "address": "127.0.0.1:%d" % tls,
                        "tls_cert": work + "/cert.pem"}
    for s in sources.values():
        s.update(line_max=str(LINE_MAX), dead_letter="dead")
    with open(work + "/p.yaml", "w", encoding="utf-8") as out:
        json.dump({"log": {"directory": work + "/log", "segment_size": "4M"},
                   "streams": ["lines", "logs", "dead"], "sources": sources}, out)


def make_cert(work):
    made = subprocess.run(
        "umask 077; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-subj /CN=x -keyout key -out crt && cat crt key >cert.pem", shell=True, cwd=work,
        check=False, capture_output=True)
    types = subprocess.run([PAWL, "check", "--types"], capture_output=True, text=True, check=True)
    return made.returncode == 0 and "tls_cert" in types.stdout


def records(work, stream):
    out = subprocess.run([PAWL, "cat", work + "/log", stream], capture_output=True, check=True)
    return out.stdout.decode().split("\n")[:-1]


def numbers(work):
    return [int(line.split(":")[1]) for line in records(work, "logs")]


def lost_logs(logs, got):
    return {n for n in range(logs.certain, logs.sent) if not too_long(n)} - set(got)


def count(work, numbered, logs):
    seen = {s.name: [] for s in numbered}
    for line in records(work, "lines"):
        if line == "stolen":
            continue  # a hostile peer's own
        name, n, _ = line.split(":", 2)
        if line != text_of(name, int(n)):
            raise Failed("a line that nobody sent: " + line[:80])
        seen[name].append(int(n))
    for name, got in seen.items():
        want = [n for n in range(1, TOTAL + 1) if not too_long(n)]
        if got != want:
            lost, more = set(want) - set(got), len(got) - len(set(got))
            raise Failed("%s: %d lost, %d doubled, in order: %s"
                         % (name, len(lost), more, got == sorted(got)))
    dead = records(work, "dead")
    for name in seen:
        got = [int(d.split(":")[1]) for d in dead if d.startswith(name + ":")]
        if got != [n for n in range(1, TOTAL + 1) if too_long(n)]:
            raise Failed("%s: the dead letters are %s" % (name, got))
    got = []
    for line in records(work, "logs"):
        n = int(line.split(":")[1])
        if line != "<13>" + text_of(logs.name, n):
            raise Failed("a message that nobody sent: " + line[:80])
        got.append(n)
    # Connections are served in turn: only within one the messages have an order.
    by_connection = sorted(got, key=lambda n: bisect.bisect_right(logs.begins, n))
    if len(got) != len(set(got)) or by_connection != sorted(got):
        raise Failed("syslog: doubled, or out of order")
    lost = lost_logs(logs, got)
    if lost:
        raise Failed("syslog: %d messages lost after the last kill" % len(lost))
    return len(got)


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    work = tempfile.mkdtemp(prefix="net_kill9.", dir="/tmp")
    rng = random.Random(seed)
    tcp, tls, syslog = free_port(), free_port(), free_port()
    with_tls = make_cert(work)
    if not with_tls:
        print("skipped: TLS (no command openssl, or a build without TLS)")
    pipeline(work, tcp, tls, syslog, with_tls)
    unix, plain, secure, over = connectors(work, tcp, tls)
    numbered = [Numbered("u1", unix, seed * 10 + 1), Numbered("u2", unix, seed * 10 + 2),
                Numbered("t1", plain, seed * 10 + 3)]
    numbered += [Numbered("s1", secure, seed * 10 + 4)] if with_tls else []
    logs = Syslog("y1", over(syslog), seed * 10 + 5)
    hostile = Hostile([tcp, tls] if with_tls else [tcp], seed * 10 + 6)
    run = None
    errors = open(work + "/errors", "w+", encoding="utf-8")

    def start():
        return subprocess.Popen([PAWL, "run", work + "/p.yaml"], stderr=errors,
                                stdout=subprocess.DEVNULL)

    def acked():
        return sum(s.acked for s in numbered)

    try:
        run = start()
        for s in numbered + [logs]:
            s.start()
        while any(s.acked == 0 and not s.wrong for s in numbered) and time.monotonic() < END:
            time.sleep(0.002)  # names belong to those who send the first line
        hostile.start()
        for _ in range(KILLS):
            until = min(acked() + rng.randrange(100, TOTAL * len(numbered) // (KILLS + 2)),
                        TOTAL * len(numbered))  # they may be faster than this thread
            while acked() < until and not any(s.wrong for s in numbered) and \
                    time.monotonic() < END and run.poll() is None:
                time.sleep(0.002)
            run.send_signal(signal.SIGKILL)
            if run.wait() != -signal.SIGKILL:
                raise Failed("pawl run ended by itself")
            run = start()
        for s in numbered:
            s.join(max(1, END - time.monotonic()))
            if s.wrong or s.acked != TOTAL:
                raise Failed(s.wrong or "%s: only %d are acknowledged" % (s.name, s.acked))
        logs.certain = logs.sent + 1  # the one at hand may have met the last kill
        while logs.sent < logs.certain + 300 and time.monotonic() < END:
            time.sleep(0.002)
        logs.stop = True
        logs.join(30)
        while lost_logs(logs, numbers(work)) and time.monotonic() < END:
            time.sleep(0.05)  # a source that stops leaves what it has not read yet
        run.terminate()
        if run.wait(60) != 0:
            raise Failed("pawl run ended with %d" % run.returncode)
        messages = count(work, numbered, logs)
        subprocess.run([PAWL, "verify", work + "/log"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([PAWL, "audit", work + "/log"], check=True, stdout=subprocess.DEVNULL)
        print("seed %d: killed %d times; %d senders, %d lines each, all there once; %d of %d "
              "messages of syslog" % (seed, KILLS, len(numbered), TOTAL, messages, logs.sent))
        return 0
    except Failed as e:
        errors.seek(0)
        print("FAILED, seed %d: %s\n%s" % (seed, e, errors.read()[-3000:]))
        return 1
    finally:
        logs.stop = hostile.stop = True
        if run is not None and run.poll() is None:
            run.kill()
            run.wait()
        errors.close()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
