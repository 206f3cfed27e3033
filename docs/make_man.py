#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_man.py - makes the manual pages of section 3 from the public headers.

    make_man.py --output DIR [HEADER...]    writes DIR/NAME.3 for each function and type
    make_man.py --check [HEADER...]         only looks whether the headers keep to the layout

A function's page is the comment above it; functions that follow each other under one comment
share a page, and the other names are links to it. What the layout of a comment has to be is in
CONTRIBUTING.md; whoever breaks it gets a message with file and line, and exit code 1.
"""
import argparse
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADERS = [ROOT / "include" / name
           for name in ("pawl.h", "pawl_state.h", "pawl_time.h", "pawl_connect.h")]

# In the order of preference: a comment, a public function, a type or a macro. What stands between
# them (the guards, extern "C") is of no interest.
ITEM = re.compile(
    r"""(?P<comment>/\*.*?\*/)
    | ^(?P<function>PAWL_API\s.*?;)
    | ^(?P<type>typedef\s[^;{]*\{.*?^\}\s*\w+;|typedef\s[^;{]*;|enum\s+\w+\s*\{[^}]*\};)
    | ^(?P<macro>\#define\s(?:[^\n]*\\\n)*[^\n]*)""",
    re.S | re.M | re.X)
FUNCTION = re.compile(r"PAWL_API\s+(?P<result>[^(]*?[\s*])(?P<name>pawl_\w+)\((?P<arguments>.*)\)",
                      re.S)
ERROR_LINE = re.compile(r"X\((\w+), (-\d+), \"([^\"]*)\"\)")


class Layout(Exception):
    """A header that doesn't keep to the layout: the message says where."""


class Group:
    """Functions that share a comment."""

    def __init__(self, header, line, text):
        self.header, self.line = header, line
        self.text, self.errors = split_errors(header, line, text)
        self.functions = []


class Function:
    def __init__(self, match):
        self.name = match["name"]
        self.result = " ".join(match["result"].split())
        arguments = " ".join(match["arguments"].split())
        self.arguments = split_arguments(arguments)

    def types(self):
        return set(re.findall(r"\bpawl\w*\b", " ".join([self.result, *self.arguments])))


class Type:
    def __init__(self, name, text, source):
        self.name, self.text, self.source = name, text, source


class Header:
    def __init__(self, path):
        self.name = path.name
        self.sections = []  # [title, groups]
        self.types = {}
        self.intro = ""
        self.read(path.read_text(encoding="utf-8"))

    def read(self, text):
        comment, comment_line, comment_end, group, group_end = "", 0, -1, None, -1
        for match in ITEM.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            gap_comment = text[comment_end:match.start()] if comment_end >= 0 else "?"
            if match["comment"]:
                body = comment_text(match["comment"])
                if not self.intro:
                    self.intro = body
                elif body.startswith("------"):
                    self.sections.append([body.lstrip("- "), []])
                else:
                    comment, comment_line, comment_end = body, line, match.end()
                continue
            if match["type"]:
                self.add_type(match["type"], comment if not gap_comment.strip() else "")
            if match["function"]:
                if not gap_comment.strip() and comment_end > group_end:
                    group = Group(self.name, comment_line, comment)
                    self.sections[-1][1].append(group)
                elif group is None or text[group_end:match.start()].strip():
                    raise Layout(f"{self.name}:{line}: a function without a comment above it")
                function = FUNCTION.match(without_attributes(match["function"]))
                if not function:
                    raise Layout(f"{self.name}:{line}: can't read this function")
                group.functions.append(Function(function))
                group_end = match.end()
        self.sections = [section for section in self.sections if section[1]]

    def add_type(self, source, comment):
        if source.startswith("enum"):
            name = re.match(r"enum (\w+)", source)
        elif "{" in source:
            name = re.search(r"(\w+);$", source)
        else:
            name = re.search(r"\(\*(\w+)\)", source)
        if name:
            self.types[name[1]] = Type(name[1], comment, source)

    def groups(self):
        return [group for _, groups in self.sections for group in groups]


def comment_text(comment):
    """A comment without its frame; the lines' own indentation stays."""
    lines = comment[2:-2].rstrip().split("\n")
    return "\n".join([lines[0].strip()] + [re.sub(r"^ \* ?", "", line) for line in lines[1:]])


def without_attributes(source):
    """A declaration as a caller sees it."""
    source = re.sub(r"^#.*\n", "", source, flags=re.M)
    source = re.sub(r"__attribute__\s*\(\(.*?\)\)\s*(?=;|\w)", "", source, flags=re.S)
    return re.sub(r"(?<!^)\bPAWL_[A-Z_]+(\([^()]*\))?(?=\s+(?:const\s|\w+[\s*]|pawl_|;)|;)", "",
                  source)


def split_arguments(text):
    """At the commas that are not inside parentheses."""
    parts, depth = [""], 0
    for char in text:
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]


