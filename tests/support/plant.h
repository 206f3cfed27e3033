/* SPDX-License-Identifier: Apache-2.0
 *
 * plant.h - what another user can put under a name that Pawl opens or makes, and how to tell
 * afterwards that nothing was led astray. Include <cmocka.h> first.
 */
#ifndef TESTS_SUPPORT_PLANT_H
#define TESTS_SUPPORT_PLANT_H

#include <stdbool.h>
#include <sys/types.h>

enum plant_kind {
    PLANT_LINK,      /* a symbolic link to the victim, a file */
    PLANT_DANGLING,  /* a symbolic link to a name that isn't there */
    PLANT_LINK_DIR,  /* a symbolic link to a directory */
    PLANT_HARD_LINK, /* a second name of the victim */
    PLANT_PIPE,
    PLANT_SOCKET,
    PLANT_DEVICE, /* a full device: a write to it would fail. Needs root */
    PLANT_DIRECTORY,
    PLANT_OTHERS, /* a file of another user's, with bytes of his. Needs root */
    PLANT_KINDS
};
extern const char *const plant_names[PLANT_KINDS];

/* The ground: a directory beside the one under test, with the victim in it. */
struct plant {
    char ground[128];
    enum plant_kind kind;
    dev_t dev;
    ino_t ino; /* of what was planted */
};

/* Makes the ground. */
void plant_begin(struct plant *p, const char *ground);
/* Plants under the path. False: this user can't make this kind. */
bool plant_put(struct plant *p, enum plant_kind kind, const char *path);
/* Fails if the victim has changed, or something was made where the links lead to; or if the plant
 * isn't in the directory any more, under any name (NULL: it may be gone). */
void plant_judge(const struct plant *p, const char *directory, const char *when);
/* Is it the plant? */
bool plant_is(const struct plant *p, const char *path);
/* Removes the ground. */
void plant_end(const struct plant *p);

#endif
