#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run files that the library writes are whole runs for the oracle, which lists them pair by pair;
and it finds what is damaged in them."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True  # the source tree stays as it is

import xxh3
from pawl_runs import UNIT, Bad, Pair, Run

PROGRAM = os.path.join(os.environ["PAWL_BUILD_DIR"], "tests", "prog_run")


def some_pairs(rng, count, key_len, value_len, large=0):
    """Pairs in ascending order: some deletes, some with an expiry, some with a large value."""
    keys = {
        bytes([0, 0, 0, rng.randrange(1, 3), 0, 0, 0, rng.randrange(4)])
        + rng.randbytes(rng.randrange(1, key_len + 1))
        for _ in range(count)
    }
    pairs = []
    for key in sorted(keys):
        kind = rng.randrange(10)
        size = large if large and kind == 9 else rng.randrange(value_len + 1)
        value = None if kind == 0 else rng.randbytes(size)
        pairs.append(Pair(key, value, rng.randrange(1, 1 << 41) if kind in (1, 9) else 0))
    return pairs


def line_of(pair):
    value = "delete" if pair.value is None else pair.value.hex() or "-"
    return "%s %s %s\n" % (pair.key.hex(), value, pair.expiry or "-")


class RunOracle(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="pawl-runs-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.hash = xxh3.installed_library()
        self.runs = 0

    def written(self, pairs):
        self.runs += 1
        subprocess.run(
            [PROGRAM, self.dir, str(self.runs)],
            input="".join(map(line_of, pairs)),
            text=True,
            check=True,
        )
        with open(os.path.join(self.dir, "%016x.run" % self.runs), "rb") as file:
            return file.read()

    def test_pair_by_pair(self):
        rng = random.Random(15)
        for count, key_len, value_len, large in (
            (0, 1, 1, 0),
            (1, 16, 8, 0),
            (1, 1, 0, 0),
            (300, 200, 900, 20000),
            (30, 8192, 100, 0),
            (40, 16, 10, 300000),
            (20000 if self.hash else 1000, 16, 16, 0),
        ):
            with self.subTest(count=count, key_len=key_len, value_len=value_len):
                pairs = some_pairs(rng, count, key_len, value_len, large)
                run = Run(self.written(pairs), self.hash)
                self.assertEqual(list(run.pairs()), pairs)
                self.assertEqual(run.header.run_id, self.runs)
                self.assertEqual((run.header.level, run.header.flush_lsn), (1, 4096))

    def test_own_hash(self):
        """Without the installed library: our own hash says the same."""
        pairs = some_pairs(random.Random(16), 60, 16, 40)
        self.assertEqual(list(Run(self.written(pairs)).pairs()), pairs)

    def test_damage(self):
        rng = random.Random(17)
        data = self.written(some_pairs(rng, 200, 16, 100, 9000))
        for _ in range(400 if self.hash else 20):
            bit = rng.randrange(len(data) * 8)
            bad = bytearray(data)
            bad[bit // 8] ^= 1 << bit % 8
            with self.assertRaises(Bad, msg="bit %d" % bit):
                list(Run(bytes(bad), self.hash).pairs())
        for size in (0, 100, UNIT, len(data) - UNIT, len(data) - 1, len(data) + UNIT):
            with self.assertRaises(Bad, msg="length %d" % size):
                list(Run((data + bytes(UNIT))[:size], self.hash).pairs())


if __name__ == "__main__":
    unittest.main()