def split_errors(header, line, text):
    """What a comment says, and its line of errors."""
    at = re.search(r"^Errors: ", text, re.M)
    if len(re.findall(r"\bErrors\b(?=:| as| of)", text)) > (1 if at else 0):
        raise Layout(f'{header}:{line}: "Errors: " must begin a line of its own, once, the last '
                     "of the comment")
    if not at:
        return text, ""
    return text[:at.start()].strip(), " ".join(text[at.end():].split())


# ---- the errors


def pinned_errors():
    text = HEADERS[0].read_text(encoding="utf-8")
    return {name: meaning for name, _, meaning in ERROR_LINE.findall(text)}


def check_errors(group, errors, known):
    """Every word in capitals of a line of errors is a code, or the end of another public name
    (SALVAGE of PAWL_OPEN_SALVAGE)."""
    for word in re.findall(r"\b[A-Z][A-Z_]+\b", group.errors):
        bare = word.removeprefix("PAWL_")
        if bare not in errors and not any(("_" + name).endswith("_" + bare) for name in known):
            raise Layout(f"{group.header}:{group.line}: {word} is not one of PAWL_ERRORS")


def check(headers):
    """Raises Layout where the rules are broken; returns the number of functions."""
    errors = pinned_errors()
    known = set()
    for header in headers:
        for type_ in header.types.values():
            known |= set(re.findall(r"\bPAWL_[A-Z_0-9]+", type_.source))
    count = 0
    for header in headers:
        for group in header.groups():
            check_errors(group, errors, known)
            count += len(group.functions)
            fallible = any(function.result == "int" for function in group.functions)
            said = group.errors or re.search(r"\b[Rr]eturns\b|\b[Aa]s pawl_\w+\(\)", group.text)
            if fallible and not said:
                raise Layout(f"{group.header}:{group.line}: {group.functions[0].name}() returns a "
                             'code, but its comment has no line "Errors:"')
    return count


# ---- mdoc


def escaped(text):
    text = text.replace("\\", "\\e")
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.M)


def marked(text):
    """Names of the interface in bold, what stands between backquotes in italics."""
    text = escaped(text)
    text = re.sub(r"`([^`]+)`", r"\\fI\1\\fP", text)
    text = re.sub(r"(?<![\w\\])(pawl_\w+)\(\)", r"\\fB\1\\fP()", text)
    return re.sub(r"(?<!\w)(PAWL_[A-Z_0-9]+)\b", r"\\fB\1\\fP", text)


def sentences(text):
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`])|(?<=:)\s+(?=[A-Z][a-z])", " ".join(text.split()))


def prose(text):
    """Paragraphs, and lines that are indented as they are."""
    out = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        if out:
            out.append(".Pp")
        lines = block.split("\n")
        if all(line.startswith("    ") for line in lines):
            out += [".Bd -literal", *(escaped(line[4:]) for line in lines), ".Ed"]
            continue
        out += [marked(sentence) for sentence in sentences(block)]
    return [line for i, line in enumerate(out) if line != ".Pp" or out[i + 1][:3] != ".Bd"]


def literal(source):
    return [".Bd -literal", *(escaped(line.rstrip()) for line in source.split("\n")), ".Ed"]


def capital(text):
    return text[0].upper() + text[1:]


def title(text, otherwise):
    """The beginning of the first sentence, as the line of NAME wants it."""
    first = sentences(text)[0] if text else otherwise
    first = re.sub(r" \([^()]*\)", "", first.replace("`", ""))
    first = re.split(r"[.;](?:\s|$)", first)[0].rstrip(":")
    for mark in (": ", ", "):
        if len(first) > 75 and first.find(mark) >= 20:
            first = first[:first.find(mark)]
    return escaped(first[0].lower() + first[1:])


