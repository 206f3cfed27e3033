#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The example of built-in processors in a program: each id comes out once, however often its line is
# sent, and although the program is killed with -9 on the way.
set -u
pawl=${1:-${PAWL_COMMAND:-}}
builtin=$(dirname "$pawl")/examples/builtin
[ -x "$pawl" ] && [ -x "$builtin" ] || {
    echo "SKIPPED: the command or the examples are not built"
    exit 77
}
work=$(mktemp -d) || exit 1
trap 'rm -rf -- "$work"' EXIT
bad() {
    echo "FAILED: $*"
    exit 1
}
cd "$work" || exit 1

seq 300 | sed 's|.*|GET /page/& id=&|' >lines
if "$builtin" log </dev/null 2>&1 | grep -q 'no regular expressions'; then
    echo "SKIPPED: built without PCRE2"
    exit 77
fi
printf 'not a request\nGET /a id=1\nGET /b id=1\n' | "$builtin" log >out || bad "the first run"
echo '{"id":"1","path":"/a","verb":"GET"}' | cmp - out || bad "the first output"
killed=0
for ((i = 0; i < 20; i++)); do
    "$builtin" log <lines >/dev/null 2>err &
    child=$!
    sleep "0.0$((RANDOM % 8 + 1))"
    kill -9 "$child" 2>/dev/null
    wait "$child" 2>/dev/null
    [ $? = 137 ] && killed=$((killed + 1))
done
"$builtin" log <lines >/dev/null || bad "the last run"
[ -z "$("$builtin" log <lines)" ] || bad "what came before came again"
"$pawl" cat log new | sed 's/{"id":"\([0-9]*\)".*/\1/' | sort -n | cmp - <(seq 300) || bad "the ids"
"$pawl" audit log >/dev/null || bad audit
echo "killed $killed times; each of 300 ids is there once"
