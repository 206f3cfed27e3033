#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# man_pages.sh - shows that the public headers keep to the layout that manual pages are made from:
# every public function gets a page, every error named there exists, and mandoc finds nothing to
# warn of. First, headers with one fault each are refused.
set -uo pipefail
export LC_ALL=C
source_dir=${PAWL_SOURCE_DIR:-$(cd "$(dirname "$0")/.." && pwd)}
make_man=$source_dir/docs/make_man.py
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

skip() { echo "SKIPPED: $1"; exit 77; }
command -v python3 >/dev/null || skip "python3 is not installed"
command -v mandoc >/dev/null || skip "mandoc is not installed (Debian package: mandoc)"

# ---- planted headers

refused() { # refused COMMENT MESSAGE: a function under this comment
    printf '/* x - y */\n/* -------- s */\n%s\nPAWL_API int pawl_x(pawl *p);\n' "$1" >"$work/x.h"
    if python3 "$make_man" --check "$work/x.h" >"$work/out" 2>&1; then
        echo "not refused: $1"
        exit 1
    fi
    grep -qF "$2" "$work/out" || { echo "refused for another reason: $1"; cat "$work/out"; exit 1; }
}
accepted() { # accepted COMMENT
    printf '/* x - y */\n/* -------- s */\n%s\nPAWL_API int pawl_x(pawl *p);\n' "$1" >"$work/x.h"
    python3 "$make_man" --check "$work/x.h" || { echo "should be accepted: $1"; exit 1; }
}
accepted $'/* Does it.\n * Errors: IO, FULL (no room), and PAWL_BUSY. */' >/dev/null
accepted '/* Returns how many there are. */' >/dev/null
refused '/* Does it. Errors: IO. */' 'must begin a line of its own'
refused $'/* Does it.\n * Errors as pawl_y(). */' 'must begin a line of its own'
refused $'/* Does it.\n * Errors: IO.\n * Errors: FULL. */' 'must begin a line of its own'
refused $'/* Does it.\n * Errors: IO, NOFILE. */' 'NOFILE is not one of PAWL_ERRORS'
refused '/* Does it. */' 'has no line "Errors:"'
refused '' 'a function without a comment above it'

# ---- the real ones

python3 "$make_man" --output "$work/man3" || exit 1
missing=0 count=0
for header in pawl pawl_connect; do
    while read -r name; do
        count=$((count + 1))
        [ -e "$work/man3/$name.3" ] || { echo "no page of $name()"; missing=1; }
    done < <("$source_dir/cmake/public-symbols.sh" "$source_dir/include/$header.h")
done
[ "$missing" -eq 0 ] && [ "$count" -gt 80 ] || exit 1
find "$work/man3" -type f -print0 | xargs -0 mandoc -T lint -W warning || exit 1
echo "$count functions have their pages, $(find "$work/man3" -type f | wc -l) in all"
