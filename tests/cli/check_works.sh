#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Pipelines that are well formed and can't work: `pawl check` says so beforehand. A table of
# labelled cases; each also has a twin that is well, so that a rule that refuses everything is seen.
set -u
pawl=$(realpath "${1:-${PAWL_COMMAND:-}}")
[ -x "$pawl" ] || { echo "SKIPPED: no command pawl"; exit 77; }
work=$(mktemp -d) || exit 1
trap 'rm -rf -- "$work"' EXIT
cd "$work" || exit 1
shopt -s lastpipe # expect() counts in this shell
failed=0 tried=0
fault() { echo "FAILED: $*"; cat err; failed=1; }

# Sets of lines, which the cases put together.
log='log: {directory: log, segment_size: 1M'
file() { printf '  %s: {type: file, path: %s, to: %s%s}\n' "$1" "$2" "$3" "${4:-}"; }
dir() { printf '  %s: {type: dir, path: %s, to: %s%s}\n' "$1" "$2" "$3" "${4:-}"; }
out() { printf '  %s: {type: file, from: %s, directory: %s%s}\n' "$1" "$2" "$3" "${4:-}"; }
pipeline() { # LOG-SETTINGS SOURCES SINKS
    printf '%s%s}\nstreams: [a, b]\n' "$log" "$1"
    [ -n "$2" ] && printf 'sources:\n%s\n' "$2"
    [ -n "$3" ] && printf 'sinks:\n%s\n' "$3"
}
# expect KIND LABEL WANTED: KIND is error (exit code 1), remark (0, said) or well (0, not said);
# the pipeline comes from standard input
expect() {
    cat >p.yaml
    tried=$((tried + 1))
    "$pawl" check p.yaml >told 2>err
    local code=$?
    case $1 in
    error) [ "$code" = 1 ] && grep -v remark: err | grep -qF -- "$3" || fault "$2" ;;
    remark) [ "$code" = 0 ] && grep remark: err | grep -qF -- "$3" || fault "$2" ;;
    well) [ "$code" = 0 ] && ! grep -qF -- "$3" err || fault "$2" ;;
    esac
    [ ! -e log ] || fault "$2: check made the log"
}
sink=$(out s a there)

# ---- space
pipeline ', disk_cap: 8M' '' "$sink" |
    expect remark 'a cap that nothing frees' 'nothing frees space'
pipeline ', disk_cap: 8M, retention: {}' '' "$sink" |
    expect remark 'an empty retention' 'nothing frees space'
pipeline ', disk_cap: 8M, retention: {bytes: 4M}' '' "$sink" |
    expect well 'a cap and a limit' 'frees'
pipeline ', disk_cap: 8M, retention: {age: 1h}' '' "$sink" | expect well 'a cap and an age' 'frees'
pipeline ', disk_cap: 8M, retention: {consumed: true}' '' "$sink" |
    expect well 'a cap, consumed' 'frees'
pipeline ', disk_cap: 8M, retention: {bytes: 7M}' '' "$sink" |
    expect remark 'a limit just below the cap' 'less than two segments'
pipeline '' '' "$sink" | expect well 'no cap' 'frees'
pipeline ', retention: {consumed: true}' "$(file f x a)" '' |
    expect error 'consumed, nobody reads' 'it would drop everything'
pipeline ', retention: {bytes: 4M}' "$(file f x a)" '' |
    expect well 'a limit, nobody reads' 'drop everything'
pipeline ', retention: {consumed: true}' "$(file f x b)" "$sink" |
    expect remark 'consumed, one stream unread' 'nothing here reads the stream "b"'
pipeline ', retention: {consumed: true}' '' "$(out s '[a, b]' there)" |
    expect well 'consumed, all are read' 'nothing here reads'

# ---- line_max: the limit of 1M segments is 262144 - 80 - 4096 - 16
joined=', line_max: 100k, multiline: {continue: "^ ", max_bytes: 300k}'
pipeline '' "$(file f x a "$joined")" "$sink" |
    expect error 'joined lines longer than the log takes' 'multiline.max_bytes is 307200 bytes'
pipeline '' "$(file f x a ', line_max: 100k, format: cri')" "$sink" |
    expect remark 'the default of joined lines' 'multiline.max_bytes is 1048576 bytes'
pipeline '' "$(file f x a ', line_max: 100k, multiline: {max_bytes: 300k}')" "$sink" |
    expect well 'nothing is joined' 'multiline'
pipeline '' "$(file f x a ', line_max: 300k')" "$sink" |
    expect error 'longer than the log takes' 'p.yaml:4: "f": line_max is 307200 bytes'
pipeline '' "$(file f x a ', line_max: 257953')" "$sink" |
    expect error 'a byte too long' 'takes records of at most 257952'
pipeline '' "$(file f x a ', line_max: 257952')" "$sink" | expect well 'just as long' 'line_max'
pipeline '' "$(file f x a)" "$sink" |
    expect remark 'the default is too long' 'more than 257952 bytes'