def head(name, names, summary, date):
    page = [".\\\" Made from the public header by docs/make_man.py.", f".Dd {date}",
            f".Dt {name.upper()} 3", ".Os", ".Sh NAME"]
    page += [f".Nm {each} ," for each in names[:-1]] + [f".Nm {names[-1]}"]
    return page + [f".Nd {summary}"]


def see_also(names):
    names = sorted(set(names))
    lines = [f".Xr {name} 3 ," for name in names[:-1]] + [f".Xr {name} 3" for name in names[-1:]]
    return [".Sh SEE ALSO", *lines]


def library_of(name):
    """The library that a header belongs to, by its name."""
    return "pawl" if name == "pawl_state" else name


def prototype(function):
    if function.arguments == ["void"]:
        return [f".Ft {function.result}", f".Fn {function.name} void"]
    arguments = [f'.Fa "{argument}"' for argument in function.arguments]
    return [f".Ft {function.result}", f".Fo {function.name}", *arguments, ".Fc"]


class Manual:
    def __init__(self, headers, date):
        self.headers, self.date = headers, date
        self.errors = pinned_errors()
        self.pages = {}  # name: lines, or the name of the page that it is a link to
        self.types = {name for header in headers for name in header.types}
        self.functions = {function.name for header in headers for group in header.groups()
                          for function in group.functions}

    def make(self):
        for header in self.headers:
            for group in header.groups():
                self.add_group(header, group)
            for type_ in header.types.values():
                self.add_type(header, type_)
            self.add_overview(header)

    def related(self, text, types, own):
        names = set(re.findall(r"\b(pawl_\w+)\(\)", text)) & self.functions
        return (names | (types & self.types)) - set(own)

    def add_group(self, header, group):
        names = [function.name for function in group.functions]
        page = head(names[0], names, title(group.text, self.gives(group)), self.date)
        page += [".Sh SYNOPSIS", f".In {header.name}"]
        for function in group.functions:
            page += prototype(function)
        page += [".Sh DESCRIPTION", *self.description(group)]
        page += self.return_values(group) + self.error_section(group)
        types = set().union(*(function.types() for function in group.functions))
        related = self.related(group.text + group.errors, types, names)
        page += see_also(related | {header.name.removesuffix(".h")})
        self.pages[names[0]] = page
        for name in names[1:]:
            self.pages[name] = names[0]

    def description(self, group):
        if group.text:
            return prose(group.text)
        return [marked(capital(self.gives(group))) + "."]

    def gives(self, group):
        """For a comment that has only the errors: what the last argument is."""
        types = re.findall(r"\bpawl\w+\b", group.functions[0].arguments[-1])
        return f"gives a {types[0]}" if types else "is of the library"

    def return_values(self, group):
        said = [s for s in sentences(group.text) if re.match(r"Returns\b", s)]
        if group.errors:
            said.append("On failure a negative code: see ERRORS.")
            said.append("pawl_last_error() tells which call, file and offset failed.")
        return [".Sh RETURN VALUES", *(marked(s) for s in said)] if said else []

    def error_section(self, group):
        if not group.errors:
            return []
        page = [".Sh ERRORS", *(marked(s) for s in sentences(capital(group.errors)))]
        words = re.findall(r"\b[A-Z][A-Z_]+\b", group.errors)
        return page + self.error_list(word.removeprefix("PAWL_") for word in words)

    def error_list(self, names):
        names = [name for name in dict.fromkeys(names) if name in self.errors]
        if not names:
            return []
        page = [".Bl -tag -width PAWL_NOT_FOUND"]
        for name in names:
            page += [f".It Dv PAWL_{name}", escaped(capital(self.errors[name])) + "."]
        return page + [".El"]

    def add_type(self, header, type_):
        summary = title(type_.text, f"a type of {header.name}")
        page = head(type_.name, [type_.name], summary, self.date)
        page += [".Sh SYNOPSIS", f".In {header.name}", *literal(type_.source)]
        if type_.text:
            page += [".Sh DESCRIPTION", *prose(type_.text)]
        if "PAWL_ERRORS(" in type_.source:
            page += [".Sh ERRORS", *self.error_list(self.errors)]
        users = {function.name for h in self.headers for group in h.groups()
                 for function in group.functions if type_.name in function.types()}
        others = set(re.findall(r"\bpawl_\w+\b", type_.source)) & self.types
        related = self.related(type_.text, users | others | {header.name[:-2]}, [type_.name])
        page += see_also(related | users | {header.name.removesuffix(".h")})
        self.pages[type_.name] = page

    def add_overview(self, header):
        name = header.name.removesuffix(".h")
        intro = re.sub(r"\A.*?\n *\n", "", header.intro, count=1, flags=re.S)
        first, _, rest = intro.partition("\n\n")
        page = head(name, [name], escaped(first.split(" - ", 1)[1].rstrip(".")), self.date)
        page += [".Sh SYNOPSIS", f".In {header.name}", ".Pp", rf"\fB\-l{library_of(name)}\fP"]
        page += [".Sh DESCRIPTION", *overview_text(rest)]
        for section, groups in header.sections:
            page += [f".Ss {escaped(section[0].upper() + section[1:])}",
                     ".Bl -tag -width pawl_stream_create -compact"]
            for group in groups:
                for function in group.functions:
                    page += [f".It Xr {function.name} 3", title(group.text, self.gives(group))]
            page.append(".El")
        page += [".Sh SEE ALSO", ".Xr pawl 1"]
        if name != "pawl":
            page[-1:] = [".Xr pawl 1 ,", ".Xr pawl 3"]
        self.pages[name] = page


