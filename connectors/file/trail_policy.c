/* SPDX-License-Identifier: Apache-2.0
 *
 * trail_policy.c - see trail_policy.h.
 */
#include "connectors/file/trail_policy.h"

#include <errno.h>

// clang-format off
static const struct file_case files[] = {
    {"unreadable", {NAME_ANY, BYTES_UNREAD, COPY_ANY, END_ANY}, FILE_WAIT,
     "nothing is concluded from what can't be read now (PAWL-15)"},
    {"copied-and-truncated", {NAME_ANY, BYTES_CHANGED, COPY_YES, END_ANY}, FILE_TO_COPY,
     "the copy has what was not read yet; what the file itself has now is new"},
    {"copied-and-emptied", {NAME_ANY, BYTES_EMPTYING, COPY_YES, END_ANY}, FILE_TO_COPY,
     "as copied-and-truncated, and nothing was written since"},
    {"truncated-after-copy", {NAME_FOLLOWED, BYTES_CHANGED, COPY_READ, END_ANY}, FILE_ANEW,
     "its copy is read, and is past the position: what the file itself has now is new"},
    {"being-rewritten", {NAME_ANY, BYTES_EMPTYING, COPY_ANY, END_ANY}, FILE_WAIT,
     "it is empty or has its old beginning: a copy over it may be under way"},
    {"truncated", {NAME_FOLLOWED, BYTES_CHANGED, COPY_NO, END_ANY}, FILE_AGAIN,
     "no file has the bytes before the position any more, so those after it are gone as well"},
    {"truncated-aside", {NAME_OTHER, BYTES_CHANGED, COPY_ANY, END_ANY}, FILE_AGAIN,
     "as truncated: what is written under the new name still belongs to the source"},
    {"truncated-unseen", {NAME_UNKNOWN, BYTES_CHANGED, COPY_ANY, END_ANY}, FILE_WAIT,
     "its copy may be in the directory that can't be looked at"},
    {"truncated-removed", {NAME_NONE, BYTES_CHANGED, COPY_ANY, END_ANY}, FILE_LOST,
     "it was truncated and has no name: nothing is left to read"},

    {"unseen", {NAME_UNKNOWN, BYTES_NONE, COPY_ANY, END_ANY}, FILE_WAIT,
     "the directory is away: so may its files be, for a while"},
    {"unseen-held", {NAME_UNKNOWN, BYTES_SAME, COPY_ANY, END_ANY}, FILE_READ,
     "it is open, so it can be read whatever has become of its directory"},

    {"followed", {NAME_FOLLOWED, BYTES_SAME, COPY_ANY, END_ANY}, FILE_READ,
     "the name leads to the file that was read"},
    {"renamed-read", {NAME_OTHER, BYTES_SAME, COPY_ANY, END_WAITED}, FILE_LET_GO,
     "its writer had its time to open the new file"},
    {"renamed", {NAME_OTHER, BYTES_SAME, COPY_ANY, END_ANY}, FILE_LINGER,
     "its writer may hold it for a while; the new file doesn't wait for that"},

    {"removed-read", {NAME_NONE, BYTES_SAME, COPY_ANY, END_WAITED}, FILE_LET_GO,
     "it was open and has been read to its end"},
    {"removed", {NAME_NONE, BYTES_SAME, COPY_ANY, END_ANY}, FILE_LINGER,
     "it is open: its bytes are there as long as it is"},

    {"restored", {NAME_NONE, BYTES_NONE, COPY_YES, END_ANY}, FILE_TO_COPY,
     "another file has these bytes before this offset: it was copied or restored"},
    {"gone-beside-copy", {NAME_NONE, BYTES_NONE, COPY_READ, END_ANY}, FILE_LET_GO,
     "its bytes are in a file that is read, and was read further"},
    {"gone-finished", {NAME_NONE, BYTES_NONE, COPY_NO, END_WAITED}, FILE_LET_GO,
     "it had been read to its end and let go before it went"},
    {"gone-read", {NAME_NONE, BYTES_NONE, COPY_NO, END_REACHED}, FILE_LET_GO,
     "it was at its end at the last look, a moment before it went"},
    {"gone", {NAME_NONE, BYTES_NONE, COPY_NO, END_ANY}, FILE_LOST,
     "nobody has the bytes after the position"},
};

