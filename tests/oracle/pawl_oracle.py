#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Looks at a log without Pawl: prints records, checks every rule of docs/format.md, shows tables and frames.

Nothing is ever written to the log's directory. It does not make files durable first, so beside a living writer (or just
behind one that died) it may show what is not yet on stable storage.

Exit status: 0 all is well (a torn tail is), 1 a problem, 2 wrong usage, 3 the log cannot be opened or must be refused.
"""

import argparse
import json
import os
import struct
import sys

import pawl_frames as f
from pawl_reader import Log


def complain(message):
    print("pawl_oracle: " + message, file=sys.stderr)


def problem_exit(log):
    """Say that the log is not whole, for commands that print what there is of it."""
    if log.end.status == "damaged":
        complain("damaged at LSN %d: %s" % (log.end.lsn, log.end.reason))
        return 1
    return 0


def cmd_cat(log, args):
    partitions = log.partitions(os.fsencode(args.stream))
    if partitions is None:
        complain("no stream %r" % args.stream)
        return 1
    if args.partition is not None and args.partition >= partitions:
        complain("stream %r has no partition %d" % (args.stream, args.partition))
        return 1
    out = sys.stdout.buffer
    for partition in range(partitions) if args.partition is None else [args.partition]:
        for _, record in log.read(os.fsencode(args.stream), partition, args.start):
            if args.format == "raw":
                out.write(struct.pack("<I", len(record.value)))
                out.write(record.value)
            else:
                out.write(record.value + b"\n")
    return problem_exit(log)


def cmd_check(log, args):
    kinds = " ".join("%s=%d" % item for item in sorted(log.kinds.items()))
    print(
        "segments=%d frames=%d (%s) records=%d end=%s at LSN %d: %s"
        % (
            len(log.begun),
            len(log.frames),
            kinds,
            log.record_count,
            log.end.status,
            log.end.lsn,
            "%d problem(s)" % len(log.problems) if log.problems else "ok",
        )
    )
    for problem in log.problems:
        print(
            "problem: segment %d LSN %d: %s: %s"
            % (problem.segment, problem.lsn, problem.kind, problem.text)
        )
    for note in log.notes:
        print("note: " + note)
    for reason in log.not_for_writing:
        print("note: not for writing: " + reason)
    if log.end.status == "torn":
        print("note: torn tail: " + log.end.reason)
    return 1 if log.problems else 0


def cmd_tables(log, args):
    print(json.dumps(log.tables.to_json(), sort_keys=True, indent=2))
    return problem_exit(log)


def cmd_frames(log, args):
    for frame in log.frames:
        print(
            "%d %s epoch=%d durable=%d runs=%d body=%d"
            % (
                frame.lsn,
                frame.name.replace(" ", "-"),
                frame.epoch,
                frame.durable,
                frame.run_count,
                frame.body_length,
            )
        )
    return problem_exit(log)


def cmd_explain(log, args):
    found = log.explain(os.fsencode(args.stream), args.partition or 0, args.offset)
    if found is None:
        complain(
            "no offset %d in partition %d of stream %r"
            % (args.offset, args.partition or 0, args.stream)
        )
        return 1
    print(json.dumps(found, sort_keys=True, indent=2))
    return problem_exit(log)


def number(word):
    value = int(word)
    if value < 0:
        raise ValueError(word)
    return value


def usage():
    parser = argparse.ArgumentParser(
        prog="pawl_oracle.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name, function, stream=False, **kw):
        command = commands.add_parser(name, **kw)
        command.set_defaults(run=function)
        command.add_argument("dir")
        if stream:
            command.add_argument("stream")
        return command

    cat = add("cat", cmd_cat, True, help="print the values of a stream, by partition and offset")
    cat.add_argument("--partition", type=number)
    cat.add_argument(
        "--from", dest="start", type=number, default=0, metavar="N", help="the first offset"
    )
    cat.add_argument(
        "--format",
        choices=("text", "raw"),
        default="text",
        help="text: each value and a newline; raw: 4 bytes of length, little-endian, and the value",
    )
    add("check", cmd_check, help="check every rule and print what breaks one")
    add("tables", cmd_tables, help="print the tables at the end of the log as JSON")
    add("frames", cmd_frames, help="print a line for each frame")
    explain = add(
        "explain",
        cmd_explain,
        True,
        help="print which commit holds a record and what else is in it",
    )
    explain.add_argument("offset", type=number)
    explain.add_argument("--partition", type=number, default=0)
    return parser


def main(argv=None):
    args = usage().parse_args(argv)
    try:
        with Log.open(args.dir) as log:
            code = args.run(log, args)
            sys.stdout.flush()
            return code
    except f.CannotOpen as error:
        complain("%s: %s (%s)" % (args.dir, error, error.kind))
        return 3
    except f.FormatError as error:
        complain("%s: %s" % (args.dir, error))
        return 1
    except BrokenPipeError:
        # The reader of the output went away; leave nothing for the interpreter to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


if __name__ == "__main__":
    sys.exit(main())
