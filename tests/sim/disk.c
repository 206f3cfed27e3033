/* SPDX-License-Identifier: Apache-2.0 */
#include "disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SECTORS (DISK_PAGE / DISK_SECTOR)
#define ALL_SECTORS 0xffu

/* ---------------------------------------------------------------- pages and inodes, shared and
 * counted */

/* freed pages, for reuse: allocating pages is most of the simulator's work */
static struct page *spare;
static struct inode *spare_inode;

static void *get(void *list, size_t size) {
    void *p = list != NULL ? list : malloc(size);
    if (p == NULL)
        abort();
    return p;
}

static struct page *page_new(void) {
    struct page *p = spare;
    if (p != NULL)
        memcpy(&spare, p->data, sizeof spare);
    p = get(p, sizeof *p);
    p->refs = 1;
    return p;
}

static struct page *page_share(struct page *p) {
    if (p != NULL)
        p->refs++;
    return p;
}

static void page_drop(struct page *p) {
    if (p == NULL || --p->refs != 0)
        return;
    memcpy(p->data, &spare, sizeof spare);
    spare = p;
}

/* Makes *place a page that no other holder shares. */
static struct page *page_own(struct page **place) {
    struct page *p = *place;
    if (p != NULL && p->refs == 1)
        return p;
    struct page *q = page_new();
    if (p != NULL)
        memcpy(q->data, p->data, DISK_PAGE);
    else
        memset(q->data, 0, DISK_PAGE);
    page_drop(p);
    return *place = q;
}

static void page_set(struct page **place, struct page *p) {
    struct page *old = *place;
    *place = page_share(p);
    page_drop(old);
}

static struct inode *inode_own(struct inode **place) {
    struct inode *i = *place;
    if (i->refs == 1)
        return i;
    struct inode *q = spare_inode;
    if (q != NULL)
        memcpy(&spare_inode, &q->size, sizeof spare_inode);
    q = get(q, sizeof *q);
    *q = *i;
    q->refs = 1;
    i->refs--;
    for (unsigned n = 0; n < DISK_PAGES; n++) {
        page_share(q->slot[n].now);
        page_share(q->slot[n].disk);
    }
    return *place = q;
}

static void inode_drop(struct inode *i) {
    if (i == NULL || --i->refs != 0)
        return;
    for (unsigned n = 0; n < DISK_PAGES; n++) {
        page_drop(i->slot[n].now);
        page_drop(i->slot[n].disk);
    }
    memcpy(&i->size, &spare_inode, sizeof spare_inode);
    spare_inode = i;
}

static struct inode *inode_share(struct inode *i) {
    if (i != NULL)
        i->refs++;
    return i;
}

static void sector_copy(struct page **to, const struct page *from, unsigned sector) {
    uint8_t *at = page_own(to)->data + sector * DISK_SECTOR;
    if (from != NULL)
        memcpy(at, from->data + sector * DISK_SECTOR, DISK_SECTOR);
    else
        memset(at, 0, DISK_SECTOR);
}

static bool sector_same(const struct page *a, const struct page *b, unsigned sector) {
    static const uint8_t zeros[DISK_SECTOR];
    const uint8_t *x = a != NULL ? a->data + sector * DISK_SECTOR : zeros;
    const uint8_t *y = b != NULL ? b->data + sector * DISK_SECTOR : zeros;
    return a == b || memcmp(x, y, DISK_SECTOR) == 0;
}

/* ---------------------------------------------------------------- a disk and its copies */

void disk_init(struct disk *d, uint64_t space) {
    memset(d, 0, sizeof *d);
    d->space = space;
    d->bad_inode = -1;
}

void disk_copy(struct disk *to, const struct disk *from) {
    *to = *from;
    memset(to->open, 0, sizeof to->open);
    for (int i = 0; i < DISK_INODES; i++)
        inode_share(to->inode[i]);
    for (int i = 0; i < DISK_STALE; i++)
        page_share(to->stale[i]);
    for (int i = 0; i < DISK_FLIGHTS; i++) {
        struct flight *f = &to->flight[i];
        if (!f->used)
            continue;
        for (unsigned n = 0; n < DISK_PAGES; n++)
            page_share(f->page[n]);
        inode_share(f->covers);
    }
}

