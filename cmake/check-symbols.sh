#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# check-symbols.sh NAME LIBRARY [ARCHIVE] - shows that the public header (include/NAME.h, and
# pawl_state.h and pawl_time.h with pawl.h), the symbol map, what the shared library exports and the
# global names of the static one are the same list: nothing internal leaks out, and nothing that is
# promised is missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source_dir=$(dirname "$here")
name=$1 library=$2 archive=${3:-}
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export LC_ALL=C

headers=("$source_dir/include/$name.h")
[ "$name" != pawl ] || headers+=("$source_dir"/include/pawl_{state,time}.h)
for header in "${headers[@]}"; do "$here/public-symbols.sh" "$header"; done | sort >"$work/header"
sed -n '/global:/,/local:/s/^ *\([A-Za-z_][A-Za-z0-9_]*\);.*/\1/p' "$source_dir/lib$name.map" |
    sort >"$work/map"
nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
    sort >"$work/library"

declared=$(cat "${headers[@]}" | grep -c '^PAWL_API ')
found=$(wc -l <"$work/header")
if [ "$declared" -ne "$found" ]; then
    echo "include/$name.h has $declared lines with PAWL_API, but $found function names could be read from them"
    exit 1
fi

failed=0
compare() { # compare FILE NAME FILE NAME
    if ! diff -u --label "$2" --label "$4" "$1" "$3"; then
        failed=1
    fi
}
compare "$work/header" "include/$name.h" "$work/map" "lib$name.map"
compare "$work/map" "lib$name.map" "$work/library" "exported by $(basename "$library")"
if [ -n "$archive" ]; then
    nm -g --defined-only "$archive" | awk 'NF == 3 { print $3 }' | sort >"$work/archive"
    compare "$work/map" "lib$name.map" "$work/archive" "global in $(basename "$archive")"
fi
[ "$failed" -eq 0 ] && echo "$found functions: header, map and libraries agree"
exit "$failed"
