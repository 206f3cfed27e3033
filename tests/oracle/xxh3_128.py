# SPDX-License-Identifier: Apache-2.0
"""XXH3-128 without a seed, in plain Python, for data of 4 bytes and more: the hash of a pair of keyed state.

`xxh3_128(data)` gives the hash as (low, high). Run the file to test it.
"""

import ctypes
import ctypes.util
import random
import struct
import sys

import xxh3
from xxh3 import MASK64, PRIME32_2, PRIME64_1, PRIME64_2, PRIME64_4, PRIME_MX2, SECRET

_u64 = struct.Struct("<Q").unpack_from
_u32 = struct.Struct("<I").unpack_from


def _secret(at):
    return _u64(SECRET, at)[0]


def _multiply(a, b):
    product = a * b
    return product & MASK64, product >> 64


def _hash_4_to_8(data):
    n = len(data)
    word = _u32(data, 0)[0] + (_u32(data, n - 4)[0] << 32)
    low, high = _multiply(word ^ _secret(16) ^ _secret(24), PRIME64_1 + (n << 2))
    high = (high + (low << 1)) & MASK64
    low ^= high >> 3
    low = ((low ^ (low >> 35)) * PRIME_MX2) & MASK64
    return low ^ (low >> 28), xxh3._avalanche(high)


def _hash_9_to_16(data):
    n = len(data)
    first, last = _u64(data, 0)[0], _u64(data, n - 8)[0]
    low, high = _multiply(first ^ last ^ _secret(32) ^ _secret(40), PRIME64_1)
    low = (low + ((n - 1) << 54)) & MASK64
    last ^= _secret(48) ^ _secret(56)
    high = (high + last + (last & xxh3.MASK32) * (PRIME32_2 - 1)) & MASK64
    low ^= xxh3._swap(high, 8)
    more = high * PRIME64_2
    low, high = _multiply(low, PRIME64_2)
    return xxh3._avalanche(low), xxh3._avalanche((high + more) & MASK64)


def _mix32(low, high, data, one, two, at):
    low = (low + xxh3._mix16(data, one, at, 0, SECRET)) & MASK64
    low ^= (_u64(data, two)[0] + _u64(data, two + 8)[0]) & MASK64
    high = (high + xxh3._mix16(data, two, at + 16, 0, SECRET)) & MASK64
    high ^= (_u64(data, one)[0] + _u64(data, one + 8)[0]) & MASK64
    return low, high


def _hash_17_to_240(data):
    n = len(data)
    low, high = n * PRIME64_1 & MASK64, 0
    if n <= 128:
        for i in reversed(range((n - 1) // 32 + 1)):
            low, high = _mix32(low, high, data, 16 * i, n - 16 * (i + 1), 32 * i)
    else:
        for i in range(n // 32):
            if i == 4:
                low, high = xxh3._avalanche(low), xxh3._avalanche(high)
            at = 32 * i if i < 4 else 3 + 32 * (i - 4)
            low, high = _mix32(low, high, data, 32 * i, 32 * i + 16, at)
        if n // 32 == 4:
            low, high = xxh3._avalanche(low), xxh3._avalanche(high)
        low, high = _mix32(low, high, data, n - 16, n - 32, 136 - 17 - 16)
    last = low * PRIME64_1 + high * PRIME64_4 + n * PRIME64_2
    return xxh3._avalanche((low + high) & MASK64), -xxh3._avalanche(last & MASK64) & MASK64


def _hash_long(data):
    keys = xxh3._keys(0, SECRET)
    lanes, n = xxh3.long_lanes(data, keys), len(data)
    words = struct.unpack_from("<8Q", SECRET, 192 - 64 - 11)
    low = xxh3.merge_lanes(lanes, keys.merge, n * PRIME64_1)
    return low, xxh3.merge_lanes(lanes, words, ~(n * PRIME64_2) & MASK64)


def xxh3_128(data):
    n = len(data)
    if n > 240:
        return _hash_long(data)
    return _hash_17_to_240(data) if n > 16 else (_hash_9_to_16 if n > 8 else _hash_4_to_8)(data)


class _Hash(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def check_library(rounds=500, limit=3000):
    """Compare with the installed library; None if there is none, else the lengths that differ."""
    name = ctypes.util.find_library("xxhash") or "libxxhash.so.0"
    try:
        function = ctypes.CDLL(name).XXH3_128bits
    except (OSError, AttributeError):
        return None
    function.restype, function.argtypes = _Hash, (ctypes.c_char_p, ctypes.c_size_t)
    rng, wrong = random.Random(1), []
    for n in list(range(4, 300)) + [rng.randrange(4, limit) for _ in range(rounds)]:
        data = rng.randbytes(n)
        want = function(data, n)
        if xxh3_128(data) != (want.low, want.high):
            wrong.append(n)
    return wrong


if __name__ == "__main__":
    found = check_library()
    print("installed library:", "absent, skipped" if found is None else found or "ok")
    sys.exit(1 if found else 0)
