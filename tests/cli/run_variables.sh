#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Environment variables, units and the file's own form (BOM, CRLF, tabs) in a pipeline's file: a
# table of what is taken and what is refused, with its line.
set -u
pawl=$(realpath "${1:-${PAWL_COMMAND:-}}")
[ -x "$pawl" ] || { echo "SKIPPED: no command pawl"; exit 77; }
work=$(mktemp -d) || exit 1
trap 'rm -rf -- "$work"' EXIT
cd "$work" || exit 1
failed=0 tried=0
fault() { echo "FAILED: $*"; cat out err; failed=1; }

rest='streams: [a]\nsinks: {s: {type: file, from: a, directory: d}}\n'
# takes LABEL VALUE-OF-DIRECTORY WANTED: the log's directory is WANTED
takes() {
    tried=$((tried + 1))
    printf "$rest""log:\n  directory: %b\n" "$2" >p.yaml
    "$pawl" check p.yaml >out 2>err && grep -qF "  log $3: segments" out || fault "$1"
}
# refuses LABEL VALUE WANTED-MESSAGE
refuses() {
    tried=$((tried + 1))
    printf "$rest""log:\n  directory: %b\n" "$2" >p.yaml
    if "$pawl" check p.yaml >out 2>err; then fault "$1 was taken"
    else grep -qF -- "$3" err || fault "$1: wanted $3"; fi
}
export HOME_OF_LOG=/var/x EMPTY='' TRICKY='a, b: [c] # "d"' NESTED='${HOME_OF_LOG}' A1_b=ok
unset NOT_SET
takes 'a variable' '${HOME_OF_LOG}' /var/x
takes 'in the middle' 'l-${A1_b}-m' l-ok-m
takes 'twice' '${A1_b}${A1_b}' okok
takes 'in double quotes' '"${HOME_OF_LOG}/l"' /var/x/l
takes 'in single quotes' "'\${HOME_OF_LOG}/l'" /var/x/l
takes 'in a block' '|-\n    ${HOME_OF_LOG}/b' /var/x/b
takes 'a default that is not needed' '${HOME_OF_LOG:-no}' /var/x
takes 'a default for what is not set' '${NOT_SET:-deflt}' deflt
takes 'a default for what is empty' '${EMPTY:-deflt}' deflt
takes 'a default with a colon and a dash' '"${NOT_SET:-a:-b}"' a:-b
takes 'an empty default' 'l${NOT_SET:-}' l
takes 'a value that looks like YAML' '${TRICKY}' "$TRICKY"
takes 'a value that looks like a variable' '${NESTED}' '${HOME_OF_LOG}'
takes 'the escape' 'a$${A1_b}' 'a${A1_b}'
takes 'a lone dollar' 'a$b' 'a$b'
takes 'two dollars' 'a$$b' 'a$$b'
takes 'a dollar at the end' 'a$' 'a$'
takes 'a path in JSON' '"$.a{b}"' '$.a{b}'
refuses 'not set' '${NOT_SET}' 'p.yaml:4: the environment has no variable NOT_SET'
refuses 'not set, in a later line' '|-\n    a\n    ${NOT_SET}' 'p.yaml:6: the environment'
refuses 'no end' '"${HOME_OF_LOG"' 'p.yaml:4: a ${ without its }'
refuses 'no name' '"${}"' 'p.yaml:4: "${}" is not ${NAME}'
refuses 'a digit first' '"${1A}"' 'is not ${NAME}'
refuses 'another operator' '"${A1_b:+x}"' 'is not ${NAME}'
refuses 'a dash alone' '"${A1_b-x}"' 'is not ${NAME}'
refuses 'a blank' '"${A1_b }"' 'is not ${NAME}'
refuses 'nested' '"${NOT_SET:-${A1_b}}"' 'has a ${ in it'
refuses 'not a letter of ASCII' '"${ÄÖ}"' 'is not ${NAME}'
refuses 'empty' '${EMPTY}' 'directory is empty'
export STARTS=empty-handed
refuses 'what only looks like a cut value' '${EMPTY}\nname: ${STARTS}' 'directory is empty'
refuses 'yes for a truth' 'l\n  create: yes' 'p.yaml:5: create must be true or false, not "yes"'
refuses 'off for a truth' 'l\n  create: off' 'create must be true or false'
refuses 'octal' 'l\n  memory: 010M' 'p.yaml:5: memory must be a size'
refuses 'hexadecimal' 'l\n  memory: 0x10M' 'memory must be a size'
refuses 'underscores' 'l\n  memory: 1_000M' 'memory must be a size'
refuses 'a fraction' 'l\n  memory: 1.5G' 'memory must be a size'
refuses 'a sign' 'l\n  memory: -5M' 'memory must be a size'
refuses 'sexagesimal' 'l\n  retention: {age: "1:30"}' 'p.yaml:5: retention.age must be a time'
refuses 'an anchor' '&x l' 'anchors have no meaning'
refuses 'an alias' '*x' 'p.yaml:4: '
refuses 'a merge key' 'l\n  <<: *x' 'p.yaml:5: '
refuses 'a tab' 'l\n\tmemory: 4M' 'p.yaml:5: a tab where YAML takes spaces only'