for type in syslog socket; do
    pipeline '' "  f: {type: $type, address: '1', to: a, line_max: 400k}" "$sink" |
        expect error "$type" 'line_max is 409600'
done
json="  f: {type: syslog, address: '1', to: a, format: json"
pipeline '' "$json, line_max: 64k}" "$sink" | expect error 'JSON' 'may become 393472 bytes of JSON'
pipeline '' "$json}" "$sink" | expect remark 'JSON, the default' 'may become 393472 bytes'
pipeline '' "$json, line_max: 40k}" "$sink" | expect well 'JSON that fits' 'may become'
pipeline '' "  f: {type: syslog, address: '1', to: a}" "$sink" >q.yaml
"$pawl" check q.yaml | grep -qF 'is passed over' || fault 'a stranger stops the pipeline'

# A log keeps the segment size that it was made with: what it can't take is told at the start.
pipeline '' "$(file f x a)" '  s: {type: stdout, from: a}' >p.yaml
: >x
"$pawl" run p.yaml --until-idle >told 2>err || fault 'a log is made'
pipeline '' "$(file f x a ', line_max: 300k')" '  s: {type: stdout, from: a}' | sed 's/segment_size: 1M/segment_size: 64M/' \
    >p.yaml
tried=$((tried + 1))
"$pawl" check p.yaml >told 2>err || fault 'a log that would be made'
"$pawl" run p.yaml --until-idle >told 2>err && fault 'a log that is smaller than it says'
grep -qF 'line_max is 307200 bytes' err || fault 'a log that is smaller, the message'
rm -rf log x

# ---- names of producers
socket="  a: {type: socket, address: '1', to: a}"
pipeline '' "$socket$(printf '\n'; file a.b y a)" "$sink" |
    expect error 'a source within one of senders' 'could share producers'
pipeline '' "$(file a.b y a; echo; echo "$socket")" "$sink" |
    expect error 'the other way about' 'could share producers'
pipeline '' "$(file ab y a; echo; echo "$socket")" "$sink" |
    expect well 'names that begin alike' 'share producers'

# ---- what is written comes back
mkdir watched && ln -s watched link && mkdir -p deep/er
pipeline '' "$(dir d watched a)" "$(out s a watched)" |
    expect error 'into a watched directory' 'come back for ever'
pipeline '' "$(dir d watched a)" "$(out s a ./deep/../watched/)" |
    expect error 'through ..' 'come back for ever'
pipeline '' "$(dir d "$PWD/watched" a)" "$(out s a watched)" |
    expect error 'absolute' 'come back for ever'
pipeline '' "$(dir d watched a)" "$(out s a link)" |
    expect error 'through a link of the sink' 'come back for ever'
pipeline '' "$(dir d link a)" "$(out s a watched)" |
    expect error 'through a link of the source' 'come back for ever'
pipeline '' "$(dir d not-yet a)" "$(out s a deep/../not-yet)" |
    expect error 'not there yet' 'come back for ever'
pipeline '' "$(dir d watched a ", glob: '*.log'")" "$(out s a watched)" |
    expect error 'the pattern takes it' 'come back for ever'
pipeline '' "$(dir d watched a ", glob: '*.txt'")" "$(out s a watched)" |
    expect well 'the pattern passes it over' 'come back'
pipeline '' "$(dir d watched a ", glob: '*.log'")" "$(out s a watched ', format: json')" |
    expect well 'another suffix' 'come back'
pipeline '' "$(dir d watched a ", glob: '*.gz'")" "$(out s a watched ', compress: gzip')" |
    expect error 'compressed' 'come back for ever'
pipeline '' "$(dir d watched a)" "$(out s a deep)" | expect well 'another directory' 'come back'
pipeline '' "$(dir d watched b)" "$(out s a watched)" |
    expect error 'by way of another stream' 'come back for ever'
: >followed
ln -s followed followed-too
ln followed followed-hard
for path in followed followed-too followed-hard; do
    pipeline '' "$(file f $path a)" '  s: {type: stdout, from: a}' >p.yaml
    tried=$((tried + 1))
    "$pawl" check p.yaml >>followed 2>err && fault "stdout into $path"
    grep -q 'each record would come back' err || fault "stdout into $path, the message"
    "$pawl" check p.yaml >told 2>err || fault 'stdout elsewhere'
done
pipeline '' "$(file f followed a)" \
    '  s: {type: exec, from: a, command: "cat >>'"$PWD"'/followed"}' |
    sed "s|followed, to|$PWD/followed, to|" |
    expect remark 'exec' "names $PWD/followed"
pipeline '' "$(file f followed a)" "$sink" >p.yaml
"$pawl" check p.yaml >told 2>>followed || fault 'stderr into the followed file is a remark'
grep -q 'where standard error goes' followed || fault 'stderr into the followed file'
pipeline '' "$(dir d log a)" "$sink" | expect error "the log's own files" 'files of the log itself'
pipeline '' "$(dir d log a ", glob: '*.log'")" "$sink" |
    expect well "others in the log's directory" 'log itself'