static const struct new_case news[] = {
    {"not-ours", {NEW_OTHER, TWIN_ANY, TWIN_NAME_ANY, SETTLED_ANY}, NEW_SKIP,
     "its name doesn't belong to the source"},
    {"read-before", {NEW_OLDER, TWIN_ANY, TWIN_NAME_ANY, SETTLED_ANY}, NEW_SKIP,
     "rotated files before those that were read have been read, or came before the start"},
    {"new", {NEW_ANY, TWIN_NONE, TWIN_NAME_ANY, SETTLED_ANY}, NEW_BEGIN,
     "it begins otherwise than every file that was read"},
    {"empty", {NEW_ANY, TWIN_EMPTY, TWIN_NAME_ANY, SETTLED_NO}, NEW_LEAVE,
     "it may be a copy that is about to be written; so long it has no line to keep in order"},
    {"stays-empty", {NEW_ANY, TWIN_EMPTY, TWIN_NAME_ANY, SETTLED_YES}, NEW_BEGIN,
     "nobody writes a copy for so long: it is a new file"},

    {"copied-not-truncated", {NEW_ANY, TWIN_WHOLE, TWIN_COPIED, SETTLED_NO}, NEW_HOLD,
     "it has all that its rotated copy has: the truncation is still to come"},
    {"copied-and-kept", {NEW_ANY, TWIN_WHOLE, TWIN_COPIED, SETTLED_YES}, NEW_SHARE,
     "it was copied and not truncated: its lines come from the copy"},
    {"copied-and-begun-anew", {NEW_ANY, TWIN_ANY, TWIN_COPIED, SETTLED_ANY}, NEW_BEGIN,
     "its rotated copy has more, or other bytes: it was truncated since"},

    {"copy-in-its-place", {NEW_ANY, TWIN_WHOLE, TWIN_GONE, SETTLED_ANY}, NEW_COPY,
     "the file that was read has lost its name, and this one has all that was read of it"},
    {"copy-beside-backup", {NEW_ANY, TWIN_WHOLE, TWIN_ASIDE, SETTLED_ANY}, NEW_COPY,
     "an editor renamed the file to its backup's name and wrote a new one"},
    {"older-copy", {NEW_ANY, TWIN_PART, TWIN_GONE, SETTLED_ANY}, NEW_SHARE,
     "an older copy, with other lines after it: the lines that they share have come"},
    {"little-in-common", {NEW_ANY, TWIN_LITTLE, TWIN_GONE, SETTLED_ANY}, NEW_BEGIN_AGAIN,
     "equal headings prove nothing, so it is a new file; if it isn't, lines come twice"},
    {"copy-growing", {NEW_ANY, TWIN_GROWING, TWIN_GONE, SETTLED_NO}, NEW_HOLD,
     "it may be a copy that is still being written"},
    {"shorter-copy", {NEW_ANY, TWIN_GROWING, TWIN_GONE, SETTLED_YES}, NEW_SHARE,
     "an older or shorter copy: all of its lines have come"},

    {"editing", {NEW_ANY, TWIN_GROWING, TWIN_ASIDE, SETTLED_NO}, NEW_HOLD,
     "as copy-beside-backup, and it may still be being written"},
    {"editing-little", {NEW_ANY, TWIN_GROWING, TWIN_RENAMED, SETTLED_NO}, NEW_HOLD,
     "as editing: it has a heading only"},
    {"little-under-another-name", {NEW_ANY, TWIN_WHOLE, TWIN_RENAMED, SETTLED_ANY}, NEW_BEGIN_AGAIN,
     "it has all that was read of the renamed file, but too little to prove a copy"},
    {"heading-after-rotation", {NEW_ANY, TWIN_ANY, TWIN_RENAMED, SETTLED_ANY}, NEW_BEGIN,
     "a rotated file and the next one may begin with the same heading"},
    {"like-a-rotated-one", {NEW_ANY, TWIN_ANY, TWIN_ASIDE, SETTLED_ANY}, NEW_BEGIN,
     "the rotated file still exists; this is the next one"},

    {"maybe-copytruncate", {NEW_ANY, TWIN_WHOLE, TWIN_KEPT, SETTLED_NO}, NEW_HOLD,
     "a copy is made before the original is truncated: which of them goes on isn't known yet"},
    {"copying", {NEW_ANY, TWIN_GROWING, TWIN_KEPT, SETTLED_NO}, NEW_HOLD,
     "as maybe-copytruncate, and it is still being written"},
    {"backup", {NEW_ANY, TWIN_WHOLE, TWIN_KEPT, SETTLED_YES}, NEW_SHARE,
     "a copy called after the file that it was made from: its lines have come"},
    {"older-backup", {NEW_ANY, TWIN_GROWING, TWIN_KEPT, SETTLED_YES}, NEW_SHARE,
     "as backup, and the file has grown since"},
    {"same-heading", {NEW_ANY, TWIN_ANY, TWIN_KEPT, SETTLED_ANY}, NEW_BEGIN,
     "a rotated file that was not seen before, with an equal heading"},
    {"maybe-moving", {NEW_ANY, TWIN_WHOLE, TWIN_IN_PLACE, SETTLED_NO}, NEW_HOLD,
     "as maybe-copytruncate, under an unusual name"},
    {"maybe-copying", {NEW_ANY, TWIN_GROWING, TWIN_IN_PLACE, SETTLED_NO}, NEW_HOLD,
     "as maybe-moving, and it is still being written"},
    {"equal-file", {NEW_ANY, TWIN_ANY, TWIN_IN_PLACE, SETTLED_ANY}, NEW_BEGIN,
     "two files that both stay are two files, whatever they have in common"},
};

