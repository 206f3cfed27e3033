/* SPDX-License-Identifier: Apache-2.0
 *
 * Records as bytes, for targets that are files, pipes or programs:
 *   text    the value and a newline
 *   json    {"offset":N,"partition":N,"timestamp":NS,"key":...,"value":...,"headers":[...]} and a
 *           newline, as `pawl cat --format json` writes it: bytes that are not UTF-8 become
 *           "value_base64" and so on
 *   length  the value's length (4 bytes, little-endian) and the value
 */
#ifndef PAWL_CONNECTORS_ENCODE_H
#define PAWL_CONNECTORS_ENCODE_H

#include "connectors/runtime/connect.h"
#include "connectors/text/buffer.h"

enum encode_format { ENCODE_TEXT = 0, ENCODE_JSON = 1, ENCODE_LENGTH = 2 };
#define ENCODE_FORMATS "text|json|length"

/* How the text format treats a newline within a value. */
enum encode_newline {
    NEWLINE_KEEP = 0,   /* the value becomes several lines */
    NEWLINE_ESCAPE = 1, /* \n for a newline, \\ for a backslash */
    NEWLINE_REFUSE = 2  /* poison */
};
#define ENCODE_NEWLINES "keep|escape|refuse"

struct encoding {
    int format, newline;
};

/* The settings of an encoding, for a connector's list. */
#define ENCODE_SETTINGS \
    {"format", \
     PAWL_SETTING_CHOICE, \
     0, \
     ENCODE_FORMATS, \
     "text", \
     "text: the value and a newline; json: a JSON object a line; length: 4 bytes of length, then " \
     "the value"}, \
    { \
        "newline", PAWL_SETTING_CHOICE, 0, ENCODE_NEWLINES, "keep", \
            "text, for a value with a newline in it: keep it, escape it (and backslashes), or " \
            "refuse the record" \
    }
void encode_settings(const pawl_connector *c, const pawl_settings *s, struct encoding *out);

/* Appends the record. DONE; POISON (with its offset); RETRY: no memory. Unless it returns DONE the
 * buffer is unchanged. */
int encode_record(struct buffer *b, const struct encoding *e, const pawl_record *r, pawl_fault *f);

#endif
