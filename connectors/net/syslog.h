/* SPDX-License-Identifier: Apache-2.0
 *
 * Parses syslog messages: RFC 5424, and what RFC 3164 describes.
 */
#ifndef PAWL_CONNECTORS_SYSLOG_H
#define PAWL_CONNECTORS_SYSLOG_H

#include <stddef.h>
#include <stdint.h>

enum syslog_field {
    SYSLOG_TIME, /* as written */
    SYSLOG_HOST,
    SYSLOG_APP,
    SYSLOG_PROCID,
    SYSLOG_MSGID,
    SYSLOG_DATA, /* structured data, as written */
    SYSLOG_TEXT,
    SYSLOG_FIELDS
};

struct syslog_message {
    int version; /* 5424, 3164, or 0: neither; then the whole message is the text */
    int facility, severity;
    int64_t time_ns; /* 0: unknown (3164 has no year) */
    const char *at[SYSLOG_FIELDS];
    size_t len[SYSLOG_FIELDS]; /* 0: missing */
};

/* Never fails. The pointers are into the message. */
void syslog_parse(const char *message, size_t n, struct syslog_message *out);

#endif