# ---- dead letters and circles
pipeline '' '' "$(out s a there ', dead_letter: a')" |
    expect error 'dead letters of its own input' 'comes back to it'
pipeline '' '' "$(out s a there ', dead_letter: b')" |
    expect well 'dead letters elsewhere' 'comes back'
{ pipeline '' '' "$sink"; printf \
    'processors:\n  p: {type: filter, from: a, to: b, equals: x, dead_letter: a}\n'; } |
    expect error 'dead letters of a processor' 'comes back to it'
{ pipeline '' '' "$sink"; printf \
    'processors:\n  p: {type: filter, from: a, to: b, equals: x}\n'
    printf '  q: {type: filter, from: b, to: a, equals: x}\n'; } |
    expect error 'two processors in a circle' 'comes back to it'

# ---- one thing twice
pipeline '' "$(file f followed a; echo; file g followed a)" "$sink" |
    expect error 'a file twice' 'would come twice'
pipeline '' "$(file f followed a; echo; file g followed-too a)" "$sink" |
    expect error 'a file twice, by a link' 'would come twice'
pipeline '' "$(file f followed a; echo; file g followed-hard a)" "$sink" |
    expect error 'a file twice, by a hard link' 'would come twice'
pipeline '' "$(file f followed a; echo; file g followed b)" "$sink" |
    expect remark 'a file into two streams' 'both read'
pipeline '' "$(file f followed a; echo; dir g . a ", glob: 'foll*'")" "$sink" |
    expect error 'a file, and its directory' 'would come twice'
pipeline '' "$(file f followed a; echo; dir g . a ", glob: 'x*'")" "$sink" |
    expect well 'a file, and others of its directory' 'both read'
pipeline '' "$(file f followed a; echo; file g watched/followed a)" "$sink" |
    expect well 'two files of a name' 'both read'
pipeline '' "$(dir f watched a; echo; dir g link a)" "$sink" |
    expect error 'a directory twice' 'would come twice'
pipeline '' '  f: {type: stdin, to: a}
  g: {type: stdin, to: b}' "$sink" | expect error 'standard input twice' 'both read standard input'
pipeline '' '  f: {type: socket, address: "7000", to: a, line_max: 1k}
  g: {type: socket, address: "7000", to: b, line_max: 1k}' "$sink" |
    expect error 'an address twice' 'both listen'
pipeline '' '  f: {type: syslog, address: "7000", transport: udp, to: a, line_max: 1k}
  g: {type: syslog, address: "7000", transport: tcp, to: b, line_max: 1k}' "$sink" |
    expect well 'UDP and TCP' 'both listen'
pipeline '' '' "$(out s a there; echo; out t a deep/../there ', name: s')" |
    expect error 'two sinks, the same files' 'files of the same names'
pipeline '' '' "$(out s a there; echo; out t a there)" |
    expect well 'two sinks, two names' 'same names'
pipeline '' '' "$(out s a there; echo; out t b there ', name: s')" |
    expect well 'two sinks, two streams' 'same names'

# ---- the option that says the same as the file
"$pawl" init other --segment-size 1M >told 2>err && "$pawl" stream create other a 2>err ||
    fault init
"$pawl" retention other --consumed on >told 2>err && fault 'consumed on, and no reader, was taken'
grep -q 'would drop everything' err || fault 'consumed on, and no reader'
echo x | "$pawl" ingest other a >told 2>err || fault ingest
{ echo 'log: {directory: other, create: false}'
    printf 'streams: [a]\nsinks: {s: {type: stdout, from: a}}\n'; } >p.yaml
"$pawl" run p.yaml --until-idle >told 2>err || fault 'a first run'
"$pawl" retention other --consumed on >told 2>err || fault 'consumed on, with a reader'
tried=$((tried + 2))

# ---- status says of a log what check says of a file
# warns LABEL LOG-OPTIONS RETENTION-OPTIONS WANTED: "" for none
warns() {
    tried=$((tried + 1))
    rm -rf warned
    local init retention
    read -ra init <<<"$2"
    read -ra retention <<<"$3"
    "$pawl" init warned --segment-size 1M "${init[@]}" >told 2>err || fault "$1: init"
    [ -z "$3" ] || "$pawl" retention warned "${retention[@]}" >told 2>err || fault "$1: retention"
    "$pawl" status warned >told 2>err || fault "$1: status"
    if [ -n "$4" ]; then grep -q "^warning  *.*$4" told || fault "$1"
    else ! grep '^warning' told || fault "$1"; fi
    "$pawl" status warned --json | grep -q '"warnings": \[' || fault "$1: JSON"
}
warns 'a cap, and nothing frees' '--disk-cap 8M' '' 'takes nothing more, and nothing frees space'
warns 'a cap and a limit' '--disk-cap 8M' '--bytes 4M' ''
warns 'a cap and a limit too close' '--disk-cap 8M' '--bytes 7M' 'less than two segments'
warns 'a cap and an age' '--disk-cap 8M' '--age 7d' ''
warns 'no cap' '' '' ''

[ "$failed" -eq 0 ] && echo "$tried cases"
exit "$failed"