# ages UNIT-TEXT WANTED, sizes alike: the same text for the file and for an option
age() {
    tried=$((tried + 1))
    printf "$rest""log: {directory: l, retention: {age: %s}}\n" "$1" >p.yaml
    "$pawl" check p.yaml >out 2>err && grep -qF "it is older than $2" out || fault "age $1"
    "$pawl" retention log --age "$1" >out 2>err && grep -q "^age  *$2\$" out || fault "--age $1"
}
size() {
    tried=$((tried + 1))
    printf "$rest""log: {directory: l, memory: %s}\n" "$1" >p.yaml
    "$pawl" check p.yaml >out 2>err && grep -qF "at most $2 in memory" out || fault "size $1"
    "$pawl" retention log --bytes "$1" >out 2>err && grep -q "^bytes  *$2\$" out ||
        fault "--bytes $1"
}
"$pawl" init log --segment-size 1M >out 2>err || fault init
while read -r text wanted; do age "$text" "$wanted"; done <<'T'
1500ms 1500ms
90 90s
90s 90s
5m 300s
36h 36h
7d 7d
2w 14d
T
while read -r text wanted; do size "$text" "$wanted"; done <<'T'
4194304 4 MiB
4194304B 4 MiB
4096k 4 MiB
4096K 4 MiB
64M 64 MiB
64MB 64 MiB
64MiB 64 MiB
2G 2 GiB
1T 1 TiB
1TiB 1 TiB
T
for wrong in 7D 2weeks 1y '' 1.5d '7 d' 07d 99999999999999999999 m; do
    tried=$((tried + 1))
    "$pawl" retention log --age "$wrong" >out 2>err && fault "--age '$wrong' was taken"
done
for wrong in 64m 1KB3 1BB 1iB '' 0x10 1P 64Mi 99999999999T; do
    tried=$((tried + 1))
    "$pawl" retention log --bytes "$wrong" >out 2>err && fault "--bytes '$wrong' was taken"
done

# The file's own form.
good='log: {directory: l}\nstreams: [a]\nsinks:\n  s: {type: file, from: a, directory: d}\n'
printf '\xEF\xBB\xBF%b' "$good" >p.yaml
"$pawl" check p.yaml >out 2>err || fault "a BOM"
printf '\xEF\xBB\xBF---\n%b' "$good" >p.yaml
"$pawl" check p.yaml >out 2>err || fault "a BOM and a document's start"
printf "%b" "$good" | sed 's/$/\r/' >p.yaml
"$pawl" check p.yaml >out 2>err && grep -q '  log l:' out || fault "CRLF"
printf "%b" "$good" | iconv -t UTF-16 >p.yaml
"$pawl" check p.yaml >out 2>err && fault "UTF-16 was taken"
grep -q 'the file is UTF-16' err || fault "UTF-16"
printf '%b# a comment with a\ttab\n' "$good" >p.yaml
"$pawl" check p.yaml >out 2>err || fault "a tab in a comment"
tried=$((tried + 5))
[ "$failed" -eq 0 ] && echo "$tried cases"
exit "$failed"
