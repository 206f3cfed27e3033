/* SPDX-License-Identifier: Apache-2.0
 *
 * Parses syslog messages: RFC 5424, and what RFC 3164 describes and devices really send. A field is
 * given only where the message's form leaves no doubt about it. What is not understood stays in the
 * text, unchanged, and `unparsed` says what is there:
 *
 *   "message"  there is no valid <PRI>: the text is the whole message
 *   "header"   after <PRI> there is no header that is known: the text is all that follows it
 *   "host"     after <PRI> and a time, it isn't certain what is host or program: the text is all
 *              that follows the time
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

/* The limit of all fields but the text together, in bytes. A message with more isn't understood. */
#define SYSLOG_FIELDS_MAX 32768u

struct syslog_message {
    int version;            /* 5424, 3164, or 0: neither; then the whole message is the text */
    int facility, severity; /* -1: there is none */
    int64_t time_ns;        /* 0: unknown (3164 has neither year nor zone) */
    const char *unparsed;   /* NULL: everything is understood. Static */
    const char *at[SYSLOG_FIELDS];
    size_t len[SYSLOG_FIELDS]; /* 0: missing */
};

/* Never fails. The pointers are into the message. LF, CR and NUL at its end are left out. */
void syslog_parse(const char *message, size_t n, struct syslog_message *out);

#endif