static void flight_drop(struct flight *f) {
    if (!f->used)
        return;
    disk_drop_pages(f->page);
    inode_drop(f->covers);
    memset(f, 0, sizeof *f);
}

void disk_free(struct disk *d) {
    for (int i = 0; i < DISK_FLIGHTS; i++)
        flight_drop(&d->flight[i]);
    for (int i = 0; i < DISK_STALE; i++)
        page_drop(d->stale[i]);
    for (int i = 0; i < DISK_INODES; i++)
        inode_drop(d->inode[i]);
    memset(d, 0, sizeof *d);
}

/* ---------------------------------------------------------------- names */

static struct name *names_find(struct names *n, const char *text) {
    for (int i = 0; i < n->count; i++)
        if (strcmp(n->name[i].text, text) == 0)
            return &n->name[i];
    return NULL;
}

static void names_remove(struct names *n, const char *text) {
    struct name *x = names_find(n, text);
    if (x != NULL)
        *x = n->name[--n->count];
}

static void names_put(struct names *n, const char text[24], int inode) {
    struct name *x = names_find(n, text);
    if (x == NULL) {
        if (n->count == DISK_NAMES)
            abort();
        x = &n->name[n->count++];
        memcpy(x->text, text, sizeof x->text);
    }
    x->inode = inode;
}

static void names_apply(struct names *n, const struct pending *p) {
    if (p->gone[0] != 0)
        names_remove(n, p->gone);
    if (p->there[0] != 0)
        names_put(n, p->there, p->inode);
}

static void change_names(struct disk *d, const char *gone, const char *there, int inode) {
    struct pending p = {.inode = inode};
    strncpy(p.gone, gone, sizeof p.gone - 1);
    strncpy(p.there, there, sizeof p.there - 1);
    names_apply(&d->now, &p);
    if (d->pending_count == DISK_PENDING)
        abort();
    d->pending[d->pending_count++] = p;
}

int disk_find(const struct disk *d, const char *name) {
    const struct name *x = names_find((struct names *)&d->now, name);
    return x != NULL ? x->inode : -1;
}

static bool has_name(const struct names *n, int inode) {
    for (int i = 0; i < n->count; i++)
        if (n->name[i].inode == inode)
            return true;
    return false;
}

/* No name or handle can refer to the inode any more, whatever a power cut does. Its bytes may
 * reappear elsewhere. */
static bool is_garbage(const struct disk *d, int inode) {
    if (d->open[inode] != 0 || has_name(&d->now, inode) || has_name(&d->durable, inode))
        return false;
    for (int i = 0; i < d->pending_count; i++)
        if (d->pending[i].there[0] != 0 && d->pending[i].inode == inode)
            return false;
    for (int i = 0; i < DISK_FLIGHTS; i++)
        if (d->flight[i].used && d->flight[i].inode == inode)
            return false;
    return true;
}

static void collect(struct disk *d) {
    for (int i = 0; i < DISK_INODES; i++) {
        if (d->inode[i] == NULL || !is_garbage(d, i))
            continue;
        for (unsigned n = 2; n < DISK_PAGES; n += 5)
            if (d->inode[i]->slot[n].disk != NULL)
                page_set(&d->stale[d->stale_at++ % DISK_STALE], d->inode[i]->slot[n].disk);
        inode_drop(d->inode[i]);
        d->inode[i] = NULL;
    }
}

int disk_create(struct disk *d, const char *name) {
    if (disk_find(d, name) >= 0)
        return -EEXIST;
    for (int i = 0; i < DISK_INODES; i++)
        if (d->inode[i] == NULL) {
            struct inode *x = spare_inode;
            if (x != NULL)
                memcpy(&spare_inode, &x->size, sizeof spare_inode);
            d->inode[i] = get(x, sizeof *x);
            memset(d->inode[i], 0, sizeof *d->inode[i]);
            d->inode[i]->refs = 1;
            change_names(d, "", name, i);
            return i;
        }
    return -ENOSPC;
}

int disk_rename(struct disk *d, const char *from, const char *to) {
    int inode = disk_find(d, from);
    if (inode < 0)
        return -ENOENT;
    if (disk_find(d, to) >= 0)
        return -EEXIST;
    change_names(d, from, to, inode);
    return 0;
}

