#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads run files (docs/format.md, section 10) without Pawl, and checks every rule of them.

    pawl_runs.py FILE    lists the pairs, in hexadecimal: key, value or "delete", expiry ("-": none)

Exit status: 0 the run is whole, 1 it isn't.
"""

import struct
import sys
from collections import namedtuple

import xxh3

UNIT = 4096
MAGIC = b"PAWLRUN\n"
PAIRS, INDEX, FILTER = 1, 2, 3
KEY_MAX, VALUE_MAX = 8200, 4 << 20

Pair = namedtuple("Pair", "key value expiry")  # value None: a delete
Header = namedtuple(
    "Header",
    "version unit log_id key run_id level flush_lsn state features length pairs deletes key_bytes"
    " value_bytes expiry_min data_blocks index_blocks filters root root_units levels",
)


class Bad(Exception):
    """The file isn't a whole run."""


def need(condition, what, *args):
    if not condition:
        raise Bad(what % args)


def secret_of(key):
    return b"".join(struct.pack("<Q", xxh3.xxh3_64(key, seed=word)) for word in range(24))


class Bytes:
    """Bytes that are taken from the front."""

    def __init__(self, data, at, end):
        self.data, self.at, self.end = data, at, end

    def take(self, count):
        need(0 <= count <= self.end - self.at, "%d bytes don't fit", count)
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self):
        value = 0
        for place in range(10):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                need(place == 0 or byte != 0, "a number isn't in its shortest form")
                need(value < 1 << 64, "a number is too large")
                return value
        raise Bad("a number is too long")


def header_of(data):
    need(data[:8] == MAGIC, "no magic")
    fields = struct.unpack_from("<II16s32sIIQIIQQQQQQIIIIII", data, 8)
    header = Header(*fields)
    need(
        xxh3.xxh3_64(data[:4088], secret_of(header.key)) == struct.unpack_from("<Q", data, 4088)[0],
        "the header's hash is wrong",
    )
    need((header.version, header.unit, header.features) == (1, UNIT, 0), "a later version")
    need(not any(data[160:4088]), "the header's rest isn't zero")
    return header


