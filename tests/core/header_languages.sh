#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# header_languages.sh - the public headers and their _INIT macros compile without a warning in C11
# and in C++17, by each compiler that is here, with the warnings that a careful user turns on.
set -euo pipefail
source_dir=${PAWL_SOURCE_DIR:?}
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
{
    echo '#include <pawl_connect.h>'
    echo '#include <pawl_time.h>'
    echo '#define USE(type, init) int use_##type(void); int use_##type(void) { \'
    echo '    type s = init; static type t = init; return s.struct_size == t.struct_size; }'
    # every _INIT macro, with the type that its sizeof() names
    cat "$source_dir"/include/*.h | tr '\n' ' ' |
        grep -oE '#define PAWL_[A-Z_]+_INIT [^}]*sizeof\([a-z_]+\)' |
        sed -E 's/#define (PAWL_[A-Z_]+_INIT) .*sizeof\(([a-z_]+)\)/USE(\2, \1)/'
} >"$work/user.c"
cp "$work/user.c" "$work/user.cc"
macros=$(grep -c '^USE(' "$work/user.c")
[ "$macros" -eq "$(cat "$source_dir"/include/*.h | grep -c '^#define PAWL_[A-Z_]*_INIT')" ] ||
    { echo "only $macros _INIT macros were found"; exit 1; }

warnings='-Wall -Wextra -Wpedantic -Wmissing-field-initializers -Wmissing-braces -Werror'
warnings+=' -fsyntax-only'
tried=0
try() { # try COMPILER STANDARD FILE
    command -v "$1" >/dev/null || return 0
    # shellcheck disable=SC2086
    "$1" "-std=$2" $warnings -I "$source_dir/include" "$work/$3"
    tried=$((tried + 1))
}
for compiler in cc gcc clang; do try "$compiler" c11 user.c; done
for compiler in c++ g++ clang++; do
    try "$compiler" c++17 user.cc
    try "$compiler" c++20 user.cc
done
[ "$tried" -gt 0 ] || { echo "SKIPPED: no compiler"; exit 77; }

# A dropped result that hides a loss is a warning.
printf '#include <pawl.h>\nvoid f(pawl *p);\nvoid f(pawl *p) { pawl_sync(p); }\n' >"$work/dropped.c"
if cc -std=c11 -Werror -c -o /dev/null -I "$source_dir/include" "$work/dropped.c" 2>"$work/said"; \
    then
    echo "the result of pawl_sync() can be dropped without a warning"
    exit 1
fi
grep -q 'unused-result' "$work/said"
echo "$macros macros, $tried compilers and standards"