int disk_unlink(struct disk *d, const char *name) {
    int inode = disk_find(d, name);
    if (inode < 0)
        return -ENOENT;
    change_names(d, name, "", -1);
    return 0;
}

void disk_sync_names(struct disk *d) {
    for (int i = 0; i < d->pending_count; i++)
        names_apply(&d->durable, &d->pending[i]);
    d->pending_count = 0;
    collect(d);
}

/* ---------------------------------------------------------------- contents */

uint64_t disk_used(const struct disk *d) {
    uint64_t n = 0;
    for (int i = 0; i < d->now.count; i++)
        n += d->inode[d->now.name[i].inode]->size;
    return n;
}

int disk_allocate(struct disk *d, int inode, uint64_t size) {
    struct inode *i = inode_own(&d->inode[inode]);
    if (size > DISK_PAGES * DISK_PAGE)
        return -EFBIG;
    if (size > i->size && disk_used(d) - i->size + size > d->space)
        return -ENOSPC;
    for (unsigned n = 0; n < size / DISK_PAGE; n++) {
        /* an honest file system would show zeros; this one shows stale bytes */
        struct page *p = d->stale[n % DISK_STALE];
        if (i->slot[n].now == NULL && p != NULL) {
            page_set(&i->slot[n].now, p);
            page_set(&i->slot[n].disk, p);
        }
    }
    i->size = size;
    return 0;
}

uint32_t disk_read(const struct disk *d, int inode, bool medium, void *data, uint32_t len,
                   uint64_t offset) {
    const struct inode *i = d->inode[inode];
    uint8_t *out = data;
    if (offset >= i->size)
        return 0;
    if (len > i->size - offset)
        len = (uint32_t)(i->size - offset);
    for (uint32_t done = 0; done < len;) {
        const struct slot *s = &i->slot[(offset + done) / DISK_PAGE];
        uint32_t in = (uint32_t)((offset + done) % DISK_PAGE), n = DISK_PAGE - in;
        if (n > len - done)
            n = len - done;
        const struct page *p = s->now;
        if (p != NULL)
            memcpy(out + done, p->data + in, n);
        else
            memset(out + done, 0, n);
        /* A direct read reads the medium, which differs from the cache after a failed sync. */
        for (uint32_t at = in; medium && s->now != s->disk && at < in + n; at += DISK_SECTOR) {
            if ((s->dirty >> at / DISK_SECTOR & 1) != 0)
                continue;
            if (s->disk != NULL)
                memcpy(out + done + (at - in), s->disk->data + at, DISK_SECTOR);
            else
                memset(out + done + (at - in), 0, DISK_SECTOR);
        }
        done += n;
    }
    return len;
}

void disk_write(struct disk *d, int inode, struct page *const *page, uint32_t len, uint64_t offset,
                bool durable) {
    struct inode *i = inode_own(&d->inode[inode]);
    if (offset + len > DISK_PAGES * DISK_PAGE)
        abort();
    if (disk_unreadable(d, inode, offset, len))
        d->bad_inode = -1; /* the device remaps the bad sector */
    for (uint32_t at = 0; at < len; at += DISK_SECTOR) {
        struct slot *s = &i->slot[(offset + at) / DISK_PAGE];
        unsigned sector = (unsigned)((offset + at) % DISK_PAGE / DISK_SECTOR);
        bool whole = sector == 0 && len - at >= DISK_PAGE;
        struct page *from = page[at / DISK_PAGE];
        if (whole) {
            page_set(&s->now, from);
            s->dirty = ALL_SECTORS;
            if (durable) {
                page_set(&s->disk, from);
                s->dirty = 0;
            }
            at += DISK_PAGE - DISK_SECTOR;
            continue;
        }
        sector_copy(&s->now, from, sector);
        s->dirty |= (uint8_t)(1u << sector);
        if (durable) {
            sector_copy(&s->disk, from, sector);
            s->dirty &= (uint8_t) ~(1u << sector);
        }
    }
    if (offset + len > i->size)
        i->size = offset + len;
    if (durable && i->disk_size < offset + len)
        i->disk_size = offset + len;
}

static void slot_to_disk(struct slot *s, const struct slot *covered) {
    for (unsigned n = 0; n < SECTORS; n++)
        if ((covered->dirty >> n & 1) != 0) {
            if (covered->dirty == ALL_SECTORS && n == 0 && s->now == covered->now) {
                page_set(&s->disk, s->now);
                s->dirty = 0;
                return;
            }
            sector_copy(&s->disk, covered->now, n);
            if (sector_same(s->now, covered->now, n))
                s->dirty &= (uint8_t) ~(1u << n);
        }
}

