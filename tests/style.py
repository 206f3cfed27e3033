#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""style.py - habits that are counted, and may only get better.

    style.py             compares the tree with tests/style.ratchet; exit code 1 where it got worse
    style.py --tighten   writes the ratchet anew, where the tree has become better
    style.py --list WHAT shows what is counted as WHAT: wide.sh, words, function.longest, ...

A line of tests/style.ratchet is a name and a number:

    wide.KIND         lines over 100 columns; Markdown's tables and code are not counted
    blank.ends        lines that end in white space, and files without a newline at their end
    words             hard-going words in comments and documents (HARD_WORDS below)
    shown             text that doesn't go through pawl_show() (RAW_OUTPUT, RAW_MESSAGE below)
    narrowed          casts that cut a number from outside (a setting, a text, JSON) without a look
    function.longest  lines of the longest function, signature and braces included
    function.80       functions of 80 lines or more
    assert.FOLDER     assertions for each thousand lines of C, which must not fall

First each rule is tried on a planted tree, in which it is broken a known number of times.
"""
import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RATCHET = Path("tests/style.ratchet")
WIDTH = 100
FUNCTION_LINES = 80
ASSERT_FOLDERS = ("wal", "recovery", "state", "pipeline", "processors", "connectors")

# What a reader who is not a native speaker stumbles over; CONTRIBUTING.md says what to write.
HARD_WORDS = re.compile(r"""\b(?:
    who\ (?:waits?|wants?|needs|asks|finds|reads|writes|holds|comes|looks|closes|calls|sees|uses)
    | so\ many | so\ few | of\ which\ few
    | being\ all | all\ that\ there\ is\b
    | (?:is|was|were|be)\ wanting
    | (?:can't|can\ not|cannot|couldn't|could\ not)\ be\ had | to\ be\ had
    | (?:lies?|lay|lying|stands?)\ behind
    | (?:has|have|had)\ not\ heard
    | that\ which
    )\b""", re.X | re.I)

# Bytes of strangers must not drive a terminal or forge a line. So the libraries print nothing; the
# command writes through cli/show.c, which escapes what a %s stands for; examples give pawl_show()
# what is no message of the library; and messages are made by functions that escape them.
RAW_OUTPUT = re.compile(r"""\b(?:v?f?printf|v?dprintf|f?puts|f?putc|putchar|fwrite|perror|psignal
    |v?warnx?|v?errx?)(?:_unlocked)?\s*\( | \bwrite\(\s*(?:1|2|STDOUT_FILENO|STDERR_FILENO)\b""",
    re.X)
RAW_MESSAGE = re.compile(r"\bv?snprintf\(\s*[\w.>&-]*(?:->|\.)message\b")
RAW_EXAMPLE = re.compile(r"%\.\*s|\bfwrite\(")
LIBRARIES = ("wal", "recovery", "state", "pipeline", "connectors", "processors")
WRITERS = (Path("cli/show.c"), Path("connectors/file/sink_stdout.c"))  # they use pawl_show()

# Texts that are not written by us, show a tool's output, or may not change any more.
NOT_OURS = re.compile(r"^(tests/(fuzz/(corpus|regress)|golden|frozen)/|docs/bench/)|\.abi$")
MUTANTS = Path("tests/mutants")  # its tables have lines of other files, as they are
SHOW_WORDS = (Path("tests/style.py"), Path("CONTRIBUTING.md"))
KINDS = {".c": "c", ".h": "h", ".sh": "sh", ".py": "py", ".cmake": "cmake", ".md": "md",
         ".yml": "yml", ".yaml": "yml"}


def kind_of(path):
    name = path.name
    if name == "CMakeLists.txt":
        return "cmake"
    if str(path) in ("dev", ".ci/run"):
        return "sh"
    return KINDS.get(path.suffix)


def tree(root):
    """The files of the tree, committed or new, that have a kind."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, check=False,
                            capture_output=True, text=True)
    names = listed.stdout.splitlines()
    if listed.returncode != 0:  # an archive of the sources, or the planted tree
        names = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    for name in sorted(names):
        path = Path(name)
        if kind_of(path) and not NOT_OURS.search(name) and (root / path).is_file():
            yield path, (root / path).read_text(encoding="utf-8")


# ---- the rules: each yields (file, line, text) for what it counts


def wide(path, lines):
    if path.parent == MUTANTS and path.name.startswith("table"):
        return
    in_code = False
    for number, line in enumerate(lines, 1):
        if path.suffix == ".md":
            if line.lstrip().startswith("```"):
                in_code = not in_code
            if in_code or line.startswith(("|", "    ")):
                continue
        if len(line) > WIDTH:
            yield path, number, line


def blank_ends(path, text):
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            yield path, number, "white space at the end"
    if not text.endswith("\n"):
        yield path, text.count("\n") + 1, "no newline at the end"


def comments(path, text):
    """(line, text) of each comment, or of the whole document."""
    if path.suffix == ".md":
        yield 1, text
    elif path.suffix in (".c", ".h"):
        for match in re.finditer(r"/\*.*?\*/|//[^\n]*", text, re.S):
            yield text.count("\n", 0, match.start()) + 1, match[0]
    else:
        for number, line in enumerate(text.split("\n"), 1):
            match = re.search(r"(?:^|\s)#\s(.*)", line)
            if match:
                yield number, match[1]


def words(path, text):
    for line, comment in comments(path, text):
        flat = re.sub(r"\n\s*(?:\*|#)?\s*", " ", comment)
        for match in HARD_WORDS.finditer(flat):
            yield path, line, match[0]


def not_shown(path, text):
    """Calls that write text as it is, comments apart."""
    folder = path.parts[0]
    rules = []
    if folder in (*LIBRARIES, "cli") and path not in WRITERS:
        rules.append(RAW_OUTPUT)
    if folder in LIBRARIES:
        rules.append(RAW_MESSAGE)
    if folder == "examples":
        rules.append(RAW_EXAMPLE)
    code = re.sub(r"/\*.*?\*/", lambda match: "\n" * match[0].count("\n"), text, flags=re.S)
    for rule in rules:
        for match in rule.finditer(code):
            yield path, code.count("\n", 0, match.start()) + 1, match[0]


def functions(path, lines):
    """(file, line, name, length) of each function: it begins in the first column, and so does
    the brace that ends it (clang-format sees to that)."""
    start = None
    for number, line in enumerate(lines, 1):
        if re.match(r"[A-Za-z_]", line) and not line.endswith((";", ":")):
            start = number, line
        elif line == "}" and start:
            name = re.search(r"(\w+)\(", start[1])
            if name and not start[1].startswith(("struct", "enum", "typedef", "union")):
                yield path, start[0], name[1], number - start[0] + 1
            start = None
        elif line.startswith("}"):
            start = None


# What gives a number that somebody else chose, cut to fewer bits where it arrives.
NARROWED = re.compile(r"""\((?:u?int(?:8|16|32)_t|int|unsigned(?:\ int)?|short|char)\)\s*\(?
    (?:pawl_setting_number|number|strto(?:u?l|u?ll|u?max|imax)|ato(?:i|l|ll)|json_integer_value|get64)
    \(""", re.X)


def narrowed(path, text):
    if path.parts[0] in (*LIBRARIES, "cli"):
        for match in NARROWED.finditer(text):
            yield path, text.count("\n", 0, match.start()) + 1, match[0]


class Count:
    """All that is counted in a tree."""

    def __init__(self, root):
        self.seen = {"blank.ends": [], "words": [], "shown": [], "narrowed": []}
        self.functions = []
        self.asserts = {folder: [0, 0] for folder in ASSERT_FOLDERS}
        for path, text in tree(root):
            lines = text.split("\n")
            kind = kind_of(path)
            self.seen.setdefault(f"wide.{kind}", []).extend(wide(path, lines))
            self.seen["blank.ends"].extend(blank_ends(path, text))
            if path not in SHOW_WORDS:
                self.seen["words"].extend(words(path, text))
            if path.suffix == ".c":
                self.functions.extend(functions(path, lines))
            if path.suffix in (".c", ".h"):
                self.seen["shown"].extend(not_shown(path, text))
                self.seen["narrowed"].extend(narrowed(path, text))
            if path.suffix in (".c", ".h") and path.parts[0] in self.asserts:
                of = self.asserts[path.parts[0]]
                of[0] += len(re.findall(r"\bassert\(", text))
                of[1] += len(lines)

    def numbers(self):
        """What the ratchet keeps: name -> number."""
        longest = max((length for *_, length in self.functions), default=0)
        result = {name: len(places) for name, places in self.seen.items()}
        result["function.longest"] = longest
        result["function.80"] = sum(length >= FUNCTION_LINES for *_, length in self.functions)
        for folder, (count, lines) in self.asserts.items():
            if lines:
                result[f"assert.{folder}"] = round(1000 * count / lines, 1)
        return result

    def places(self, what):
        """Lines that show where something is counted."""
        if what.startswith("function"):
            longest = sorted(self.functions, key=lambda function: -function[3])
            return [f"{path}:{line}: {name}() has {length} lines"
                    for path, line, name, length in longest[:20]]
        if what.startswith("assert"):
            count, lines = self.asserts[what.removeprefix("assert.")]
            return [f"{count} assertions in {lines} lines"]
        return [f"{path}:{line}: {text.strip()}" for path, line, text in self.seen.get(what, [])]


def worse(name, now, allowed):
    """Assertions must not fall, the rest must not rise. Half an assertion in a thousand lines is
    what a change without any, where none was needed, may cost."""
    return now < allowed - 0.5 if name.startswith("assert.") else now > allowed


def read_ratchet(path):
    result = {}
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line and not line.startswith("#"):
            name, number = line.split()
            result[name] = float(number)
    return result


def write_ratchet(path, numbers):
    head = ("# What tests/style.py allows. The numbers may only get better: assert.* grow, the\n"
            "# others shrink. `python3 tests/style.py --tighten` writes them.\n")
    body = "".join(f"{name} {number:g}\n" for name, number in sorted(numbers.items()))
    path.write_text(head + body, encoding="utf-8")


# ---- the planted tree


def planted():
    long = "x" * (WIDTH + 1)
    body = "    f();\n" * (FUNCTION_LINES - 2)
    files = {
        "wal/a.c": f"/* {long} */\nint g(void) {{\n    assert(1);\n}}\n"
                   "int f(int a,\n      int b) {\n" + body + "}\n",
        "wal/a.h": "/* Who waits for\n * this, and so\n * many more. */\nstruct s {\n};\n",
        "recovery/b.c": "int x; \n",
        "s.sh": f"# {long}\n: wanting is no comment\n",
        "p.py": f"# {long}\n# was wanting\n",
        "CMakeLists.txt": f"# {long}\n",
        "d.md": f"| {long} |\n```\n{long}\n```\n{long}\nNot to be had\n",
        "tests/golden/a.py": f"# {long}\n",
        "cli/raw.c": '/* printf("%s") */\nfprintf(stderr, "%s", name);\nfputs(name, stdout);\n'
                     "write(STDOUT_FILENO, name, 4);\ncli_printf(name);\nsnprintf(a, 4, name);\n",
        "cli/show.c": "fwrite(name, 1, 4, to);\n",
        "pipeline/raw.c": "snprintf(e->message, 4, name);\npthread_cond_broadcast(a);\n",
        "examples/raw.c": 'printf("%.*s", 4, value);\nprintf("%s", e.message);\n',
        "cli/cut.c": "int a = (int)strtoul(t, NULL, 10), b = (uint16_t)(get64(p));\n"
                     "int c = (int)length, d = small(atol(t));\n",
        "bench/cut.c": "int a = (int)atol(t);\n",
        "no.newline.yml": "a: 1",
    }
    expected = {"wide.c": 1, "wide.h": 0, "wide.sh": 1, "wide.py": 1, "wide.cmake": 1, "wide.md": 1,
                "wide.yml": 0, "blank.ends": 2, "words": 4, "shown": 5, "narrowed": 2,
                "function.longest": 81,
                "function.80": 1, "assert.wal": 10.9, "assert.recovery": 0.0,
                "assert.pipeline": 0.0}
    with tempfile.TemporaryDirectory() as work:
        for name, text in files.items():
            path = Path(work, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        seen = Count(Path(work)).numbers()
    if seen != expected:
        both = sorted(set(seen) | set(expected))
        wrong = [f"{name}: {seen.get(name)}, not {expected.get(name)}" for name in both
                 if seen.get(name) != expected.get(name)]
        sys.exit("style.py: the measure itself is wrong. " + "; ".join(wrong))
    for name, now, allowed, is_worse in (("words", 3, 2, True), ("words", 2, 2, False),
                                         ("assert.x", 1.4, 2, True), ("assert.x", 2.5, 2, False)):
        if worse(name, now, allowed) != is_worse:
            sys.exit(f"style.py: the comparison itself is wrong for {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--tighten", action="store_true", help="write the ratchet anew")
    parser.add_argument("--list", metavar="WHAT", help="show what is counted")
    options = parser.parse_args()
    planted()
    count = Count(ROOT)
    numbers = count.numbers()
    if options.list:
        print("\n".join(count.places(options.list)))
        return 0
    ratchet = ROOT / RATCHET
    allowed = read_ratchet(ratchet) if ratchet.is_file() else {}
    failed, better = [], []
    for name, now in sorted(numbers.items()):
        limit = allowed.get(name, now if options.tighten else 0)
        if worse(name, now, limit):
            failed.append(name)
            print(f"{name}: {now:g}, and the ratchet allows {limit:g}. "
                  f"See them: python3 tests/style.py --list {name}")
        elif now != limit and (not name.startswith("assert.") or now > limit):
            better.append(f"{name} {limit:g} -> {now:g}")
    if failed:
        return 1
    if options.tighten:
        write_ratchet(ratchet, numbers)
    elif better:
        print("better than the ratchet (python3 tests/style.py --tighten): " + ", ".join(better))
    print(f"{len(numbers)} habits are no worse than they were")
    return 0


if __name__ == "__main__":
    sys.exit(main())
