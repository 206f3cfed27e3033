#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# demo.sh PAWL EXAMPLES [LOGFILE] - what `./dev demo` runs. PAWL is the command, EXAMPLES the
# directory of the built examples.
#
# Ingests an SSH server's log and sorts it with a two-stage topology. Meanwhile every program is
# killed with -9 again and again at random moments. At the end the log is audited, and every output
# is compared, line by line, with the result of grep and sort.
set -u
export LC_ALL=C

[ $# -ge 2 ] || { echo "usage: demo.sh PAWL EXAMPLES [LOGFILE]" >&2; exit 2; }
pawl=$(realpath "$1") failed_logins=$(realpath "$2")/failed_logins
root=$(cd "$(dirname "$0")/.." && pwd)
for program in "$pawl" "$failed_logins"; do
    [ -x "$program" ] || { echo "demo: $program is not there; build first" >&2; exit 3; }
done

work=$(mktemp -d "${TMPDIR:-/tmp}/pawl-demo.XXXXXX") || exit 1
victim=
clean_up() {
    [ -n "$victim" ] && kill -9 "$victim" 2>/dev/null
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
data=$work/log first=$work/first second=$work/second input=$work/input
say() { printf '%s\n' "$*"; }
fail() { say "demo: $*"; say "exactly once: NO"; exit 1; }

# ---- the input

generate() {
    awk 'BEGIN { srand(7); split("root admin test oracle guest", user, " ");
        for (i = 0; i < 2000; i++) {
            who = user[1 + int(rand() * 5)]; from = "203.0.113." int(rand() * 40); port = 1024 + int(rand() * 60000)
            when = sprintf("Dec 10 %02d:%02d:%02d host sshd[%d]:", i / 3600, i / 60 % 60, i % 60, 2000 + i / 4)
            if (i % 4 == 0) print when, "Invalid user", who, "from", from
            else if (i % 4 == 3) print when, "Connection closed by", from, "[preauth]"
            else print when, "Failed password for", who, "from", from, "port", port, "ssh2"
        } }'
}

# Prints the name of a log that has failed logins, or nothing: without them the demo shows little.
choose_log() {
    local candidate
    for candidate in "$@"; do
        [ -f "$candidate" ] && [ -r "$candidate" ] &&
            [ "$(head -n 500 "$candidate" | wc -l)" -ge 500 ] || continue
        grep -aq 'Failed password' "$candidate" && { echo "$candidate"; return; }
    done
}

if [ $# -gt 2 ] && ! { [ -f "$3" ] && [ -r "$3" ]; }; then
    echo "demo: $3 is no file that can be read" >&2
    exit 2
fi
source=${3:-$(realpath -m "$root/../shared/data/OpenSSH_2k.log")}
[ -r "$source" ] || source=$(choose_log /var/log/*.log)
if [ -n "$source" ]; then
    # at most 4 MB, without an empty last line
    { head -c 4000000 "$source"; echo; } | sed '$ { /^$/d }' >"$work/one"
else
    source="a generated log"
    generate >"$work/one"
fi
one_lines=$(wc -l <"$work/one")
copies=$((${DEMO_LINES:-200000} / one_lines + 2))
append_copies() { local i; for ((i = 0; i < $2; i++)); do cat "$work/one"; done >>"$1"; }
append_copies "$first" $((copies * 6 / 10))
append_copies "$second" $((copies * 4 / 10 + 1))
say "input: $source, $one_lines lines, repeated to $(cat "$first" "$second" | wc -l) lines, and more whenever a run is too quick to be killed"

# ---- running under kill -9

kills=0 recoveries=0 slowest=0 crashed=0
"$pawl" init "$data" || fail "pawl init failed"
"$pawl" stream create "$data" lines || fail "pawl stream create failed"

# Reads how long opening the log took, from the message that the process wrote at its start.
note_recovery() {
    recovered=
    ((crashed)) || return
    recovered=$(sed -n 's/.*recovered in \([0-9.]*\) ms.*/\1/p' "$work/messages" | head -n 1)
    [ -n "$recovered" ] || return
    recoveries=$((recoveries + 1))
    slowest=$(printf '%s\n%s\n' "$slowest" "$recovered" | sort -g | tail -n 1)
}

# Runs a program until it has finished after at least `want` kills. If it finishes sooner, its input
# grows and it is run again.
killed_on_the_way() { # want, input file, name, program and arguments...
    local want=$1 file=$2 name=$3 killed=0 limit=60 delay status
    shift 3
    for ((;;)); do
        "$@" >/dev/null 2>"$work/messages" &
        victim=$!
        if ((killed < want)); then
            delay=$((RANDOM % limit + 1))
            sleep "$(printf '0.%03d' "$delay")"
            kill -9 "$victim" 2>/dev/null
        fi
        wait "$victim" 2>/dev/null
        status=$?
        victim=
        note_recovery
        case $status in
        137)
            killed=$((killed + 1)) kills=$((kills + 1)) crashed=1
            say "kill -9 no. $kills: $name after $delay ms${recovered:+ (it had reopened the log in $recovered ms)}"
            ((limit = limit < 700 ? limit * 4 / 3 : limit)) # each run gets further
            ;;
        0)
            crashed=0
            ((killed >= want)) && return
            # it ended before the kill: append to its input, as a growing log file would
            append_copies "$file" 10
            ((limit = limit > 8 ? limit * 2 / 3 : limit))
            (($(wc -l <"$file") < 5000000)) ||
                fail "$name can't be caught: it always ends before it is killed"
            ;;
        *)
            cat "$work/messages"
            fail "$name ended with status $status"
            ;;
        esac
    done
}

