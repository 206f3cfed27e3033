#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hardened.py - reads what was built, and fails where a property of cmake/harden.cmake is missing.

    hardened.py BUILD_DIR COMPILER PROPERTY...

The properties are those that this compiler and linker can give; what they can't give is said. The
programs and shared libraries are read as `cmake --install` leaves them, the archives as built, and
each compilation as compile_commands.json has it. First the judge is tried: programs are built with
one property taken away, and it has to miss that one, and no other.
"""
import json
import os
import platform
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ALL = ("canary", "fortify", "clash", "init", "cet", "bti", "relro", "now", "nx", "separate", "pie")
FLAGS = {  # what a compilation must have been given
    "canary": "-fstack-protector-strong", "clash": "-fstack-clash-protection",
    "init": "-ftrivial-auto-var-init=", "cet": "-fcf-protection=full",
    "bti": "-mbranch-protection=standard", "fortify": "-D_FORTIFY_SOURCE="}
PAGE = 4096
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE = 1, 2, 3, 4
PT_GNU_STACK, PT_GNU_RELRO = 0x6474E551, 0x6474E552
X, W = 1, 2
DT_NEEDED, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_TEXTREL = 1, 5, 6, 10, 22
DT_RPATH, DT_BIND_NOW, DT_RUNPATH, DT_FLAGS, DT_FLAGS_1 = 15, 24, 29, 30, 0x6FFFFFFB
FEATURES = {62: (0xC0000002, {1: "IBT", 2: "SHSTK"}), 183: (0xC0000000, {1: "BTI", 2: "PAC"})}


class Elf:
    """The parts of a 64-bit ELF file that tell how it was linked."""

    def __init__(self, data):
        self.data = data
        if data[:5] != b"\x7fELF\x02":
            raise ValueError("no 64-bit ELF file")
        self.order = "<" if data[5] == 1 else ">"
        self.type, self.machine = self.at("HH", 16)
        phoff, shoff = self.at("QQ", 32)
        phsize, phnum, shsize, shnum = self.at("HHHH", 54)
        self.segments = []
        for i in range(phnum):
            kind, flags, offset, addr, _, filesz, memsz, _ = self.at("IIQQQQQQ",
                                                                     phoff + i * phsize)
            self.segments.append((kind, flags, offset, addr, filesz, memsz))
        self.sections = [self.at("IIQQQQIIQQ", shoff + i * shsize) for i in range(shnum)]
        self.dynamic = []
        for kind, _, offset, _, filesz, _ in self.segments:
            if kind == PT_DYNAMIC:
                pairs = [self.at("qQ", offset + i) for i in range(0, filesz, 16)]
                self.dynamic = pairs[:[tag for tag, _ in pairs].index(0)]

    def at(self, form, offset):
        return struct.unpack_from(self.order + form, self.data, offset)

    def tags(self, wanted):
        return [value for tag, value in self.dynamic if tag == wanted]

    def text(self, offset):  # of the dynamic string table
        base = self.tags(DT_STRTAB)[0]
        for kind, _, file_offset, addr, filesz, _ in self.segments:
            if kind == PT_LOAD and addr <= base < addr + filesz:
                start = file_offset + base - addr + offset
                return self.data[start:self.data.index(b"\0", start)].decode()
        raise ValueError("no string table")

    def imports(self):
        """Names of the dynamic symbols that are undefined here."""
        for section in self.sections:
            if section[1] == 11:  # SHT_DYNSYM
                for at in range(section[4] + 24, section[4] + section[5], 24):
                    name, _, _, index, _, _ = self.at("IBBHQQ", at)
                    if index == 0:
                        yield self.text(name)

    def features(self):
        """Of the GNU property note: which of IBT, SHSTK, BTI, PAC."""
        wanted, names = FEATURES.get(self.machine, (0, {}))
        for section in self.sections:
            if section[1] != 7:  # SHT_NOTE
                continue
            at, end = section[4], section[4] + section[5]
            while at + 16 <= end:
                name_size, size, kind = self.at("III", at)
                body = at + 12 + (name_size + 3) // 4 * 4
                if kind == 5 and self.data[at + 12:at + 15] == b"GNU":
                    inner = body
                    while inner + 8 <= body + size:
                        what, length = self.at("II", inner)
                        if what == wanted:
                            bits = self.at("I", inner + 8)[0]
                            return {name for bit, name in names.items() if bits & bit}
                        inner += 8 + (length + 7) // 8 * 8
                at = body + (size + 7) // 8 * 8
        return set()


def pages(segment):
    _, _, offset, _, filesz, _ = segment
    return range(offset // PAGE, (offset + max(filesz, 1) - 1) // PAGE + 1)


def missing(elf, runpaths):
    """Names of what a linked file lacks. `runpaths`: the one that it may have."""
    loads = [segment for segment in elf.segments if segment[0] == PT_LOAD]
    imports = set(elf.imports())
    flags = sum(elf.tags(DT_FLAGS))
    flags_1 = sum(elf.tags(DT_FLAGS_1))
    libraries = [elf.text(offset) for offset in elf.tags(DT_NEEDED)]
    if not imports & {"__stack_chk_fail", "__stack_chk_guard"}:
        yield "canary"
    # musl has no such functions.
    if "libc.so.6" in libraries and not any(n.startswith("__") and n.endswith("_chk")
                                            for n in imports):
        yield "fortify"
    if not any(segment[0] == PT_GNU_RELRO for segment in elf.segments):
        yield "relro"
    if not (flags & 8 or flags_1 & 1 or elf.tags(DT_BIND_NOW)):
        yield "now"
    stack = [segment for segment in elf.segments if segment[0] == PT_GNU_STACK]
    if len(stack) != 1 or stack[0][1] & X or any(s[1] & X and s[1] & W for s in loads):
        yield "nx"
    for code in loads:
        if code[1] & X and any(set(pages(code)) & set(pages(s)) for s in loads if s is not code):
            yield "separate"
            break
    if any(segment[0] == PT_INTERP for segment in elf.segments) and not (
            elf.type == 3 and flags_1 & 0x08000000):
        yield "pie"
    if elf.machine == 62 and "SHSTK" not in elf.features():
        yield "cet"
    if flags & 4 or elf.tags(DT_TEXTREL):
        yield "textrel"
    if elf.tags(DT_RPATH) or [p for p in map(elf.text, elf.tags(DT_RUNPATH)) if p not in runpaths]:
        yield "runpath"


def members(path):
    """(name, bytes) of each object in an archive."""
    data = path.read_bytes()
    assert data[:8] == b"!<arch>\n", path
    at = 8
    while at + 60 <= len(data):
        size = int(data[at + 48:at + 58])
        body = data[at + 60:at + 60 + size]
        if body[:4] == b"\x7fELF":
            yield data[at:at + 16].decode().strip(), body
        at += 60 + size + size % 2


# ---- the judge, tried

BASE = ["-O2", "-g", "-fPIE", "-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
LINK = ["-pie", "-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack", "-Wl,-z,separate-code"]
PLANTED = r"""
#include <stdio.h>
#include <string.h>
int main(int n, char **words) {
    char to[16];
    strcpy(to, words[n - 1]);
    return puts(to);
}
"""
CASES = [  # what is taken away, and what must then be missed
    ([], set()),
    (["-fno-stack-protector"], {"canary"}),
    (["-U_FORTIFY_SOURCE"], {"fortify"}),
    (["-Wl,-z,norelro"], {"relro"}),
    (["-Wl,-z,lazy"], {"now"}),
    (["-Wl,-z,execstack"], {"nx"}),
    (["-Wl,-z,noseparate-code"], {"separate"}),
    (["-no-pie", "-fno-pie"], {"pie"}),
    (["-Wl,-rpath,/tmp"], {"runpath"}),
    (["-Wl,-rpath,$ORIGIN", "-Wl,--disable-new-dtags"], {"runpath"}),
]


def try_the_judge(compiler, possible, work):
    shstk = ["-Wl,-z,shstk"] if "cet" in possible else []
    cases = CASES + ([(["no shstk"], {"cet"})] if shstk else [])
    (work / "planted.c").write_text(PLANTED)
    bad = 0
    for taken, expected in cases:
        words = [compiler, *BASE, str(work / "planted.c"), "-o", str(work / "planted"), *LINK]
        words += shstk if taken != ["no shstk"] else ["-fcf-protection=none"]
        words += [word for word in taken if word != "no shstk"]
        subprocess.run(words, check=True)
        found = set(missing(Elf((work / "planted").read_bytes()), {"$ORIGIN"}))
        wanted = {name for name in expected if name in possible or name == "runpath"}
        found &= set(possible) | {"runpath", "textrel"}
        if found != wanted:
            print(f"the judge is wrong: {taken} gave {sorted(found)}, not {sorted(wanted)}")
            bad += 1
    return bad


# ---- what was built


def look_at_files(build, possible, work):
    subprocess.run(["cmake", "--install", str(build), "--prefix", str(work / "prefix")],
                   check=True, stdout=subprocess.DEVNULL)
    bad = seen = 0
    for path in sorted((work / "prefix").rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        with path.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
        seen += 1
        allowed = {"$ORIGIN"} if path.name.startswith("libpawl_connect.so") else set()
        lacks = [name for name in missing(Elf(path.read_bytes()), allowed)
                 if name in possible or name in ("runpath", "textrel")]
        print(f"{path.relative_to(work / 'prefix')}: {'lacks ' + ', '.join(lacks) or 'well'}"
              if lacks else f"{path.relative_to(work / 'prefix')}: well")
        bad += len(lacks)
    if seen < 3:
        print(f"only {seen} programs and libraries were found, not pawl and two libraries")
        bad += 1
    return bad


def look_at_archives(build, possible):
    """A file without the note takes it from the whole program, so each object must have it."""
    wanted = {"IBT", "SHSTK"} if "cet" in possible else {"BTI", "PAC"} if "bti" in possible else set()
    bad = 0
    for path in (build / "libpawl.a", build / "connectors" / "libpawl_connect.a"):
        objects = list(members(path))
        lacks = [name for name, data in objects if not wanted <= Elf(data).features()]
        print(f"{path.name}: {len(objects)} objects, {len(lacks)} without {' and '.join(wanted)}")
        bad += len(lacks) + (not objects)
    return bad


def look_at_compilations(build, source, possible):
    bad = 0
    compilations = json.loads((build / "compile_commands.json").read_text())
    ours = [c for c in compilations if str(c["file"]).startswith(tuple(
        str(source / folder) + "/" for folder in
        ("wal", "recovery", "state", "pipeline", "connectors", "processors", "cli")))]
    for one in ours:
        words = one["command"].split()
        for name in possible:
            if name in FLAGS and not any(word.startswith(FLAGS[name]) for word in words):
                print(f"{one['file']}: compiled without {FLAGS[name]}")
                bad += 1
    print(f"{len(ours)} compilations")
    return bad + (len(ours) < 50)


def main():
    build, compiler, possible = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    source = Path(os.environ.get("PAWL_SOURCE_DIR", Path(__file__).resolve().parent.parent))
    if not possible:
        print("SKIPPED: this build is configured without hardening (PAWL_HARDEN, PAWL_SANITIZE)")
        return 77
    if struct.calcsize("P") != 8:
        print("SKIPPED: only 64-bit files are read")
        return 77
    other = "bti" if platform.machine() == "x86_64" else "cet"
    for name in ALL:
        if name not in possible and name != other:
            print(f"SKIPPED in part: {name}: this compiler, linker or kind of build can't give it")
    with tempfile.TemporaryDirectory() as work:
        bad = try_the_judge(compiler, possible, Path(work))
        bad += look_at_files(build, possible, Path(work))
    bad += look_at_archives(build, possible)
    bad += look_at_compilations(build, source, possible)
    return 1 if bad else 0


sys.exit(main())