class Run:
    def __init__(self, data, hasher=None):
        """hasher: a faster function (data, secret) -> XXH3-64 than our own, or None."""
        self.data = data
        self.hash = hasher or xxh3.xxh3_64
        need(len(data) >= UNIT, "no header")
        self.header = header_of(data[:UNIT])
        self.secret = secret_of(self.header.key)
        self.units = set()  # met so far
        self.met = {}  # blocks by (kind, level)
        self.last = {}  # the last block's end by (kind, level)
        self.filters = {}  # unit: (lines, keys it says, keys met)
        need(self.header.state == 2, "the run is unfinished")
        need(self.header.length == len(data), "the file has another length")

    def block(self, unit, units, kind, level):
        need(unit >= 1 and units >= 1 and (unit + units) * UNIT <= len(self.data), "no such units")
        raw = self.data[unit * UNIT : (unit + units) * UNIT]
        own, place, length, its_kind, its_level, prefix, count = struct.unpack_from("<QIIBBHI", raw)
        need(self.hash(raw[8:], self.secret) == own, "the hash of unit %d is wrong", unit)
        need((place, its_kind, its_level) == (unit, kind, level), "unit %d is another block", unit)
        need(-(-length // UNIT) == units, "unit %d has another length", unit)
        need(count >= 1 and not any(raw[length:]), "unit %d is badly filled", unit)
        need(unit >= self.last.get((kind, level), 1), "unit %d is out of order", unit)
        self.last[kind, level] = unit + units
        need(self.units.isdisjoint(range(unit, unit + units)), "unit %d is met twice", unit)
        self.units.update(range(unit, unit + units))
        self.met[kind] = self.met.get(kind, 0) + 1
        return raw, length, prefix, count

    def entries(self, unit, units, kind, level):
        """(key, Bytes after it) of each entry; the caller takes what belongs to the entry."""
        raw, length, prefix_len, count = self.block(unit, units, kind, level)
        need(kind == INDEX or units == 1 or count == 1, "unit %d has too many pairs", unit)
        need(24 + prefix_len + 2 * count <= length, "unit %d is too short", unit)
        table = length - 2 * count
        places = struct.unpack_from("<%dH" % count, raw, table)
        prefix = raw[24 : 24 + prefix_len]
        rest = Bytes(raw, 24 + prefix_len, table)
        before = None
        for place in places:
            need(rest.at == place, "unit %d: an entry isn't where it should be", unit)
            key = prefix + rest.take(rest.number())
            need(1 <= len(key) <= KEY_MAX, "unit %d: a key's length", unit)
            need(before is None or before < key, "unit %d: keys out of order", unit)
            before = key
            yield key, rest
        need(rest.at == table, "unit %d: bytes after the last entry", unit)

    def filter(self, unit):
        if unit not in self.filters:
            raw, length, prefix, count = self.block(unit, 1, FILTER, 0)
            need(prefix == 0 and length > 64 and length % 64 == 0, "filter %d's length", unit)
            self.filters[unit] = [raw[64:length], count, 0]
        return self.filters[unit]

    def pairs_of(self, unit, units, filter_unit):
        known = self.filter(filter_unit)
        lines = len(known[0]) // 64
        for key, rest in self.entries(unit, units, PAIRS, 0):
            flags = rest.take(1)[0]
            need(flags in (0, 1, 2), "unit %d: flags", unit)
            expiry = rest.number() if flags == 2 else 0
            need(flags != 2 or expiry != 0, "unit %d: no expiry", unit)
            value = None
            if flags != 1:
                size = rest.number()
                need(size <= VALUE_MAX, "unit %d: a value's length", unit)
                value = rest.take(size)
            h = self.hash(key, self.secret)
            line = known[0][64 * ((h >> 32) * lines >> 32) :]
            for i in range(6):
                bit = h >> (9 * i) & 511
                need(line[bit // 8] >> bit % 8 & 1, "filter %d lacks a key", filter_unit)
            known[2] += 1
            yield Pair(key, value, expiry)

    def walk(self, unit, units, level):
        """The pairs below a block of the index."""
        children = []
        for key, rest in self.entries(unit, units, INDEX, level):
            child, child_units = rest.number(), rest.number()
            at = child + rest.number() if level == 0 else None
            need(child + child_units <= unit and (at is None or at < unit), "a child comes later")
            children.append((key, child, child_units, at))
        for upto, child, child_units, at in children:
            below = (
                self.pairs_of(child, child_units, at)
                if level == 0
                else self.walk(child, child_units, level - 1)
            )
            for pair in below:
                if level == 0:
                    need(self.after is None or self.after < pair.key, "keys out of order")
                    self.after = pair.key
                need(pair.key <= upto, "a key is greater than its index entry's")
                yield pair
            need(self.after <= upto, "the index is out of order")
            self.after = upto

    def pairs(self):
        """All pairs, in order. The whole is checked when the last one was taken."""
        h = self.header
        sums = [0] * 4
        expiries = []
        self.after = None
        if h.root:
            for pair in self.walk(h.root, h.root_units, h.levels - 1):
                sums[0] += 1
                sums[1] += pair.value is None
                sums[2] += len(pair.key)
                sums[3] += len(pair.value or b"")
                expiries += [pair.expiry] if pair.expiry else []
                yield pair
        need(tuple(sums) == (h.pairs, h.deletes, h.key_bytes, h.value_bytes), "the sums are wrong")
        need(min(expiries, default=0) == h.expiry_min, "the earliest expiry is wrong")
        blocks = tuple(self.met.get(kind, 0) for kind in (PAIRS, INDEX, FILTER))
        need(blocks == (h.data_blocks, h.index_blocks, h.filters), "the blocks' numbers are wrong")
        need(len(self.units) + 1 == len(self.data) // UNIT, "a unit belongs to no block")
        for unit, (_, says, met) in self.filters.items():
            need(says == met, "filter %d has another number of keys", unit)


def main():
    with open(sys.argv[1], "rb") as file:
        data = file.read()
    try:
        for pair in Run(data, xxh3.installed_library()).pairs():
            value = "delete" if pair.value is None else pair.value.hex() or "-"
            print(pair.key.hex(), value, pair.expiry or "-")
    except Bad as bad:
        print("not a whole run: %s" % bad, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
