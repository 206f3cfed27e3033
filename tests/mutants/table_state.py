# SPDX-License-Identifier: Apache-2.0
"""Deliberate faults in keyed state (state/), as those of table.py, and the tests of ctest that are to
catch them, by the beginning of the file's path.
"""

CATCHERS = [
    ("state/digest", ["digest"]),
    ("state/memtable", ["memtable"]),
    ("state/merge", ["state_merge"]),
    ("state/policy", ["state_policy"]),
    ("state/format_run", ["state_runs", "run_oracle"]),
    ("state/filter", ["state_runs", "run_oracle"]),
    ("state/run_", ["state_runs", "run_oracle"]),
]

MUTANTS = [
    # ---- the memory table
    ("version-of-a-snapshot-overwritten", "PAWL-3", "state/memtable.c",
     "        if (s->lsn < next)\n            return true;",
     "        if (s->lsn > next)\n            return true;"),
    ("reservation-without-nodes", "PAWL-11", "state/memtable.c",
     " + tree_insert_bytes(m, changes)", ""),
    ("separator-given-back", "PAWL-3", "state/memtable.c",
     "    if (!e->separator)\n", ""),
    ("cursor-left-behind-by-a-split", "PAWL-3", "state/memtable_split.c",
     "            c->index -= left->n.count;\n", ""),
    # ---- the digest
    ("digest-without-carry", "PAWL-3", "state/digest.c",
     "    d->high += h.high + (d->low < h.low);", "    d->high += h.high;"),
    # ---- merges
    ("tombstone-hides-nothing", "PAWL-3", "state/merge.c",
     "        TRY(pass(m));\n    }\n    m->stands = false;",
     "        TRY(move_source(m, 0));\n    }\n    m->stands = false;"),
    ("expired-seen-in-its-last-millisecond", "PAWL-3", "state/merge.c",
     "p->expiry_ms <= m->o.now_ms", "p->expiry_ms < m->o.now_ms"),
    ("source-error-taken-for-its-end", "PAWL-15", "state/merge.c",
     "    m->error = rc;\n", ""),
    ("pair-of-another-partition", "PAWL-3", "state/merge.c",
     "memcmp(pair->key, m->o.prefix, cut) != 0))", "0))"),
    # ---- which runs are merged
    ("tombstone-dropped-too-early", "PAWL-3", "state/policy.c",
     ".drops = first + count == runs_count}", ".drops = true}"),
    ("tier-of-runs-that-are-no-neighbours", "PAWL-3", "state/policy.c",
     "runs[i + n].level == runs[i].level", "runs[i + n].level <= 1"),
    ("waste-stays", "PAWL-11", "state/policy.c",
     "add(r->made_ms, l->drop_within_ms) <= l->now_ms", "add(r->made_ms, l->drop_within_ms) == 0"),
    # ---- runs
    ("filter-says-no-wrongly", "PAWL-13", "state/filter.c",
     "bit = hashes[i] >> (9 * probe)", "bit = hashes[i] >> (8 * probe)"),
    ("block-hash-unchecked", "PAWL-2", "state/format_run.c",
     "    if (frame_hash(data + 8, size - 8, key) != get64(data))\n",
     "    if (frame_hash(data + 8, size - 8, key) != get64(data) && all_zero(data, size))\n"),
    ("run-header-before-the-sync", "PAWL-8", "state/run_write.c",
     "    rc = w->io->ops->sync(w->io, w->file);\n    if (rc != 0)\n"
     "        return sys_failed(w, rc, \"fdatasync\");\n    TRY(write_header(w, RUN_WHOLE));",
     "    TRY(write_header(w, RUN_WHOLE));"),
    ("failed-run-finished", "PAWL-7", "state/run_write.c",
     "    if (w->failed != 0)\n        return fail_again(&w->error);\n    TRY(data_end",
     "    TRY(data_end"),
    ("separator-is-the-next-key", "PAWL-13", "state/run_write.c",
     "if (n < last_len && n + 1 < next_len) {", "if (n < last_len && n < next_len) {"),
    ("run-of-the-same-name-and-size", "PAWL-13", "state/run_read.c",
     "(i->header_hash != 0 && h->sum.header_hash != i->header_hash)", "false"),
    ("run-of-any-length", "PAWL-15", "state/run_read.c",
     "    if (size != r->h.sum.length)\n", "    if (size == 0)\n"),
    ("cursor-misses-the-key-itself", "PAWL-13", "state/run_iter.c",
     "    if (same)\n        return stand(c, entry);\n", ""),
]
