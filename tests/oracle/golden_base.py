# SPDX-License-Identifier: Apache-2.0
"""What the golden logs are made with: the list of them, and the beginnings that many share."""

import base64
from collections import namedtuple

from pawl_writer import Writer, rec

TIME = 1_700_000_000_000_000_000
LOG_ID = bytes.fromhex("7061776c2d676f6c64656e2d6c6f6730")
OTHER_ID = bytes.fromhex("7061776c2d6f746865722d2d6c6f6731")

Golden = namedtuple("Golden", "name description expected make")
GOLDEN = []


def golden(description, expected="ok"):
    """The function gives a Writer, or (Writer, {extra or changed fields of the expectation})."""

    def note(function):
        GOLDEN.append(Golden(function.__name__.replace("_", "-"), description, expected, function))
        return function

    return note


def writer(**kw):
    return Writer(kw.pop("log_id", LOG_ID), kw.pop("time", TIME), **kw)


def with_stream(**kw):
    """A log with the stream "s" of one partition."""
    w = writer(**kw)
    t = w.txn()
    t.stream("s", 1)
    t.commit()
    return w


def add(w, *values, stream="s", partition=0):
    """One transaction with these values; gives its frame."""
    t = w.txn()
    t.records(stream, partition, [rec(value) for value in values])
    return t.commit()


def encode(expected):
    values, firsts = expected
    return {
        "streams": {
            name: {
                p: [base64.b64encode(value).decode() for value in rows] for p, rows in parts.items()
            }
            for name, parts in values.items()
        },
        "first": {
            name: {p: first for p, first in parts.items() if first}
            for name, parts in firsts.items()
            if any(parts.values())
        },
    }


def damaged_at(w, p, shown, witness=None):
    more = {"at_lsn": p, **encode(shown)}
    if witness is not None:
        more["witness"] = witness
    return w, more