static void sync_from(struct disk *d, int inode, const struct inode *covers) {
    struct inode *i = inode_own(&d->inode[inode]);
    for (unsigned n = 0; n < DISK_PAGES; n++)
        if (covers->slot[n].dirty != 0)
            slot_to_disk(&i->slot[n], &covers->slot[n]);
    i->disk_size = covers->size;
}

void disk_sync(struct disk *d, int inode) {
    struct inode *covers = inode_share(d->inode[inode]);
    sync_from(d, inode, covers);
    inode_drop(covers);
}

void disk_sync_fails(struct disk *d, int inode) {
    struct inode *i = inode_own(&d->inode[inode]);
    for (unsigned n = 0; n < DISK_PAGES; n++)
        i->slot[n].dirty = 0;
}

void disk_drop_cache(struct disk *d, int inode) {
    for (unsigned n = 0; n < DISK_PAGES; n++) {
        const struct slot *s = &d->inode[inode]->slot[n];
        if (s->dirty == 0 && s->now != s->disk) {
            struct slot *own = &inode_own(&d->inode[inode])->slot[n];
            page_set(&own->now, own->disk);
        }
    }
}

/* ---------------------------------------------------------------- flights */

void disk_take_pages(struct page **page, const void *data, uint32_t len) {
    for (unsigned n = 0; n < DISK_PAGES; n++) {
        page[n] = NULL;
        if ((uint64_t)n * DISK_PAGE >= len)
            continue;
        uint32_t left = len - n * DISK_PAGE, size = left < DISK_PAGE ? left : DISK_PAGE;
        page[n] = page_new();
        memcpy(page[n]->data, (const uint8_t *)data + (size_t)n * DISK_PAGE, size);
        memset(page[n]->data + size, 0, DISK_PAGE - size);
    }
}

void disk_drop_pages(struct page **page) {
    for (unsigned n = 0; n < DISK_PAGES; n++) {
        page_drop(page[n]);
        page[n] = NULL;
    }
}

int disk_begin(struct disk *d, const struct flight *f) {
    for (int i = 0; i < DISK_FLIGHTS; i++)
        if (!d->flight[i].used) {
            d->flight[i] = *f;
            d->flight[i].used = true;
            d->flight[i].covers = f->sync ? inode_share(d->inode[f->inode]) : NULL;
            return i;
        }
    return -1;
}

void disk_end(struct disk *d, int flight, uint32_t done) {
    struct flight *f = &d->flight[flight];
    if (f->sync && done != 0)
        sync_from(d, f->inode, f->covers);
    else if (!f->sync && done != 0)
        disk_write(d, f->inode, f->page, done, f->offset, f->durable);
    flight_drop(f);
}

/* ---------------------------------------------------------------- the end of a run */

static void cut_sector(struct disk *d, struct slot *s, const struct page *fresh, unsigned sector,
                       enum disk_fate fate) {
    switch (fate) {
    case FATE_OLD:
        break;
    case FATE_NEW:
        sector_copy(&s->disk, fresh, sector);
        break;
    case FATE_ZERO:
        sector_copy(&s->disk, NULL, sector);
        break;
    case FATE_STALE:
        sector_copy(&s->disk, d->stale[(sector + d->stale_at) % DISK_STALE], sector);
        break;
    }
}

static void cut_inode(struct disk *d, struct inode **place, disk_fate_fn fate, void *arg) {
    const struct inode *before = *place;
    bool sized = before->size != before->disk_size;
    for (unsigned n = 0; n < DISK_PAGES; n++) {
        unsigned dirty = (*place)->slot[n].dirty;
        if (dirty == 0 && (*place)->slot[n].now == (*place)->slot[n].disk)
            continue;
        struct slot *s = &inode_own(place)->slot[n];
        for (unsigned k = 0; k < SECTORS; k++)
            if ((dirty >> k & 1) != 0 && !sector_same(s->now, s->disk, k))
                cut_sector(d, s, s->now, k, fate(arg, DISK_A_SECTOR));
        s->dirty = 0;
        page_set(&s->now, s->disk);
    }
    if (sized) {
        struct inode *i = inode_own(place);
        if (fate(arg, DISK_A_SIZE) == FATE_NEW)
            i->disk_size = i->size;
        i->size = i->disk_size;
    }
}

