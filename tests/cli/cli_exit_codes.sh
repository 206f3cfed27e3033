#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Each wrong use of the command ends with the documented code (1 a problem found, 2 wrong usage, 3
# cannot open) and a message that names what is wrong and where; right use ends with 0. Standard
# output stays empty when it fails.
set -u
pawl=$1
dir=$(mktemp -d "${TMPDIR:-/tmp}/exits.XXXXXX")
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
wrong=0 tried=0

expect() { # expect CODE WORDS ARGUMENTS...: WORDS must be in what it says
    local code=$1 words=$2 got
    shift 2
    "$pawl" "$@" >out 2>err </dev/null
    got=$?
    tried=$((tried + 1))
    if [ "$got" -ne "$code" ] || { [ -n "$words" ] && ! grep -qF -- "$words" err; } ||
        { [ "$code" -gt 1 ] && [ -s out ]; }; then
        echo "pawl $*: ended with $got, not $code ($words): $(cat err)"
        wrong=$((wrong + 1))
    fi
}

expect 0 "" init a --segment-size 1M --disk-cap 64M
expect 0 "" init b --segment-size 64M --disk-cap 10G
expect 1 "a holds a log already" init a
expect 0 "" stream create a s
expect 0 "" stream create a p --partitions 4
expect 1 "'s' exists already in a" stream create a s
expect 0 "" stream create a going --partitions 2
expect 0 "" stream delete a going
expect 1 "there is no stream going" stream delete a going
expect 2 "delete takes DIR and NAME" stream delete a
expect 2 "--partitions goes with create" stream delete a s --partitions 2
expect 0 "" retention a --disk-cap 1G
expect 0 "" retention a --disk-cap 0
expect 2 "not 'much'" retention a --disk-cap much
printf 'one\ntwo' >file
expect 0 "ingested 2 records" ingest a s file
expect 0 "" cat a s
expect 0 "piped 2 records" pipe a --name n --from s --to p -- cat
expect 0 "" status a --json
expect 0 "" verify a
expect 0 "" audit a
expect 0 "" explain a s 1
expect 0 "" repair a
expect 0 "" dump a
expect 0 "" help cat

# Problems found
expect 1 "no stream 'nope' in a" cat a nope
expect 1 "no stream 'nope' in a" ingest a nope file
expect 1 "no stream 'nope' in a" pipe a --name n --from nope --to p -- cat
expect 1 "no stream 'nope' in a" explain a nope 0
expect 1 "no partition 4" cat a p --partition 4
expect 1 "no partition 4" explain a p 0 --partition 4
expect 1 "offset 3 is beyond the end" cat a s --from 3
expect 1 "no record at offset 2" explain a s 2
expect 1 "is beyond the end" dump a 99999999
expect 1 "cannot be run: No such file" pipe a --name m --from s --to p -- ./no-such-program
expect 1 "ended with status 7" pipe a --name m --from s --to p -- sh -c 'exit 7'
expect 1 "ended by signal 9" pipe a --name m --from s --to p -- sh -c 'kill -9 $$'

# A program that says "not now" is tried again, and that is said, once.
later='echo x >>tries; [ "$(wc -l <tries)" -gt 3 ] && exec cat; exit 75'
expect 0 "processor later waits, and tries again" \
    pipe a --name later --from s --to p -- sh -c "$later"
[ "$(wc -l <tries)" -ge 4 ] && [ "$(grep -c 'tries again' err)" -eq 1 ] || {
    echo "not once for $(wc -l <tries) tries: $(cat err)"
    wrong=$((wrong + 1))
}

# Wrong usage
expect 2 "which command"
expect 2 "no command 'foo'" foo
expect 2 "--foo" --foo
expect 2 "--foo" status a --foo
expect 2 "'b' is too much" status a b
expect 2 "missing" cat a
expect 2 "needs a value" cat a s --from
expect 2 "not '1000'" init c --segment-size 1000
expect 2 "not '8G'" init c --segment-size 8G
expect 2 "not '64m'" init c --segment-size 64m
expect 2 "at least four segments" init c --segment-size 2M --disk-cap 7M
expect 2 "not '1025'" stream create a q --partitions 1025
expect 2 "a stream name has" stream create a bad/name
expect 2 "a producer name has" ingest a s --producer 'bad name' file
expect 2 "a processor name has" pipe a --name 'bad name' --from s --to p -- cat
expect 2 "not 'x'" cat a s --partition x
expect 2 "not 'xml'" cat a s --format xml
expect 2 "--to is missing" pipe a --name n --from s -- cat
expect 2 "which program" pipe a --name n --from s --to p
expect 2 "same stream" pipe a --name n --from s --to s -- cat
expect 2 "not an LSN" dump a x
expect 2 "not 'maybe'" status a --backend maybe
expect 2 "at least 2M" status a --memory 1M

# What can't be opened
mkdir empty
for command in "status" "cat" "stream list" "processor list" "verify" "audit" "repair" "dump"; do
    # shellcheck disable=SC2086 # words
    case $command in
    cat) set -- cat DIR s ;;
    *) set -- $command DIR ;;
    esac
    expect 3 "missing is not a Pawl log: there is no such directory" "${@/DIR/missing}"
    expect 3 "file is not a Pawl log: it is not a directory" "${@/DIR/file}"
    expect 3 "holds no Pawl log" "${@/DIR/empty}"
done
expect 3 "make the directory above it first" init missing/below
expect 3 "it is not a directory" init file
expect 3 "cannot open none: No such file" ingest a s none
expect 3 "Is a directory" ingest a s empty

# A writer lives
mkfifo pipe
"$pawl" ingest a s --follow <pipe 2>/dev/null &
writer=$!
exec 3>pipe
until "$pawl" status a | grep -q "by process $writer"; do :; done
expect 3 "(pid $writer)" ingest a s file
expect 3 "(pid $writer)" repair a
expect 0 "" cat a s
exec 3>&-
wait "$writer" || wrong=$((wrong + 1))

echo "$tried uses, $wrong wrong"
[ "$wrong" -eq 0 ]