killed_on_the_way $((3 + RANDOM % 3)) "$first" "pawl ingest" "$pawl" ingest "$data" lines \
    --producer sshd "$first"
say "ingested:     $(tail -n 1 "$work/messages")"
killed_on_the_way $((4 + RANDOM % 3)) "$second" failed_logins "$failed_logins" "$data" "$second"
say "processed:    killed $kills times in all, reopened after a crash $recoveries times, slowest ${slowest} ms"

# ---- check the log

"$pawl" verify "$data" || fail "pawl verify found problems"
"$pawl" audit "$data" || fail "pawl audit found problems"

# ---- compare with grep and sort

pattern='Failed password.* from [^ ]'
cat "$first" "$second" >"$input"
grep -a -e "$pattern" "$input" >"$work/want-failed"
grep -av -e "$pattern" "$input" >"$work/want-rest"
sed 's/.*Failed password.* from \([^ ][^ ]*\).*/\1/' "$work/want-failed" >"$work/addresses"
cp "$work/addresses" "$work/want-by-address"

same() { # what, wanted, got
    cmp -s "$2" "$3" || { diff -a "$2" "$3" |
        head -n 5; fail "$1: differs from what grep and sort say"; }
    say "$(printf '%-44s %9d lines agree' "$1" "$(wc -l <"$3")")"
}
out() { "$pawl" cat "$data" "$@" || fail "pawl cat $* failed"; }

out lines >"$work/got" && same "lines, in order" "$input" "$work/got"
out rest >"$work/got" && same "rest, in order" "$work/want-rest" "$work/got"
for stream in failed by-address; do
    out "$stream" | sort >"$work/got"
    sort "$work/want-$stream" >"$work/want"
    same "$stream, sorted" "$work/want" "$work/got"
done

# A partition keeps the order of the input: compare it with the wanted lines whose address is in it.
for ((p = 0; p < 4; p++)); do
    out by-address --partition $p >"$work/got"
    sort -u "$work/got" >"$work/here"
    awk 'NR == FNR { here[$0]; next } $0 in here' "$work/here" "$work/want-by-address" >"$work/want"
    same "by-address, partition $p, in order" "$work/want" "$work/got"
    paste -d '\t' "$work/addresses" "$work/want-failed" |
        awk -F '\t' 'NR == FNR { here[$0]; next } $1 in here' "$work/here" - |
            cut -f 2- >"$work/want"
    out failed --partition $p >"$work/got"
    same "failed, partition $p, in order" "$work/want" "$work/got"
done

say "most failures: $(sort "$work/addresses" | uniq -c | sort -rn | head -n 3 | awk '{ printf "%s%s from %s", sep, $1, $2; sep = ", " }')"
say "killed with -9 $kills times; reopened after a crash $recoveries times, in $slowest ms at most"
say "exactly once: ok"
