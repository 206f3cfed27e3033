# SPDX-License-Identifier: Apache-2.0
"""XXH3-64 with a seed or a secret, in plain Python.

`xxh3_64(data, seed=0)` gives the 64-bit hash as an integer; bytes in place of the seed are a secret
of 192 bytes. Run the file to test it.
"""

import ctypes
import ctypes.util
import functools
import operator
import random
import struct
import sys

MASK64 = 0xFFFFFFFFFFFFFFFF
MASK32 = 0xFFFFFFFF

PRIME32_1, PRIME32_2, PRIME32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
PRIME64_1 = 0x9E3779B185EBCA87
PRIME64_2 = 0xC2B2AE3D27D4EB4F
PRIME64_3 = 0x165667B19E3779F9
PRIME64_4 = 0x85EBCA77C2B2AE63
PRIME64_5 = 0x27D4EB2F165667C5
PRIME_MX1 = 0x165667919E3779F9
PRIME_MX2 = 0x9FB21C651E98DF25

SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)

STRIPE = 64
STRIPES_PER_BLOCK = (192 - STRIPE) // 8
BLOCK = STRIPE * STRIPES_PER_BLOCK

_u64 = struct.Struct("<Q").unpack_from
_u32 = struct.Struct("<I").unpack_from
_BLOCK_LANES = struct.Struct("<128Q")
_BLOCK_HALVES = struct.Struct("<256I")


def _fold(a, b):
    """The 128-bit product of two 64-bit numbers, its halves xored."""
    product = a * b
    return (product & MASK64) ^ (product >> 64)


def _avalanche(h):
    h ^= h >> 37
    h = (h * PRIME_MX1) & MASK64
    return h ^ (h >> 32)


def _avalanche_xxh64(h):
    h ^= h >> 33
    h = (h * PRIME64_2) & MASK64
    h ^= h >> 29
    h = (h * PRIME64_3) & MASK64
    return h ^ (h >> 32)


def _rotl(h, n):
    return ((h << n) & MASK64) | (h >> (64 - n))




def _swap(value, size):
    return int.from_bytes(value.to_bytes(size, "little"), "big")


def _hash_0_to_16(data, seed, secret):
    def _secret64(offset):
        return _u64(secret, offset)[0]

    n = len(data)
    if n == 0:
        return _avalanche_xxh64(seed ^ _secret64(56) ^ _secret64(64))
    if n <= 3:
        combined = (data[0] << 16) | (data[n >> 1] << 24) | data[n - 1] | (n << 8)
        flip = ((_u32(secret, 0)[0] ^ _u32(secret, 4)[0]) + seed) & MASK64
        return _avalanche_xxh64(combined ^ flip)
    if n <= 8:
        seed ^= _swap(seed & MASK32, 4) << 32
        word = _u32(data, n - 4)[0] + (_u32(data, 0)[0] << 32)
        h = word ^ (((_secret64(8) ^ _secret64(16)) - seed) & MASK64)
        h ^= _rotl(h, 49) ^ _rotl(h, 24)
        h = (h * PRIME_MX2) & MASK64
        h ^= (h >> 35) + n
        h = (h * PRIME_MX2) & MASK64
        return h ^ (h >> 28)
    flip_lo = ((_secret64(24) ^ _secret64(32)) + seed) & MASK64
    flip_hi = ((_secret64(40) ^ _secret64(48)) - seed) & MASK64
    lo = _u64(data, 0)[0] ^ flip_lo
    hi = _u64(data, n - 8)[0] ^ flip_hi
    return _avalanche((n + _swap(lo, 8) + hi + _fold(lo, hi)) & MASK64)


def _mix16(data, at, secret_at, seed, secret):
    lo = _u64(data, at)[0] ^ ((_u64(secret, secret_at)[0] + seed) & MASK64)
    hi = _u64(data, at + 8)[0] ^ ((_u64(secret, secret_at + 8)[0] - seed) & MASK64)
    return _fold(lo, hi)