/* What isn't listed passes as well. */
static const struct {
    int error;
    enum error_kind kind;
} errors[] = {
    {ENOENT, ERROR_ABSENT},   {ENOTDIR, ERROR_ABSENT}, /* a part of the path isn't there */
    {EMFILE, ERROR_HANDLES},  {ENFILE, ERROR_HANDLES},
    {EACCES, ERROR_PASSES},   {EPERM, ERROR_PASSES}, /* 0600 for a moment */
    {ELOOP, ERROR_PASSES},    /* a link that is being switched */
    {ESTALE, ERROR_PASSES},   {ENOTCONN, ERROR_PASSES}, /* a network mount is away */
    {EIO, ERROR_PASSES},      {ENODEV, ERROR_PASSES},   {ENXIO, ERROR_PASSES},
    {EHOSTDOWN, ERROR_PASSES}, {EHOSTUNREACH, ERROR_PASSES}, {ETIMEDOUT, ERROR_PASSES},
    {ENOMEM, ERROR_PASSES},   {EBUSY, ERROR_PASSES},    {EAGAIN, ERROR_PASSES},
    {EINTR, ERROR_RACE},
};
// clang-format on

#define FITS(when, any, is) ((when) == (any) || (when) == (is))

const struct file_case *file_table(size_t *count) {
    *count = sizeof files / sizeof *files;
    return files;
}

const struct file_case *file_decide(const struct file_evidence *e) {
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const struct file_evidence *w = &files[i].when;
        if (FITS(w->name, NAME_ANY, e->name) && FITS(w->bytes, BYTES_ANY, e->bytes) &&
            FITS(w->copy, COPY_ANY, e->copy) && FITS(w->end, END_ANY, e->end))
            return &files[i];
    }
    return &files[0]; /* contradictory evidence (a name, and no bytes): nothing is concluded */
}

const struct new_case *new_table(size_t *count) {
    *count = sizeof news / sizeof *news;
    return news;
}

const struct new_case *new_decide(const struct new_evidence *e) {
    for (size_t i = 0; i < sizeof news / sizeof *news; i++) {
        const struct new_evidence *w = &news[i].when;
        if (FITS(w->name, NEW_ANY, e->name) && FITS(w->twin, TWIN_ANY, e->twin) &&
            FITS(w->of, TWIN_NAME_ANY, e->of) && FITS(w->settled, SETTLED_ANY, e->settled))
            return &news[i];
    }
    return &news[2]; /* no case is left: the last ones take any twin of each name */
}

enum error_kind error_kind_of(int error) {
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].error == error)
            return errors[i].kind;
    return ERROR_PASSES;
}
