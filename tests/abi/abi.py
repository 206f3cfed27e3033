#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""abi.py - the binary interface of the public headers, kept in golden files beside this script.

    abi.py layout [--write]                  sizes, offsets and values, as a compiler lays them out
    abi.py library [--write] NAME=FILE...    what libabigail sees in the shared libraries

Without --write the result is compared with the golden file: exit code 1 and a diff where they
differ, 77 where it can't be tried here. `./dev abi` writes them anew. The layout is that of x86-64;
other systems with 64-bit pointers, aarch64 among them, have the same.
"""
import argparse
import difflib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
INCLUDE = HERE.parent.parent / "include"
HEADERS = ("pawl.h", "pawl_state.h", "pawl_time.h", "pawl_connect.h")
COMMENT = re.compile(r"/\*.*?\*/", re.S)
STRUCT = re.compile(r"^typedef struct (\w+) \{(.*?)^\} (\w+);", re.S | re.M)
ENUM = re.compile(r"^enum (\w+) \{(.*?)\};", re.S | re.M)
ERROR = re.compile(r"^    X\((\w+), -\d+, ", re.M)
SKIPPED = 77


def members(body):
    """Names of a struct's members, in order; what an inner struct holds belongs to its name."""
    body = re.sub(r"\{.*?\}", "", body, flags=re.S)
    names = []
    for declaration in body.split(";"):
        pointer = re.search(r"\(\*(\w+)\)", declaration)
        if pointer:
            names.append(pointer[1])
            continue
        for part in declaration.split(","):
            name = re.search(r"(\w+)\s*(\[[^\]]*\]\s*)*$", part.strip())
            if name:
                names.append(name[1])
    return names


def program(headers, sources):
    """A C program that prints the layout of all that these headers declare."""
    lines = ["#include <stddef.h>", "#include <stdio.h>"]
    lines += [f'#include "{header}"' for header in headers]
    lines += ["#define SIZE(t) printf(#t \": %zu bytes\\n\", sizeof(t))",
              "#define AT(t, m) printf(\"    %zu %s, %zu\\n\", offsetof(t, m), #m, "
              "sizeof(((t *)0)->m))",
              "#define IS(name) printf(\"    %lld %s\\n\", (long long)(name), #name)",
              "int main(void) {"]
    for source in sources:
        text = COMMENT.sub("", source)
        for _, body, name in STRUCT.findall(text):
            lines.append(f"    SIZE({name});")
            lines += [f"    AT({name}, {member});" for member in members(body)]
        for name, body in ENUM.findall(text):
            names = re.findall(r"\b(PAWL_\w+)\s*(?==|,|$)", body)
            if "PAWL_ERRORS" in body:
                names += [f"PAWL_{error}" for error in ERROR.findall(text)]
            lines.append(f'    puts("enum {name}:");')
            lines += [f"    IS({each});" for each in names]
    return "\n".join(lines + ["    return 0;", "}"]) + "\n"


def layout(directory, headers):
    sources = [(directory / header).read_text(encoding="utf-8") for header in headers]
    with tempfile.TemporaryDirectory() as work:
        source, binary = Path(work, "layout.c"), Path(work, "layout")
        source.write_text(program(headers, sources), encoding="utf-8")
        subprocess.run([os.environ.get("CC", "cc"), "-std=c11", "-I", directory, source, "-o",
                        binary], check=True)
        return subprocess.run([binary], check=True, capture_output=True, text=True).stdout


def planted():
    """The measure itself: a small header, and what must be seen of it."""
    with tempfile.TemporaryDirectory() as work:
        text = ("#include <stdint.h>\nenum e { PAWL_A = 3, /* x */ PAWL_B };\n"
                "typedef struct s {\n uint8_t a, b[3]; /* c; */\n int (*f)(void *x, int y);\n"
                " struct { int i; int j; } in[2];\n} s;\n")
        Path(work, "s.h").write_text(text, encoding="utf-8")
        seen = layout(Path(work), ["s.h"])
    expected = ("s: 32 bytes\n    0 a, 1\n    1 b, 3\n    8 f, 8\n    16 in, 16\n"
                "enum e:\n    3 PAWL_A\n    4 PAWL_B\n")
    if seen != expected:
        sys.exit(f"abi.py: the measure itself is wrong; it sees\n{seen}")


def tell_changed(what, golden):
    print(f"{what} is not as in tests/abi/{golden.name}. If the change is meant: ./dev abi, and "
          "commit what it writes")
    return 1


def compare(golden, now, what):
    if golden.is_file():
        old = golden.read_text(encoding="utf-8")
        if old == now:
            print(f"{what}: as in {golden.name}")
            return 0
        diff = difflib.unified_diff(old.splitlines(), now.splitlines(), golden.name, "now",
                                    lineterm="")
        print("\n".join(diff))
    return tell_changed(what, golden)


def command_layout(write):
    golden = HERE / "layout.txt"
    if sys.maxsize < 2 ** 32:
        print("SKIPPED: the golden file is that of 64-bit systems")
        return SKIPPED
    planted()
    now = layout(INCLUDE, HEADERS)
    if write:
        golden.write_text(now, encoding="utf-8")
        return 0
    return compare(golden, now, "the layout of the public headers")


def command_library(write, libraries):
    if platform.machine() != "x86_64":
        print("SKIPPED: the baseline was taken on x86-64")
        return SKIPPED
    for tool in ("abidw", "abidiff"):
        if not shutil.which(tool):
            print(f"SKIPPED: no {tool} (Debian package: abigail-tools)")
            return SKIPPED
    only = ["--exported-interfaces-only", "--drop-private-types"]
    failed = 0
    for name, library in (each.split("=", 1) for each in libraries):
        golden = HERE / f"{name}.abi"
        if write:
            subprocess.run(["abidw", *only, "--headers-dir", INCLUDE, "--no-show-locs",
                            "--no-corpus-path", "--no-comp-dir-path", "--out-file", golden,
                            library], check=True)
            text = golden.read_text(encoding="utf-8")  # where it was built says nothing
            golden.write_text(text.replace(f"path='{HERE.parent.parent}/", "path='"),
                              encoding="utf-8")
        elif subprocess.run(["abidiff", *only, "--headers-dir2", INCLUDE, golden, library],
                            check=False).returncode != 0:
            failed = tell_changed(name, golden)
        else:
            print(f"{name}: as in {golden.name}")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("what", choices=("layout", "library"))
    parser.add_argument("--write", action="store_true", help="write the golden files")
    parser.add_argument("libraries", nargs="*", metavar="NAME=FILE")
    options = parser.parse_intermixed_args()
    if options.what == "layout":
        return command_layout(options.write)
    return command_library(options.write, options.libraries)


if __name__ == "__main__":
    sys.exit(main())
