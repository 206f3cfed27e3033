# SPDX-License-Identifier: Apache-2.0
# test-label: slow
# test-timeout: 400
"""A secret is shown nowhere, however the pipeline file, libpq or OpenSSL come to speak of it.

    test_secrets.py [-v] [TestCase.test_NAME]

Each way in which a secret can get into a message is tried with planted secrets; what the command
says must have none of them, nor the pieces of one into which a parser may cut it. And the ways in
which a secret may be given: in the file, by the environment, by NAME_file, ${file:PATH} and
${credential:NAME}."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest

PAWL = os.environ["PAWL_COMMAND"]
# As a parser may cut them: no piece may be seen.
SECRET = "Xq7-hunter2"
PIECES = ("Xq7", "hunter2", "unter", "2bad", "s3cond")
ENV, PASSFILE, SERVICE = " ", "  ", "   "  # after a setting: the test gives the password elsewhere
HEAD = "log: {directory: LOG, segment_size: 1M}\nstreams: [s]\n"


def has_postgres():
    out = subprocess.run([PAWL, "check", "--types"], capture_output=True, check=False).stdout
    return b"sink postgres" in out


class Secrets(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="pawl-secrets-")
        self.addCleanup(shutil.rmtree, self.dir, True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text, mode=0o600):
        path = self.path(name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(path, mode)
        return path

    def run_command(self, *args, env=None, timeout=60):
        """(code, all that it said)"""
        done = subprocess.run([PAWL, *args], cwd=self.dir, env={**os.environ, **(env or {})},
                              capture_output=True, timeout=timeout, check=False)
        return done.returncode, (done.stdout + done.stderr).decode()

    def hidden(self, said, what):
        for piece in PIECES:
            self.assertNotIn(piece, said, what)

    def check(self, text, env=None, mode=0o600, head=HEAD):
        """What `pawl check` says of such a file."""
        file = self.write("p.yaml", head + text, mode)
        return self.run_command("check", file, env=env)

    def test_conninfo_that_libpq_refuses(self):
        if not has_postgres():
            self.skipTest("built without libpq")
        table = (
            ("blank-in-password", f"host=db password={SECRET} s3cond"),
            ("blank-then-equals", f"host=db password={SECRET} s3cond=x"),
            ("no-equals", f"host=db {SECRET}"),
            ("only-the-password", SECRET),
            ("quote-without-end", f"host=db password='{SECRET}"),
            ("quote-in-password", f"host=db password='Xq7'hunter2'"),
            ("backslash", f"host=db password='{SECRET}\\"),
            ("option-mistyped", f"host=db {SECRET}=x"),
            ("uri-percent", f"postgresql://u:{SECRET}%2bad%@db/d"),
            ("uri-percent-zz", f"postgresql://u:{SECRET}%zz@db/d"),
            ("uri-nul", f"postgresql://u:{SECRET}%00@db/d"),
            ("uri-slash", "postgresql://u:Xq7/hunter2@db/d"),
            ("uri-at", "postgresql://u:Xq7@hunter2@db/d"),
            ("uri-question", "postgresql://u:Xq7?hunter2@db/d"),
            ("uri-hash-slash", "postgres://u:Xq7#/hunter2@db/d"),
            ("uri-no-at", f"postgresql://u:{SECRET}/d"),
            ("uri-parameter", f"postgresql://db/d?{SECRET}=1"),
            ("uri-parameter-alone", f"postgresql://u:{SECRET}@db/d?s3cond"),
            ("uri-bracket", f"postgresql://u:{SECRET}@[::1/d"),
            ("port", f"host=db port={SECRET}"),
            ("two-equals", f"host=db password=={SECRET} ="),
            ("service", f"service={SECRET} password={SECRET}"),
        )
        for label, conninfo in table:
            quoted = json.dumps(conninfo)
            for kind, text in (
                ("sinks", f"sinks:\n  d: {{type: postgres, from: s, table: t, conninfo: {quoted}, "
                          "columns: {v: value}}\n"),
                ("sources", "sources:\n  d: {type: postgres, to: s, table: t, column: c, conninfo: "
                            f"{quoted}}}\n")):
                code, said = self.check(text)
                self.hidden(said, f"{label}, {kind}: {said}")
                if label not in ("service", "blank-then-equals", "two-equals"):
                    self.assertEqual((code, "conninfo" in said), (1, True), f"{label}: {said}")

    def server(self, answer):
        """A peer that answers each connection to PostgreSQL with these bytes."""
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)

        def serve():
            while True:
                try:
                    one, _ = listener.accept()
                    one.recv(4096)
                    one.sendall(answer)
                    one.close()
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        return listener.getsockname()[1]

    def test_a_server_that_says_the_password(self):
        if not has_postgres():
            self.skipTest("built without libpq")
        text = f"no {SECRET} for {SECRET}".encode()
        fields = b"SFATAL\0VFATAL\0C28P01\0M" + text + b"\0D" + b"x" * 300 + text + b"\0\0"
        port = self.server(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
        self.write("pw", SECRET + "\n")
        plain = f'conninfo: "host=127.0.0.1 port={port} sslmode=disable"'
        self.write("pass", f"*:*:*:*:{SECRET}\n")
        self.write("service", f"[db]\npassword={SECRET}\n")
        for given in (f'conninfo: "host=127.0.0.1 port={port} sslmode=disable password={SECRET}"',
                      f'conninfo: "postgresql://u:{SECRET}@127.0.0.1:{port}/d?sslmode=disable"',
                      f"{plain}, password_file: pw", plain + ENV, plain + PASSFILE,
                      plain.replace("host", "service=db host") + SERVICE):
            env = {**os.environ, "PGPASSWORD": SECRET} if given == plain + ENV else dict(os.environ)
            if given == plain + PASSFILE:
                env["PGPASSFILE"] = self.path("pass")
            env["PGSERVICEFILE"] = self.path("service")
            file = self.write("p.yaml", HEAD + "sinks:\n  d: {type: postgres, from: s, table: t, "
                              f"{given}, columns: {{v: value}}}}\n")
            child = subprocess.Popen([PAWL, "run", file], cwd=self.dir, stderr=subprocess.PIPE,
                                     env=env)
            deadline, status = time.monotonic() + 30, ""
            while ("28P01" not in status and child.poll() is None and
                   time.monotonic() < deadline):  # it ends once its only part has failed
                _, status = self.run_command("status", "LOG", "--json")
            child.terminate()
            said = child.communicate()[1].decode()
            self.assertIn("28P01", said + status, given)
            self.assertIn("no *** for ***", said + status, given)
            self.hidden(said + status, given)

    def test_a_key_with_a_password(self):
        if shutil.which("openssl") is None:
            self.skipTest("no openssl command")
        made = subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-subj",
             "/CN=localhost", "-keyout", "key", "-out", "cert", "-passout", f"pass:{SECRET}"],
            cwd=self.dir, capture_output=True, check=False)
        self.assertEqual(made.returncode, 0, made.stderr)
        self.write("right", SECRET + "\n")
        self.write("wrong", SECRET + "2bad")
        for given, well in (("tls_key_password_file: right", True), ("", False),
                            ("tls_key_password_file: wrong", False),
                            (f"tls_key_password: {SECRET}", True)):
            self.write("p.yaml", HEAD + "sources:\n  a: {type: socket, to: s, address: "
                       f"'127.0.0.1:0', tls_cert: cert, tls_key: key, {given}}}\n")
            child = subprocess.Popen([PAWL, "run", "p.yaml"], cwd=self.dir, stderr=subprocess.PIPE)
            deadline, flow = time.monotonic() + 30, {}
            while flow.get("state") not in ("idle", "waiting") and time.monotonic() < deadline:
                status = self.run_command("status", "LOG", "--json")[1]
                if status.startswith("{"):
                    flow = (json.loads(status).get("pipeline", {}).get("flows") or [{}])[0]
            child.terminate()
            said = child.communicate()[1].decode()
            self.assertEqual(flow.get("state"), "idle" if well else "waiting", f"{given}: {said}")
            self.hidden(said + json.dumps(flow), given)

    def test_settings_of_a_wrong_kind(self):
        env = {"SOME_VALUE": SECRET, "DB_PASSWORD": SECRET}
        self.write("pw", SECRET)
        os.mkdir(self.path("cred"))
        self.write("cred/c", SECRET)
        env["CREDENTIALS_DIRECTORY"] = self.path("cred")
        for value in ("${SOME_VALUE}", "${DB_PASSWORD}", "${file:pw}", "${credential:c}",
                      "a${SOME_VALUE}b", "${SOME_VALUE}" * 200):
            for text in (
                f"sources:\n  a: {{type: stdin, to: s, batch_records: '{value}'}}\n",
                f"sources:\n  a: {{type: stdin, to: '{value}'}}\n",
                f"sources:\n  a: {{type: '{value}', to: s}}\n",
                f"sources:\n  a: {{type: stdin, to: s, '{value}': 1}}\n",
                f"sources:\n  '{value}': {{type: stdin, to: s}}\n",
                f"sources:\n  a: {{type: stdin, to: s, on_error: '{value}'}}\n",
                f"sources:\n  a: {{type: socket, to: s, address: '{value}'}}\n",
                f"sources:\n  a: {{type: socket, to: s, address: '127.0.0.1:1', mode: '{value}'}}\n",
                f"'{value}': 1\n",
                f"drain: '{value}'\n",
                f"x: {{'{value}': 1, '{value}': 2}}\n",
                f"sinks:\n  a: {{type: postgres, from: s, table: t, conninfo: ['{value}']}}\n",
                f"sinks:\n  a: {{type: postgres, from: s, table: t, conninfo: '{value} x', "
                "columns: {v: value}}\n",
                f"sinks:\n  a: {{type: postgres, from: s, table: t, kind: '{value}', conninfo: "
                "'host=x'}\n",
            ):
                code, said = self.check(text, env=env)
                if "SOME_VALUE" in value and code == 0:
                    continue  # no secret by its name, and a name as good as any
                if "': {type: stdin, to: s}" not in text:
                    self.assertEqual(code, 1, f"{text}: {said}")
                self.hidden(said, f"{text}: {said}")

    def test_a_file_that_is_no_yaml(self):
        for text in (f'a: "{SECRET}\n', f"a: @{SECRET}\n", f"a: &{SECRET} 1\n", f"a: *{SECRET}\n",
                     f"a: !{SECRET} 1\n", f"\t{SECRET}: 1\n", f"a: {SECRET}: 1\n", f"- {SECRET}\na",
                     f"a: %{SECRET}\n", f"%{SECRET}\n", f"a: |9{SECRET}\n", f'a: "\\q{SECRET}"\n',
                     f"a: ${{{SECRET}}}\n", f"a: ${{A-{SECRET}}}\n", f"a: ${{A:-${{{SECRET}}}\n"):
            said = self.check(text)[1]
            if "${" not in text:  # there the text is a variable's name, by its form
                self.hidden(said, f"{text}: {said}")

    def test_ways_to_give_a_secret(self):
        if not has_postgres():
            self.skipTest("built without libpq")
        self.write("pw", SECRET + "\r\n")
        self.write("ci", f"host=db password={SECRET}\n", 0o640)
        os.mkdir(self.path("cred"))
        self.write("cred/db.pw", SECRET, 0o400)
        env = {"CREDENTIALS_DIRECTORY": self.path("cred"), "PW": SECRET}
        for given in ("conninfo: host=db, password_file: pw", "conninfo_file: ci",
                      "conninfo: 'host=db password=${credential:db.pw}'",
                      "conninfo: host=db, password: '${credential:db.pw}'",
                      "conninfo: 'host=db password=${file:pw}'", "conninfo: host=db, password: $PW",
                      "conninfo: host=db, password: '${PW}'", f"conninfo_file: {self.path('ci')}"):
            code, said = self.check("sinks:\n  d: {type: postgres, from: s, table: t, columns: "
                                    f"{{v: value}}, {given}}}\n", env=env)
            self.assertEqual(code, 0, f"{given}: {said}")
            self.hidden(said, given)
        for given, words in (
            ("conninfo: host=db, password: a, password_file: pw", "are both given"),
            ("password_file: pw", 'needs the setting "conninfo"'),
            ("conninfo: host=db, passwrd_file: pw", "has no setting"),
            ("conninfo: host=db, table_file: pw", "has no setting"),
            ("conninfo: host=db, password: '${credential:none}'", "cannot be read: No such file"),
            ("conninfo: host=db, password: '${credential:../pw}'", "name without a /"),
            ("conninfo: host=db, password: '${credential:}'", "name without a /"),
            ("conninfo: host=db, password: '${file:}'", "needs a path"),
        ):
            code, said = self.check("sinks:\n  d: {type: postgres, from: s, table: t, columns: "
                                    f"{{v: value}}, {given}}}\n", env=env)
            self.assertEqual(code, 1, given)
            self.assertIn(words, said)
        code, said = self.check("x: '${credential:a}'\n", env={"CREDENTIALS_DIRECTORY": ""})
        self.assertIn("there is no CREDENTIALS_DIRECTORY", said)

    def test_files_that_are_refused(self):
        def fifo(path):
            os.mkfifo(path, 0o600)

        def file(mode, text=SECRET):
            def make(path):
                self.write(path, text, mode)
            return make

        for label, make, words in (
            ("others-read", file(0o604), "by other users: chmod o-rwx,g-w"),
            ("others-write", file(0o602), "by other users"),
            ("group-writes", file(0o620), "by other users"),
            ("fifo", fifo, "is not a regular file"),
            ("directory", os.mkdir, "is not a regular file"),
            ("empty", file(0o600, ""), "is empty"),
            ("newline", file(0o600, "\n"), "is empty"),
            ("nul", file(0o600, SECRET + "\0x"), "has a NUL"),
            ("long", file(0o600, SECRET * 1000), "is too long"),
            ("absent", lambda path: None, "No such file"),
        ):
            path = self.path(label)
            make(path)
            for text in (f"sources:\n  a: {{type: socket, to: s, address: '127.0.0.1:1', tls_cert: "
                         f"c, tls_key_password_file: '{path}'}}\n",
                         f"drain: '${{file:{path}}}'\n"):
                code, said = self.check(text)
                self.assertEqual(code, 1, label)
                self.assertIn(words, said, label)
                self.hidden(said, label)

    def test_a_public_file_and_arguments(self):
        if not has_postgres():
            self.skipTest("built without libpq")
        sink = ("sinks:\n  d: {{type: postgres, from: s, table: t, columns: {{v: value}}, "
                "conninfo: '{}'}}\n")
        for conninfo, remarked in ((f"host=db password={SECRET}", True), ("host=db user=u", False),
                                   (f"postgres://u:{SECRET}@db/d", True),
                                   ("host=db password=${PW}", False)):
            for mode in (0o644, 0o640):
                code, said = self.check(sink.format(conninfo), env={"PW": SECRET}, mode=mode)
                self.assertEqual(code, 0, said)
                self.assertEqual("every user can read this file" in said,
                                 remarked and bool(mode & stat.S_IROTH), f"{conninfo}: {said}")
                self.hidden(said, conninfo)
        self.write("pw", SECRET)
        code, said = self.check("sinks:\n  e: {type: exec, from: s, command: [sh, -c, "
                                "'curl -u u:${file:pw}']}\n")
        self.assertEqual(code, 1, said)
        self.assertIn("every user can read the arguments", said)
        self.hidden(said, "arguments")


if __name__ == "__main__":
    sys.exit(unittest.main())