static void cut_flight(struct disk *d, struct flight *f, disk_fate_fn fate, void *arg) {
    if (!f->sync) {
        struct inode *i = inode_own(&d->inode[f->inode]);
        for (uint32_t at = 0; at < f->len; at += DISK_SECTOR) {
            struct slot *s = &i->slot[(f->offset + at) / DISK_PAGE];
            unsigned sector = (unsigned)((f->offset + at) % DISK_PAGE / DISK_SECTOR);
            if (!sector_same(s->disk, f->page[at / DISK_PAGE], sector))
                cut_sector(d, s, f->page[at / DISK_PAGE], sector, fate(arg, DISK_A_SECTOR));
        }
    }
    flight_drop(f);
}

void disk_cut(struct disk *d, disk_fate_fn fate, void *arg) {
    for (int i = 0; i < d->pending_count; i++)
        if (fate(arg, DISK_A_NAME) == FATE_NEW)
            names_apply(&d->durable, &d->pending[i]);
    d->pending_count = 0;
    d->now = d->durable;
    for (int i = 0; i < DISK_FLIGHTS; i++)
        if (d->flight[i].used)
            cut_flight(d, &d->flight[i], fate, arg);
    collect(d);
    for (int i = 0; i < DISK_INODES; i++)
        if (d->inode[i] != NULL)
            cut_inode(d, &d->inode[i], fate, arg);
    for (int i = 0; i < DISK_INODES; i++) /* flights changed `disk` only */
        for (unsigned n = 0; d->inode[i] != NULL && n < DISK_PAGES; n++)
            if (d->inode[i]->slot[n].now != d->inode[i]->slot[n].disk) {
                struct slot *s = &inode_own(&d->inode[i])->slot[n];
                page_set(&s->now, s->disk);
            }
}

/* A killed process's write is done or not. If it is done, it is in the cache, and perhaps on the
 * medium. */
static void kill_flight(struct disk *d, int flight, enum disk_fate fate) {
    struct flight *f = &d->flight[flight];
    if (fate == FATE_NEW)
        f->durable = false;
    disk_end(d, flight, fate == FATE_OLD ? 0 : f->sync ? 1 : f->len);
}

void disk_kill(struct disk *d, disk_fate_fn fate, void *arg) {
    for (int i = 0; i < DISK_FLIGHTS; i++)
        if (d->flight[i].used)
            kill_flight(d, i, fate(arg, DISK_A_SECTOR));
}

/* ---------------------------------------------------------------- damage */

void disk_flip(struct disk *d, int inode, uint64_t offset, uint8_t mask) {
    struct slot *s = &inode_own(&d->inode[inode])->slot[offset / DISK_PAGE];
    page_own(&s->disk)->data[offset % DISK_PAGE] ^= mask;
    page_set(&s->now, s->disk);
}

void disk_spoil(struct disk *d, int inode, uint64_t offset) {
    d->bad_inode = inode;
    d->bad_offset = offset / DISK_SECTOR * DISK_SECTOR;
}

bool disk_unreadable(const struct disk *d, int inode, uint64_t offset, uint64_t len) {
    return d->bad_inode == inode && offset < d->bad_offset + DISK_SECTOR &&
           d->bad_offset < offset + len;
}

void disk_misdirect(struct disk *d, int from, uint64_t from_offset, int to, uint64_t to_offset) {
    struct slot *t = &inode_own(&d->inode[to])->slot[to_offset / DISK_PAGE];
    const struct page *p = d->inode[from]->slot[from_offset / DISK_PAGE].disk;
    unsigned a = (unsigned)(from_offset % DISK_PAGE / DISK_SECTOR),
             b = (unsigned)(to_offset % DISK_PAGE / DISK_SECTOR);
    uint8_t sector[DISK_SECTOR] = {0};
    if (p != NULL)
        memcpy(sector, p->data + a * DISK_SECTOR, DISK_SECTOR);
    memcpy(page_own(&t->disk)->data + b * DISK_SECTOR, sector, DISK_SECTOR);
    page_set(&t->now, t->disk);
}
