/* SPDX-License-Identifier: Apache-2.0
 *
 * A processor begins to know time: its internal table, and the groups of its tasks.
 */
#include <stdio.h>

#include "pipeline/catalog.h"
#include "pipeline/struct_size.h"
#include "pipeline/timed.h"

/* By the id, as names may be given to others. */
static void table_name(char out[NAME_LEN_MAX + 1], uint32_t processor) {
    snprintf(out, NAME_LEN_MAX + 1, "%ctime.%u", TABLE_INTERNAL_MARK, processor);
}

static int partitions_of_inputs(struct pawl_processor *proc, uint32_t *most) {
    *most = 0;
    for (uint32_t i = 0; i < proc->config.input_count; i++) {
        pawl_stream_info info;
        TRY(pawl_stream_get(proc->p, proc->inputs[i], &info));
        *most = info.partitions > *most ? info.partitions : *most;
    }
    return 0;
}

/* The internal table, which is created the first time. */
static int find_table(struct pawl_processor *proc, uint32_t *id) {
    char name[NAME_LEN_MAX + 1];
    uint32_t partitions;
    pawl_table_info info = PAWL_TABLE_INFO_INIT;
    TRY(partitions_of_inputs(proc, &partitions));
    table_name(name, proc->id);
    int rc = catalog_internal_table(proc->p, name, proc->name, partitions, id);
    if (rc != PAWL_EXISTS)
        return rc;
    TRY(pawl_table_get_info(proc->p, *id, &info));
    if (info.owner != proc->id)
        return fail(PAWL_STATE, "table %s belongs to processor %s, not to %s", name,
                    info.owner_name, proc->name);
    if (info.partitions < partitions)
        return fail(PAWL_STATE,
                    "the inputs of processor %s have %u partitions, but its watermarks and timers "
                    "are kept for %u: give the processor another name",
                    proc->name, partitions, info.partitions);
    return 0;
}

static int check(struct pawl_processor *proc, const pawl_time_config *c, uint32_t *late) {
    pawl_stream_info info;
    *late = 0;
    if (proc->config.guarantee != PAWL_EXACTLY_ONCE)
        return fail(PAWL_STATE,
                    "processor %s is not exactly-once, so its watermarks would not be where its "
                    "position is",
                    proc->name);
    if ((c->flags & ~(uint32_t)PAWL_TIME_USES_CLOCK) != 0)
        return fail(PAWL_INVALID, "a processor's time has no flags 0x%x", c->flags);
    if (c->late_stream == 0)
        return 0;
    TRY(pawl_stream_get(proc->p, c->late_stream, &info));
    *late = info.partitions;
    return 0;
}

int pawl_processor_set_time(pawl_processor *proc, const pawl_time_config *given) {
    pawl_time_config own;
    uint32_t late, table;
    if (proc == NULL)
        return fail(PAWL_INVALID, "the processor is NULL");
    TRY(handle_live(proc, "processor"));
    pawl *p = proc->p;
    TRY(pawl_struct_take(&own, sizeof own, given, TIME_CONFIG_FIRST, "pawl_time_config"));
    TRY(check(proc, &own, &late));
    TRY(find_table(proc, &table));
    struct timed *timed = mem_alloc(&p->mem, sizeof *timed);
    if (timed == NULL)
        return fail(PAWL_MEMORY, "no memory for the time of processor %s", proc->name);
    *timed = (struct timed){.config = own, .table = table, .late_partitions = late};
    int rc = engine_enter_writer(p);
    if (rc == 0) {
        rc = p->running ? fail(PAWL_BUSY, "processors are running") : 0;
        struct timed *old = proc->timed;
        if (rc == 0) {
            proc->timed = timed;
            timed = old;
        }
        engine_leave(p);
    }
    mem_free(&p->mem, timed, sizeof *timed);
    TRY(rc);
    engine_forget_tasks(p);
    return 0;
}

void timed_free(struct pawl_processor *proc) {
    mem_free(&proc->p->mem, proc->timed, sizeof *proc->timed);
    proc->timed = NULL;
}

/* ---- groups */

int timed_join(struct task *t, struct task *same) {
    struct pawl_processor *proc = t->processor;
    if (proc->timed == NULL)
        return 0;
    struct time_group *g = same != NULL ? same->group : NULL;
    if (g == NULL) {
        g = mem_alloc(&proc->p->mem, sizeof *g);
        if (g == NULL)
            return fail(PAWL_MEMORY, "no memory for the time of processor %s", proc->name);
        g->processor = proc;
        g->partition = t->partition;
        g->lead = t;
        bytes_init(&g->due, &proc->p->mem);
        bytes_init(&g->key, &proc->p->mem);
    }
    t->input = g->input_count;
    g->streams[g->input_count++] = t->stream;
    g->refs++;
    t->group = g;
    return 0;
}

void timed_leave(struct task *t) {
    struct time_group *g = t->group;
    t->group = NULL;
    if (g == NULL || --g->refs != 0)
        return;
    bytes_free(&g->due);
    bytes_free(&g->key);
    mem_free(&t->processor->p->mem, g, sizeof *g);
}

/* ---- what a callback is told */

int64_t pawl_watermark(const pawl_context *ctx) {
    return ctx->task->group != NULL ? ctx->task->group->now.combined : PAWL_TIME_NONE;
}

int64_t pawl_input_watermark(const pawl_context *ctx) {
    const struct task *t = ctx->task;
    return t->group != NULL ? t->group->now.in[t->input].time : PAWL_TIME_NONE;
}

int64_t pawl_event_time(const pawl_context *ctx) {
    return ctx->task->group != NULL ? ctx->event_time : PAWL_TIME_NONE;
}

int64_t pawl_clock(const pawl_context *ctx) {
    return ctx->task->group != NULL ? ctx->task->group->now.clock : PAWL_TIME_NONE;
}

int pawl_is_late(const pawl_context *ctx) {
    return ctx->late;
}

/* ---- from outside */

int pawl_processor_get_time(pawl *p, const char *processor, uint32_t partition,
                            pawl_time_info *out) {
    char name[NAME_LEN_MAX + 1];
    uint8_t bytes[WATERMARK_SIZE_MAX];
    size_t len = 0;
    struct watermark w;
    pawl_table_info table = PAWL_TABLE_INFO_INIT;
    if (processor == NULL)
        return fail(PAWL_INVALID, "the name is NULL");
    TRY(catalog_refreshed(p));
    uint32_t id = tables_find_processor(&p->tables, processor);
    engine_leave(p);
    if (id == 0)
        return fail(PAWL_NOT_FOUND, "there is no processor %s", processor);
    table_name(name, id);
    TRY(pawl_table_find(p, name, &table));
    int rc = pawl_table_get(p, table.id, partition, WATERMARK_KEY, WATERMARK_KEY_LEN, bytes,
                            sizeof bytes, &len);
    TRY(rc);
    watermark_init(&w, NULL, 0);
    if (rc == 1)
        TRY(watermark_decode(&w, bytes, len < sizeof bytes ? len : sizeof bytes));
    pawl_time_info own = {.struct_size = sizeof own,
                          .watermark_ns = w.combined,
                          .clock_ns = w.clock,
                          .late = w.late,
                          .inputs = w.count,
                          .table = table.id};
    for (uint32_t i = 0; i < w.count; i++)
        own.idle += w.in[i].idle;
    return pawl_struct_give(out, TIME_INFO_FIRST, &own, sizeof own, "pawl_time_info");
}
