/* SPDX-License-Identifier: Apache-2.0
 *
 * tree.h - a YAML file as a tree of texts, lists and maps, each with its line, environment
 * variables filled in. What a configuration doesn't need is an error: anchors, aliases, tags, keys
 * that are no text, a key given twice.
 */
#ifndef PAWL_CLI_TREE_H
#define PAWL_CLI_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum yaml_kind { YAML_TEXT, YAML_LIST, YAML_MAP };

typedef struct tree_node tree_node;
struct tree_node {
    enum yaml_kind kind;
    uint32_t line;
    char *text; /* TEXT */
    bool empty; /* TEXT: nothing is written there, or null or ~ */
    char *key;  /* of a map's child; else NULL */
    uint32_t key_line;
    tree_node *children;
    size_t count;
};

typedef struct tree_error {
    uint32_t line; /* 0: unknown */
    char message[640];
} tree_error;

#define YAML_BYTES_MAX ((size_t)1 << 20)

/* Reads all documents of a file's content. 0, or -1 with the error. */
int tree_read(const char *bytes, size_t size, tree_node **documents, size_t *count,
              tree_error *err);
void tree_free(tree_node *documents, size_t count);
/* A map's child by key, or NULL. */
const tree_node *tree_get(const tree_node *map, const char *key);

/* expand.c: a copy of a scalar in which ${NAME} is the environment's variable, ${NAME:-TEXT} is
 * TEXT where the variable isn't set or is empty, ${credential:NAME} the file of that name in
 * CREDENTIALS_DIRECTORY, ${file:PATH} that file, and $${ is ${. The result is never read as YAML
 * again. NULL with *why and the line of the fault: no such variable, another form, no memory. */
#define TREE_WHY_MAX 500
char *tree_expand(const char *text, size_t *line, char why[TREE_WHY_MAX]);
/* Puts ${NAME} in place of each value of a variable that a file has used; `cut`: and dots in place
 * of a value's beginning, at the end of a text that was cut there. */
void tree_hide_variables(char *text, size_t size, bool cut);
/* The text is a secret: so are the variables whose values are in it. */
void tree_secret(const char *text);

#endif
