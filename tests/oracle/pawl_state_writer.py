# SPDX-License-Identifier: Apache-2.0
"""What a transaction says of tables and their state (docs/format.md, section 6)."""

import struct

import pawl_state as st
from pawl_pieces import R_STATE, RunBytes, name_bytes, padded, varint
from xxh3_128 import xxh3_128


class WriterTables(st.StateTables):
    """The same, with the pairs, from which digests come."""

    def __init__(self):
        super().__init__()
        self.pairs = {}  # (table, partition) -> {key: value}


def pair_hash(key, value):
    low, high = xxh3_128(struct.pack("<I", len(key)) + key + value)
    return low | high << 64


def sum_of(pairs):
    total = sum(pair_hash(key, value) for key, value in pairs.items()) & (1 << 128) - 1
    size = sum(len(key) + len(value) for key, value in pairs.items())
    return st.Sum(total & (1 << 64) - 1, total >> 64, len(pairs), size)


def entry(op, ident=0, owner=0, partitions=0, version=0, flags=0, ttl=0, a=0, b=0, name=b""):
    fields = (op, len(name), ident, owner, partitions, version, flags, ttl, a, b)
    return padded(struct.pack("<HHIIIIIQQQ", *fields) + name)


def change_bytes(key, value, expiry=0):
    flags = st.DELETED if value is None else st.EXPIRES if expiry else 0
    head = bytes([flags]) + varint(len(key))
    if value is not None:
        head += varint(len(value))
    return head + (varint(expiry) if flags & st.EXPIRES else b"") + key + (value or b"")


class TableTxn:
    """Of a Txn."""

    def tables(self, op, **fields):
        self._run(st.TABLES, entry(op, **fields))

    def table(self, name, owner, partitions=1, version=0, ttl=0):
        t = self.s.tables
        ident, owner = t.next_table, self.s.processors[name_bytes(owner)]
        flags = st.TABLE_EXPIRES if ttl else 0
        name = name_bytes(name)
        row = st.Table(st.CREATE, ident, owner, partitions, version, flags, ttl, 0, 0, name)
        t.add(row)
        self.tables(
            st.CREATE,
            ident=ident,
            owner=owner,
            partitions=partitions,
            version=version,
            flags=flags,
            ttl=ttl,
            name=name,
        )
        return ident

    def drop_table(self, name):
        ident = self.s.tables.find(name_bytes(name))
        del self.s.tables.rows[ident]
        self.tables(st.DELETE, ident=ident)

    def replace_table(self, fresh, name):
        ident, old = (self.s.tables.find(name_bytes(n)) for n in (fresh, name))
        del self.s.tables.rows[old]
        self.s.tables.rows[ident].name = name_bytes(name)
        self.tables(st.REPLACES, ident=ident, a=old, name=name_bytes(name))

    def table_version(self, name, version):
        ident = self.s.tables.find(name_bytes(name))
        self.s.tables.rows[ident].version = version
        self.tables(st.VERSION, ident=ident, version=version)

    def run_added(self, flush, level=0, size=8192, hash=0):
        t = self.s.tables
        run = st.CRun(t.next_run, level, flush, size)
        t.add_run(run, str)
        t.flush = max(t.flush, flush)
        if hash:
            t.hashes[run.id] = hash
        self.tables(st.RUN_ADDED, ident=run.id, owner=level, ttl=hash, a=flush, b=size)
        return run.id

    def run_removed(self, ident):
        del self.s.tables.runs[ident]
        self.s.tables.hashes.pop(ident, None)
        self.tables(st.RUN_REMOVED, ident=ident)

    def flushed(self, lsn):
        self.s.tables.flush, self.s.tables.any = lsn, True
        self.tables(st.FLUSHED, a=lsn)

    def table_lost(self, name, partition):
        ident = self.s.tables.find(name_bytes(name))
        self.s.tables.rows[ident].part(partition).lost = True
        self.tables(st.LOST, ident=ident, partitions=partition)

    def state(self, name, partition, changes):
        """`changes` are (key, value) or (key, value, expiry), or (key, None) to delete."""
        ident = self.s.tables.find(name_bytes(name))
        pairs = self.s.tables.pairs.setdefault((ident, partition), {})
        for key, value, *_ in changes:
            if value is None:
                pairs.pop(key, None)
            else:
                pairs[key] = value
        part = self.s.tables.rows[ident].part(partition)
        part.sum, part.commits = sum_of(pairs), part.commits + 1
        data = struct.pack("<QQQQ", *part.sum) + b"".join(
            change_bytes(*each) for each in sorted(changes)
        )
        self._run(R_STATE, data, ident, partition, len(changes), part.commits, join=False)


def checkpoint_runs(t):
    """The runs of a CHECKPOINT."""
    rows = {st.C_TABLES: [], st.C_DIGESTS: [], st.C_RUNS: [], st.C_STATE: [], st.C_RUN_HASHES: []}
    for ident, row in sorted(t.rows.items()):
        fields = (row.owner, row.partitions, row.version, row.flags, row.ttl)
        rows[st.C_TABLES].append(entry(st.CREATE, ident, *fields, name=row.name))
        for p, part in sorted(row.parts.items()):
            rows[st.C_DIGESTS].append(
                struct.pack(
                    "<IIQQQQQII", ident, p, *part.sum, part.commits, int(part.unknown()), 0
                )
            )
    for run in sorted(t.runs.values()):
        rows[st.C_RUNS].append(struct.pack("<IIQQ", *run))
    if t.any:
        rows[st.C_STATE].append(struct.pack("<IIQQ", t.next_run, 0, t.flush, t.replay_max))
    for ident, found in sorted(t.hashes.items()):
        rows[st.C_RUN_HASHES].append(struct.pack("<IIQ", ident, 0, found))
    return [
        RunBytes(kind, 0, 0, len(found), 0, b"".join(found)) for kind, found in rows.items() if found
    ]
