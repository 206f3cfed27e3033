# SPDX-License-Identifier: Apache-2.0
"""Deliberate faults in time (watermarks, timers), as those of table.py, and the tests of ctest that
are to catch them, by the beginning of the file's path.
"""

CATCHERS = [
    ("pipeline/watermark", ["watermark", "timers"]),
    ("pipeline/timed", ["timers", "watermark"]),
    ("wal/format_time", ["timers", "watermark"]),
]

MUTANTS = [
    # ---- watermarks
    ("late-by-other-inputs", "PAWL-14", "pipeline/watermark.c",
     "in->time != WATERMARK_NONE && time < in->time;",
     "w->combined != WATERMARK_NONE && time < w->combined;"),
    ("late-off-by-one", "PAWL-14", "pipeline/watermark.c",
     "&& time < in->time;", "&& time <= in->time;"),
    ("idle-holds-back", "PAWL-14", "pipeline/watermark.c",
     "        if (w->in[i].idle)\n            continue;", ""),
    ("back-behind-not-moved", "PAWL-14", "pipeline/watermark.c",
     "in->time = in->time > w->combined ? in->time : w->combined;", ";"),
    ("idle-last-by-the-slowest", "PAWL-14", "pipeline/watermark.c",
     "int64_t now = counts ? lowest : highest;", "int64_t now = counts ? lowest : w->combined;"),
    ("clock-goes-back", "PAWL-14", "pipeline/watermark.c", "if (reading > w->clock)", ""),
    ("watermark-not-restored", "PAWL-13", "pipeline/timed.c",
     "    if (rc == 0)\n        watermark_init(&g->now", "    if (rc >= 0)\n        watermark_init(&g->now"),
    # ---- timers
    ("watermark-batch-by-batch", "PAWL-14", "pipeline/timed.c",
     "        int rc = next_timer(g, t->tx, &due);",
     "        int rc = y->done < y->count ? 0 : next_timer(g, t->tx, &due);"),
    ("timer-before-its-time", "PAWL-14", "pipeline/timed_timers.c",
     "timer_time_decode(pair.key) <= until;", "timer_time_decode(pair.key) <= until + 1;"),
    ("timer-fires-twice", "PAWL-3", "pipeline/timed_timers.c",
     "    int rc = state_tx_delete(tx, timed_place(g), due->key, due->key_len);",
     "    int rc = 1;\n    (void)tx;"),
    ("timers-read-before-still-hold", "PAWL-14", "pipeline/timed_timers.c",
     "            g->due.len = g->due_at = 0;\n    }", "            (void)g;\n    }"),
    ("failed-attempt-leaves-its-bound", "PAWL-3", "pipeline/timed.c",
     "    timers_forget(g);\n    tx_reset", "    tx_reset"),
    ("negative-times-last", "PAWL-14", "wal/format_time.c",
     "uint64_t turned = (uint64_t)time ^ (UINT64_C(1) << 63);", "uint64_t turned = (uint64_t)time;"),
]