def _hash_17_to_240(data, seed, secret):
    n = len(data)
    acc = n * PRIME64_1
    if n <= 128:
        # Pairs of 16-byte pieces, taken from both ends towards the middle.
        for i in range((n - 1) // 32 + 1):
            acc += _mix16(data, 16 * i, 32 * i, seed, secret)
            acc += _mix16(data, n - 16 * (i + 1), 32 * i + 16, seed, secret)
        return _avalanche(acc & MASK64)
    for i in range(8):
        acc += _mix16(data, 16 * i, 16 * i, seed, secret)
    acc = _avalanche(acc & MASK64)
    for i in range(8, n // 16):
        acc += _mix16(data, 16 * i, 16 * (i - 8) + 3, seed, secret)
    acc += _mix16(data, n - 16, 136 - 17, seed, secret)
    return _avalanche(acc & MASK64)


class _Keys:
    """What a long hash needs of a secret, or of the one that a seed makes."""

    def __init__(self, seed, secret):
        words = struct.unpack("<24Q", secret)
        secret = struct.pack(
            "<24Q", *((w - seed if i & 1 else w + seed) & MASK64 for i, w in enumerate(words))
        )
        # One 1024-byte key for a whole block, so that a single xor of big integers covers it.
        whole = b"".join(secret[8 * s : 8 * s + STRIPE] for s in range(STRIPES_PER_BLOCK))
        self.stripes = whole
        self.block = int.from_bytes(whole, "little")
        self.scramble = struct.unpack_from("<8Q", secret, 192 - STRIPE)
        self.last = int.from_bytes(secret[192 - STRIPE - 7 : 192 - 7], "little")
        self.merge = struct.unpack_from("<8Q", secret, 11)


_keys = functools.lru_cache(maxsize=64)(_Keys)


def _accumulate(acc, lanes, halves):
    """Add whole stripes to the lanes; sums grow beyond 64 bits and the caller masks them."""
    mul = operator.mul
    return [
        acc[i]
        + sum(lanes[i ^ 1 :: 8])
        + sum(map(mul, halves[2 * i :: 16], halves[2 * i + 1 :: 16]))
        for i in range(8)
    ]


def _accumulate_bytes(acc, piece, key):
    n = len(piece)
    keyed = (int.from_bytes(piece, "little") ^ key).to_bytes(n, "little")
    return _accumulate(
        acc, struct.unpack("<%dQ" % (n // 8), piece), struct.unpack("<%dI" % (n // 4), keyed)
    )


def long_lanes(data, keys):
    """The eight lanes of a long hash, before they become one."""
    n = len(data)
    acc = [PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1]
    blocks = (n - 1) // BLOCK
    key, scramble = keys.block, keys.scramble
    from_bytes = int.from_bytes
    for at in range(0, blocks * BLOCK, BLOCK):
        piece = data[at : at + BLOCK]
        keyed = (from_bytes(piece, "little") ^ key).to_bytes(BLOCK, "little")
        acc = _accumulate(acc, _BLOCK_LANES.unpack(piece), _BLOCK_HALVES.unpack(keyed))
        for i in range(8):
            lane = acc[i] & MASK64
            acc[i] = ((lane ^ (lane >> 47) ^ scramble[i]) * PRIME32_1) & MASK64
    at = blocks * BLOCK
    size = (n - 1 - at) // STRIPE * STRIPE
    if size:
        acc = _accumulate_bytes(
            acc, data[at : at + size], from_bytes(keys.stripes[:size], "little")
        )
    # The last 64 bytes are always a stripe of their own, even where they overlap the one before.
    return _accumulate_bytes(acc, data[n - STRIPE : n], keys.last)


def merge_lanes(acc, words, h):
    for i in range(0, 8, 2):
        h += _fold((acc[i] & MASK64) ^ words[i], (acc[i + 1] & MASK64) ^ words[i + 1])
    return _avalanche(h & MASK64)


def _hash_long(data, seed, secret):
    keys = _keys(seed, secret)
    return merge_lanes(long_lanes(data, keys), keys.merge, len(data) * PRIME64_1)


def xxh3_64(data, seed=0):
    """XXH3-64 of bytes-like `data` with a 64-bit `seed`, or a secret."""
    n = len(data)
    seed, secret = (0, seed) if isinstance(seed, bytes) else (seed, SECRET)
    if n > 240:
        return _hash_long(data, seed, secret)
    if n > 16:
        return _hash_17_to_240(data, seed, secret)
    return _hash_0_to_16(data, seed, secret)


# Published vectors: (length, hash with seed 0, hash with seed VECTOR_SEED) over the buffer of `vector_buffer`.
VECTOR_SEED = 0x9E3779B185EBCA8D
VECTORS = (
    (0, 0x2D06800538D394C2, 0xA8A6B918B2F0364A),
    (1, 0xC44BDFF4074EECDB, 0x032BE332DD766EF8),
    (6, 0x27B56A84CD2D7325, 0x84589C116AB59AB9),
    (12, 0xA713DAF0DFBB77E7, 0xE7303E1B2336DE0E),
    (24, 0xA3FE70BF9D3510EB, 0x850E80FC35BDD690),
    (48, 0x397DA259ECBA1F11, 0xADC2CBAA44ACC616),
    (80, 0xBCDEFBBB2C47C90A, 0xC6DD0CB699532E73),
    (195, 0xCD94217EE362EC3A, 0xBA68003D370CB3D9),
    (403, 0xCDEB804D65C6DEA4, 0x6259F6ECFD6443FD),
    (512, 0x617E49599013CB6B, 0x3CE457DE14C27708),
    (2048, 0xDD59E2C3A5F038E0, 0x66F81670669ABABC),
    (2240, 0x6E73A90539CF2948, 0x757BA8487D1B5247),
    (2367, 0xCB37AEB9E5D361ED, 0xD2DB3415B942B42A),
)


def vector_buffer(size):
    out, state = bytearray(), PRIME32_1
    for _ in range(size):
        out.append(state >> 56)
        state = (state * VECTOR_SEED) & MASK64
    return bytes(out)


def check_vectors():
    """The lengths whose published hash is not the one computed here; empty if all is well."""
    buffer = vector_buffer(2367)
    return [
        (n, seed)
        for n, plain, seeded in VECTORS
        for seed, want in ((0, plain), (VECTOR_SEED, seeded))
        if xxh3_64(buffer[:n], seed) != want
    ]


def installed_library():
    """The installed libxxhash as a function (data, seed or secret) -> hash, or None."""
    for name in (ctypes.util.find_library("xxhash"), "libxxhash.so.0"):
        try:
            function = ctypes.CDLL(name).XXH3_64bits_withSeed if name else None
            secretly = ctypes.CDLL(name).XXH3_64bits_withSecret if name else None
        except (OSError, AttributeError):
            continue
        if function:
            function.restype = ctypes.c_uint64
            function.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64)
            secretly.restype = ctypes.c_uint64
            secretly.argtypes = (ctypes.c_char_p, ctypes.c_size_t) * 2
            return lambda data, seed: (
                secretly(data, len(data), seed, len(seed))
                if isinstance(seed, bytes)
                else function(data, len(data), seed)
            )
    return None


def check_library(rounds=2000, limit=3000):
    """Compare with the installed library; None if there is none, else a list of (length, seed) that differ."""
    library = installed_library()
    if library is None:
        return None
    rng = random.Random(1)
    wrong = []
    lengths = list(range(0, 300)) + [rng.randrange(limit + 1) for _ in range(rounds)]
    lengths += [1023, 1024, 1025, 2047, 2048, 2049, 70000]
    for n in lengths:
        data = rng.randbytes(n)
        for seed in (0, rng.getrandbits(64), MASK64, rng.randbytes(192)):
            if xxh3_64(data, seed) != library(data, seed):
                wrong.append((n, seed))
    return wrong


def main():
    bad = check_vectors()
    print("published vectors:", "ok" if not bad else "WRONG %r" % bad)
    wrong = check_library()
    print(
        "installed library:",
        "absent, skipped" if wrong is None else "WRONG %r" % wrong[:5] if wrong else "ok",
    )
    return 1 if bad or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
