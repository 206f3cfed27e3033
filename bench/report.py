#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# report.py - turns the bench's JSON into the pictures in docs/bench/ and the figures in
# docs/performance.md. Only this program writes the text between the marks
# "<!-- figures: NAME -->" and "<!-- end -->".
#
# usage: report.py [--check] DOCS
#   Reads DOCS/bench/bench.json, tune.json and instructions.json, as far as they exist. Pictures
#   need gnuplot.
#   --check: tells whether DOCS/performance.md has the text that it would write; writes nothing.
import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

COLOURS = {
    "pawl": "#c0392b",
    "two-phase floor": "#555555",
    "F1": "#555555",
    "SQLite": "#2980b9",
    "LMDB": "#27ae60",
    "RocksDB": "#8e44ad",
}


def scaled(value, digits=3):
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= factor:
            return f"{value / factor:.{digits}g} {unit}"
    return f"{value:.{digits}g}"


def microseconds(value):
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def value_text(case, value):
    unit = case["unit"]
    if unit == "ns":
        return f"{value / 1e6:.1f} ms" if value >= 1e6 else f"{value / 1e3:.0f} µs"
    if unit == "bytes/s":
        return scaled(value) + "B/s"
    if unit == "bytes/record":
        return scaled(value) + "B a record"
    return scaled(value) + ("" if scaled(value)[-1].isalpha() else " ") + "/s"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def wrapped(text):
    """A paragraph in lines of at most 100 columns."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


class Results:
    def __init__(self, docs):
        self.docs = docs
        self.bench = self.read("bench.json")
        self.tune = self.read("tune.json")
        self.instructions = self.read("instructions.json")
        self.cases = {case["name"]: case for case in self.bench["cases"]} if self.bench else {}

    def read(self, name):
        path = self.docs / "bench" / name
        return json.loads(path.read_text()) if path.exists() else None

    def side(self, case, name):
        return next(
            (
                s
                for s in self.cases.get(case, {"contenders": []})["contenders"]
                if s["name"] == name and "failed" not in s
            ),
            None,
        )

    # ---- figures, by their marks

    def machine(self):
        b = self.bench
        return wrapped(
            f"{b['date'][:10]}; {b['processors']} processors, {b['processor']}; "
            f"Linux {b['kernel']}, {b['file_system']}. "
            f"{b['rounds']} rounds of {b['slices']} slices of {b['slice_s'] * 1000:.0f} ms. "
            f"The floor's best forms: {b['floor']}. "
            f"{self.load()} One durable write was {b['flushes_per_durable_write']:.2f} flushes, as "
            "the device counted them."
        )

    def load(self):
        load = self.bench.get("load_before", -1)
        if load < 1:
            return "The machine was idle otherwise."
        return (
            f"**The machine was busy with other work, with a load of {load:.0f} before the bench "
            "began**: ratios spread widely."
        )

    def goals(self):
        rows = []
        for case in self.bench["cases"]:
            for ratio in case["ratios"]:
                limit = ratio.get("at_least", ratio.get("at_most"))
                if limit is None:
                    continue
                nanoseconds = ratio["measured_in"] == "ns"
                show = (lambda v: f"{v / 1e6:.3g} ms") if nanoseconds else (lambda v: scaled(v))
                sign = "≥" if "at_least" in ratio else "≤"
                unit = "" if nanoseconds else " " + ratio["measured_in"]
                if "median" not in ratio:
                    rows.append(
                        (
                            case["title"],
                            unit.strip(),
                            "not measured",
                            "",
                            f"{sign} {show(limit)}",
                            "",
                        )
                    )
                    continue
                rows.append(
                    (
                        case["title"],
                        unit.strip() + (f" ({ratio['against']})" if "peer" in unit else ""),
                        show(ratio["median"]),
                        f"{show(ratio['least'])} to {show(ratio['most'])}",
                        f"{sign} {show(limit)}",
                        "reached" if ratio["reached"] else "**not reached**",
                    )
                )
        return table(("what", "measured in", "median", "spread", "goal", ""), rows)

    def contenders(self, prefix):
        rows = []
        for name, case in self.cases.items():
            if not re.fullmatch(prefix, name):
                continue
            for side in case["contenders"]:
                if "failed" in side:
                    rows.append(
                        (case["title"], side["name"], "failed: " + side["failed"], *[""] * 7)
                    )
                    continue
                latency = side["p50_us"] > 0
                rows.append(
                    (
                        case["title"] if side is case["contenders"][0] else "",
                        side["name"]
                        + ("" if side["syncs"] or not side["peer"] else " (not durable)"),
                        value_text(case, side["value"]),
                        *(
                            microseconds(side[f"{p}_us"]) if latency else ""
                            for p in ("p50", "p99", "p99.9", "max")
                        ),
                        (
                            f"{side['cpu_ns_per_record'] / 1000:.3g}"
                            if side["cpu_ns_per_record"]
                            else ""
                        ),
                        f"{side['flushes_per_commit']:.3g}" if side["flushes_per_commit"] else "",
                        f"{side['written_per_byte']:.3g}" if side["written_per_byte"] else "",
                        f"{side['peak_mib']:.0f}",
                    )
                )
        head = (
            "",
            "",
            "",
            "p50 µs",
            "p99",
            "p99.9",
            "max",
            "CPU µs a record",
            "flushes a commit",
            "bytes written a byte",
            "MiB",
        )
        return table(head, rows)

    def commits(self):
        return self.contenders(r"(commit|step|stage|paced)-.*")

    def committers(self):
        return self.contenders(r"(committers|async)-.*")

    def batches(self):
        return self.contenders(r"batch-.*|append-.*|memory")

    def topologies(self):
        return self.contenders(r"chain|chain-worker|fan-out|partitions|steady-.*")

    def logs(self):
        return self.contenders(r"replay|recovery|reopen")

    def appliance(self):
        rows = []
        for name in ("day", "idle"):
            if name not in self.cases:
                continue
            side = self.cases[name]["contenders"][0]
            if "failed" in side:
                continue
            turn = side["turns"][0]
            rows.append(
                (
                    self.cases[name]["title"],
                    f"{turn['records']:,}",
                    f"{side['value']:,.0f}",
                    f"{side['value'] * 864000 / 1e9:.2f} GB",
                    f"{side['peak_mib']:.1f}",
                    f"{side['log_memory_mib']:.2f}",
                )
            )
        head = (
            "",
            "records",
            "bytes written a record",
            "a day",
            "peak resident MiB, beyond the empty process",
            "the log's own account, MiB",
        )
        return table(head, rows)

    def memory(self):
        rows = []
        for case, name in (
            ("memory", "pawl, 2 MiB"),
            ("memory", "pawl, 32 MiB"),
            ("batch-100-1000", "pawl"),
            ("async-100-2", "pawl"),
            ("commit-100", "pawl"),
            ("day", "pawl"),
        ):
            side = self.side(case, name)
            if side:
                rows.append(
                    (
                        self.cases[case]["title"],
                        name,
                        f"{side['peak_mib']:.1f}",
                        f"{side['log_memory_mib']:.2f}",
                        f"{max(side['allocations_per_record'], 0):.3g}",
                    )
                )
        return table(
            (
                "",
                "",
                "peak resident MiB, beyond the empty process",
                "the log's own account, MiB",
                "allocations a record",
            ),
            rows,
        )

    def instruction_counts(self):
        rows = [
            (w["way"], w["batch"], f"{w['bytes']} B", f"{w['instructions']:,}")
            for w in self.instructions["ways"]
        ]
        return table(("way", "records a transaction", "record", "instructions a record"), rows)

    def instruction_tree(self):
        parts = []
        for way in self.instructions["ways"]:
            if (way["way"], way["bytes"]) not in (("step", 100), ("async", 100)):
                continue
            rows = [
                (
                    f"`{f['function']}`",
                    f"{f['instructions']:.1f}",
                    f"{f['instructions'] / way['instructions'] * 100:.1f} %",
                )
                for f in way["functions"]
            ]
            parts.append(
                f"`{way['way']}`, {way['batch']} records of {way['bytes']} B a transaction:\n\n"
                + table(("function", "instructions a record, its own", "share"), rows)
            )
        return "\n\n".join(parts)

    def tuning(self):
        rows = []
        for case in self.tune["cases"]:
            for i, side in enumerate(case["contenders"]):
                if "failed" in side:
                    continue
                note = (
                    "used"
                    if i == 0
                    else "not durable" if side["peer"] and not side["syncs"] else ""
                )
                rows.append(
                    (
                        case["title"] if i == 0 else "",
                        side["name"],
                        value_text(case, side["value"]),
                        f"{side['flushes_per_commit']:.3g}",
                        note,
                    )
                )
        return table(("", "", "", "flushes a commit", ""), rows)

    # ---- the document

    def figures(self, name):
        source = {
            "instruction_counts": self.instructions,
            "instruction_tree": self.instructions,
            "tuning": self.tune,
        }.get(name, self.bench)
        return getattr(self, name)() if source else "Not measured yet."

    def document(self, text):
        def replace(match):
            return f"<!-- figures: {match[1]} -->\n{self.figures(match[1])}\n<!-- end -->"

        return re.sub(r"<!-- figures: (\w+) -->\n.*?<!-- end -->", replace, text, flags=re.S)

    # ---- pictures

    def plot(self, name, script, size="900,560"):
        b = self.bench
        where = f"{b['date'][:10]}, Linux {b['kernel']}, {b['file_system']}, {b['processors']} x {b['processor']}"
        for terminal, ending in (
            (f"pngcairo size {size} font 'sans,11'", "png"),
            (f"svg size {size} font 'sans,11' background '#ffffff'", "svg"),
        ):
            lines = [
                f"set terminal {terminal}",
                f"set output '{self.docs}/bench/{name}.{ending}'",
                f"set label 99 \"{where}\" at graph 0, screen 0.02 font ',8' textcolor '#777777'",
                (
                    "set bmargin 5; set grid ytics lc '#dddddd'; set border 3; set tics nomirror; "
                    "set key outside top center horizontal"
                ),
                script,
            ]
            subprocess.run(["gnuplot"], input="\n".join(lines), text=True, check=True)

    def pictures(self):
        for record in (100, 1024):
            self.plot_batches(record)
            self.plot_latencies(record)
            self.plot_committers(record)
        if self.instructions:
            self.plot_instructions()

    def lines(self, series):
        """gnuplot data blocks and the plot command for {name: [(x, y, least, most)]}"""
        blocks, plots = [], []
        for i, (name, points) in enumerate(series.items()):
            blocks.append(
                f"$d{i} << EOD\n" + "\n".join(" ".join(str(v) for v in p) for p in points) + "\nEOD"
            )
            colour = COLOURS.get(name, "#333333")
            dash = " dt 2" if name in ("two-phase floor", "F1") else ""
            plots.append(
                f"$d{i} using 1:2:3:4 with yerrorlines lw 2{dash} pt 7 ps 0.6 lc '{colour}' title '{name}'"
            )
        return "\n".join(blocks) + "\nplot " + ", ".join(plots)

    @staticmethod
    def point(x, side):
        values = [turn["value"] for turn in side["turns"]]
        return (x, side["value"], min(values), max(values))

    def plot_batches(self, record):
        series = {}
        for batch in (1, 100, 1000, 10000):
            for side in self.cases.get(f"batch-{record}-{batch}", {"contenders": []})["contenders"]:
                if "failed" not in side and (side["syncs"] or not side["peer"]):
                    series.setdefault(side["name"], []).append(self.point(batch, side))
        if series:
            head = (
                f"set title 'Exactly-once step end to end, {record} B records'; set logscale xy; "
                "set format y '%.0s %c'; set xlabel 'records a transaction'; "
                "set ylabel 'records a second'; set xrange [0.7:15000]\n"
            )
            self.plot(f"batches-{record}", head + self.lines(series))

    def plot_committers(self, record):
        series = {}
        for name, case in self.cases.items():
            match = re.fullmatch(rf"committers-{record}-(\d+)", name)
            for side in case["contenders"] if match else []:
                series.setdefault(side["name"], []).append(self.point(int(match[1]), side))
        if series:
            head = (
                f"set title 'Committers, each waiting for its own {record} B record'; "
                "set logscale xy; set format y '%.0s %c'; set xlabel 'committers'; "
                "set ylabel 'commits a second'; set xrange [0.8:80]\n"
            )
            self.plot(f"committers-{record}", head + self.lines(series))

    def plot_latencies(self, record):
        case = self.cases.get(f"commit-{record}")
        if not case:
            return
        sides = [s for s in case["contenders"] if "failed" not in s]
        rows = "\n".join(
            f"\"{p}\" " + " ".join(str(s[f"{p}_us"]) for s in sides)
            for p in ("p50", "p99", "p99.9", "max")
        )
        plots = ", ".join(
            f"$d using {i + 2}:xtic(1) lc '{COLOURS.get(s['name'], '#333333')}' title '{s['name']}'"
            for i, s in enumerate(sides)
        )
        self.plot(
            f"latency-{record}",
            f"set title 'One committer, waiting for each {record} B record'; "
            "set style data histograms; set style fill solid 0.85 noborder; set logscale y; "
            f"set ylabel 'microseconds'\n$d << EOD\n{rows}\nEOD\nplot {plots}",
        )

    def plot_instructions(self):
        way = self.instructions["ways"][0]
        functions = way["functions"][::-1]
        rows = "\n".join(
            f"{i} {f['instructions']} \"{f['function']}\"" for i, f in enumerate(functions)
        )
        self.plot(
            "instructions",
            f"set title 'Where the {way['instructions']} instructions a record go "
            f"({way['way']}, {way['batch']} records of {way['bytes']} B a transaction)'; "
            "unset key; set lmargin 34; set style fill solid 0.85; set xrange [0:*]; "
            "set xlabel 'instructions a record'; set grid xtics lc '#dddddd'; "
            f"set termoption noenhanced\n$d << EOD\n{rows}\nEOD\n"
            "plot $d using ($2/2):1:($2/2):(0.4):ytic(3) with boxxyerror lc '#c0392b'",
        )


def main():
    arguments = [a for a in sys.argv[1:] if a != "--check"]
    if len(arguments) != 1:
        sys.exit("usage: report.py [--check] DOCS")
    results = Results(Path(arguments[0]))
    page = results.docs / "performance.md"
    text = page.read_text()
    wanted = results.document(text)
    if "--check" in sys.argv:
        sys.exit(
            0
            if text == wanted
            else f"{page} is not what {results.docs}/bench/*.json gives: run bench/report.py {results.docs}"
        )
    page.write_text(wanted)
    if results.bench and shutil.which("gnuplot"):
        results.pictures()


if __name__ == "__main__":
    main()
