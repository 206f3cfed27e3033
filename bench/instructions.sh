#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# instructions.sh - counts the instructions per record with valgrind's callgrind. The count doesn't
# depend on what else the machine does. Each way is run twice, with N and with 3 N records; the
# difference, divided by 2 N, excludes the cost of opening and closing.
#
# Valgrind counts a "rep movsb" of n bytes as n instructions, and glibc uses it for copies from some
# 2 KiB up: a copy of 100 KB would count as 100,000, but the processor needs a few thousand moves.
# So glibc is told to copy with vectors, 32 bytes per instruction.
#
# usage: instructions.sh PROGRAM OUTPUT-DIRECTORY [WAY:BATCH:BYTES...]
#   leaves OUTPUT-DIRECTORY/instructions.json, and callgrind.WAY-BATCH-BYTES for callgrind_annotate
set -euo pipefail
export LC_ALL=C
program=$1
out=$2
shift 2
ways=("$@")
[ "${#ways[@]}" -gt 0 ] || ways=(step:1000:100 step:1000:1024 each:1000:100 run:1000:100 \
    async:1:100 commit:1:100)
mkdir -p "$out"
work=$(mktemp -d "$out/instructions.XXXXXX")
trap 'rm -rf -- "$work"' EXIT

export GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000

count() { # count WAY BATCH BYTES RECORDS PROFILE: instructions of one run
    rm -rf "$work/log"
    valgrind --tool=callgrind --callgrind-out-file="$5" --dump-instr=no "$program" "$1" "$4" "$2" \
        "$3" "$work/log" 2>"$work/said" ||
        { cat "$work/said" >&2; return 1; }
    sed -n 's/^totals: \([0-9]*\).*/\1/p; s/^summary: \([0-9]*\).*/\1/p' "$5" | head -n 1
}

costs() { # costs PROFILE: instructions and function, one per line
    callgrind_annotate --threshold=100 --auto=no "$1" 2>/dev/null | tr -d , |
        sed -nE 's/^ *([0-9]+) +\( *[0-9.]+%\) +([^ ]*):([^ []+).*/\1 \3/p'
}

functions() { # functions SHORT LONG RECORDS: the costliest, in instructions per record, as JSON
    { costs "$1" | sed 's/^/-/'; costs "$2"; } |
        awk -v n="$3" \
            '{ cost[$2] += $1 } END { for (f in cost) printf "%.2f %s\n", cost[f] / n, f }' |
            sort -rn | head -n 16 |
        awk '{ printf "%s{\"function\": \"%s\", \"instructions\": %s}", (NR > 1 ? ", " : ""), $2, $1 }'
}

{
    echo '{"unit": "instructions per record", "ways": ['
    comma=
    for one in "${ways[@]}"; do
        IFS=: read -r way batch bytes <<<"$one"
        profile=$out/callgrind.$way-$batch-$bytes
        n=$((batch * 50))
        [ "$batch" -gt 1 ] || n=5000
        [ "$way" != commit ] || n=300
        short=$(count "$way" "$batch" "$bytes" "$n" "$work/short")
        long=$(count "$way" "$batch" "$bytes" $((3 * n)) "$profile")
        each=$(((long - short) / (2 * n)))
        printf '%-8s batches of %-5s %5s B: %6d instructions a record\n' "$way" "$batch" "$bytes" \
            "$each" >&2
        printf \
            '%s{"way": "%s", "batch": %d, "bytes": %d, "instructions": %d,\n "functions": [%s]}' \
            "$comma" "$way" "$batch" "$bytes" "$each" \
                "$(functions "$work/short" "$profile" $((2 * n)))"
        comma=$',\n'
    done
    echo ']}'
} >"$work/json"
mv "$work/json" "$out/instructions.json"