def overview_text(text):
    """The head of a header: paragraphs, code, and lists of `  word  explanation`."""
    out, paragraph, in_list = [], [], False

    def flush():
        nonlocal paragraph
        if paragraph:
            out.extend(marked(sentence) for sentence in sentences(" ".join(paragraph)))
        paragraph = []

    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.split("\n")
        if all(line.startswith("    ") for line in lines):
            out += [".Bd -literal", *(escaped(line[4:]) for line in lines), ".Ed"]
            continue
        if out and not re.match(r"[A-Z]{4}", lines[0]):
            out.append(".Pp")
        for line in lines:
            heading = re.match(r"([A-Z]{4,})\b(.*)", line)
            item = re.match(r"  (\w+(?: \w+)?)\s{2,}(\S.*)", line)
            if heading:
                out.append(f".Ss {heading[1].capitalize()}")
                paragraph = [heading[2].strip(" ()")] if heading[2].strip() else []
            elif item:
                flush()
                if not in_list:
                    out.append(".Bl -tag -width Structs")
                    in_list = True
                out.append(f".It {item[1]}")
                paragraph = [item[2]]
            else:
                paragraph.append(line.strip())
        flush()
        if in_list:
            out.append(".El")
            in_list = False
    return out


# ---- the command


def manual_date():
    """The date of pawl(1): all pages have the same."""
    for line in (ROOT / "docs/pawl.1").read_text(encoding="utf-8").split("\n"):
        if line.startswith(".Dd "):
            return line[4:]
    raise Layout("docs/pawl.1: no line .Dd")


def write(pages, directory):
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.3"):
        old.unlink()
    for name, page in pages.items():
        path = directory / f"{name}.3"
        if isinstance(page, str):
            os.symlink(f"{page}.3", path)
        else:
            path.write_text("\n".join(page) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--output", type=Path, help="directory for the pages")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("headers", nargs="*", type=Path, default=HEADERS)
    options = parser.parse_args()
    if not options.check and not options.output:
        parser.error("--output DIR or --check")
    try:
        headers = [Header(path) for path in options.headers]
        count = check(headers)
        if options.output:
            manual = Manual(headers, manual_date())
            manual.make()
            write(manual.pages, options.output)
    except Layout as fault:
        print(fault)
        return 1
    print(f"{count} functions: their comments keep to the layout")
    return 0


if __name__ == "__main__":
    sys.exit(main())
