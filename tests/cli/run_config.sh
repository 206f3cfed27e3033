#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What can be wrong with a pipeline's file: each is told with its line and, where something is
# alike, with a suggestion. Nothing is opened.
set -u
pawl=$(realpath "${1:-${PAWL_COMMAND:-}}")
root=${PAWL_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
[ -x "$pawl" ] || { echo "SKIPPED: no command pawl"; exit 77; }
work=$(mktemp -d) || exit 1
trap 'rm -rf -- "$work"' EXIT
cd "$work" || exit 1
failed=0 tried=0

base() {
    cat <<'Y'
log: {directory: log}
streams:
  lines: {partitions: 2}
  parsed:
  dead:
processors:
  parse:
    type: regex
    from: lines
    to: parsed
    pattern: '(?<a>\w+)'
sinks:
  out:
    type: file
    from: parsed
    directory: out
Y
}
# wrong SED-SCRIPT WANTED: the base, changed so, is refused with a message that has WANTED in it
wrong() {
    tried=$((tried + 1))
    base | sed "$1" >p.yaml
    if "$pawl" check p.yaml >out 2>err; then
        echo "taken: $1"
        failed=1
    elif ! grep -qF -- "$2" err; then
        echo "for $1 wanted: $2"
        cat err
        failed=1
    fi
    [ ! -e log ] && [ ! -e out.d ] || { echo "something was made: $1"; failed=1; }
}

base >p.yaml
"$pawl" check p.yaml >out 2>err || { cat err; exit 1; }
wrong 's/^sinks/sinkz/' 'p.yaml:12: the configuration has no setting "sinkz"; did you mean "sinks"?'
wrong 's/partitions: 2/partitoins: 2/' \
    'p.yaml:3: a stream has no setting "partitoins"; did you mean "partitions"?'
wrong 's/partitions: 2/partitions: two/' 'p.yaml:3: partitions must be a decimal number, not "two"'
wrong 's/partitions: 2/partitions: 0/' 'p.yaml:3: partitions must be from 1 to 1024'
wrong 's/pattern:/patern:/' 'p.yaml:11: regex has no setting "patern"; did you mean "pattern"?'
wrong 's/type: regex/type: regexp/' 'did you mean "regex"'
wrong 's/type: file/type: flie/' \
    'p.yaml:14: a sink of type "flie" is not in this build; did you mean "file"?'
wrong 's/from: lines/from: line/' \
    'p.yaml:9: there is no stream "line" under streams; did you mean "lines"?'
wrong 's/to: parsed/to: parsd/' 'p.yaml:10: there is no stream "parsd"'
wrong 's/to: parsed/to: lines/' 'p.yaml:7: what "parse" writes comes back to it'
wrong 's/  out:/  parse:/' 'p.yaml:13: the name "parse" is taken by the processor in line 7'
wrong 's/  dead:/  lines:/' 'p.yaml:5: "lines" is given twice (first in line 3)'
wrong "s/(?<a>/(?<a/" 'p.yaml:11: parse: the pattern does not compile'
wrong "s/?<a>//" 'p.yaml:11: parse: the pattern has no named group'
wrong 's/directory: out/directory:/' 'p.yaml:16: "directory" has no value'
wrong '/directory: out/d' 'file needs the setting "directory"'
wrong 's/^log.*/log: {}/' 'needs the setting "directory"'
wrong 's/^log.*//' 'there is no section log'
wrong 's/^log.*/log: {directory: log, segment_size: 1000}/' \
    'p.yaml:1: segment_size must be a multiple of 1M'
wrong 's/^log.*/log: {directory: log, disk_cap: 64M}/' 'disk_cap must be at least four segments'
wrong 's/^log.*/log: {directory: log, memory: lots}/' 'memory must be a size'
wrong 's/type: file/type: [file]/' 'must be a map of settings, with a type'
wrong 's/^log.*/guarantee: perhaps/' \
    'guarantee must be exactly-once|at-least-once|at-most-once, not "perhaps"'
wrong 's/directory: out/directory: out\n    on_error: dead-letter/' 'needs dead_letter'
wrong 's/directory: out/directory: out\n    dead_letter: deed/' \
    'p.yaml:17: there is no stream "deed" under streams; did you mean "dead"?'
wrong 's/directory: out/directory: out\n    compress: lzma/' \
    'p.yaml:17: out: compress must be none|gzip|zstd, not "lzma"'
wrong 's/directory: out/directory: out\n    rotate_age: 5 parsecs/' \
    'p.yaml:17: out: rotate_age must be a time'
wrong 's/to: parsed/to: parsed\n    dead_letter: lines/' \
    'p.yaml:7: what "parse" writes comes back to it'
wrong 's/from: lines/from: [lines, lines]/' 'reads the stream "lines" twice'
wrong 's/from: lines//' '"parse" needs "from"'
wrong '5s/  dead:/  "a b":/' 'can'"'"'t be a stream'"'"'s name'
wrong 's/  out:/  "o\/t":/' '"o/t" can'"'"'t be a name'
wrong 's/to: parsed/to: \&x parsed/' 'p.yaml:10: tags and anchors have no meaning here'
wrong 's/to: parsed/to: *x/' 'p.yaml:10: aliases have no meaning here'
wrong 's/to: parsed/to: !!str parsed/' 'p.yaml:10: tags and anchors'
wrong 's/to: parsed/to: "a\\0b"/' 'p.yaml:10: a text must not have a NUL in it'
wrong 's/to: parsed/to: [parsed/' 'p.yaml:11: '
wrong 's/type: regex/type: dedup\n    guarantee: at-most-once/; /pattern/d' \
    'p.yaml:7: "parse" keeps state, so it can'"'"'t be at-most-once'
wrong 's/type: regex/type: count\n    by: value/; /pattern/d' \
    'p.yaml:10: "parse" puts records together by something else than their key, and "lines" has 2'
wrong 's/type: regex/type: count/; /pattern/d; s/from: lines/from: [lines, dead]/' \
    'all that it reads must have as many partitions: "lines" has 2 and "dead" has 1'
wrong 's/type: regex/type: exec/; /pattern/d' 'exec needs a command'
wrong 's/type: regex/type: filter/; s/pattern/of: nose\n    match/' \
    'of must be value, key, json:PATH or header:NAME'
wrong 's/.*//' 'there is nothing in it'
wrong '1,$d; $a\- a' 'there is nothing in it'

# Deep, wide, binary, and not there.
deep=$(printf '[%.0s' $(seq 100))
printf 'log: %s\n' "$deep" >p.yaml
"$pawl" check p.yaml 2>err && { echo "taken: nested"; failed=1; }
grep -q 'nested too deeply' err || { cat err; failed=1; }
head -c 2000000 /dev/zero >p.yaml
"$pawl" check p.yaml 2>err && { echo "taken: 2 MB of zeros"; failed=1; }
head -c 5000 /dev/urandom >p.yaml
"$pawl" check p.yaml 2>err && { echo "taken: noise"; failed=1; }
"$pawl" check not-there.yaml 2>err && { echo "taken: a file that isn't there"; failed=1; }
grep -q '^not-there.yaml: cannot be read: No such file' err || { cat err; failed=1; }

# Two documents, two pipelines; not with one log.
{ base; echo ---; base | sed 's/directory: log/directory: log2/'; } >p.yaml
[ "$("$pawl" check p.yaml 2>/dev/null | grep -c '^pipeline')" = 2 ] ||
    { echo "two documents are not two pipelines"; failed=1; }
{ base; echo ---; base; } >p.yaml
"$pawl" check p.yaml >out 2>err && { echo "taken: two pipelines on a log"; failed=1; }
grep -q 'p.yaml:1[78]: the log log belongs to another pipeline already' err ||
    { cat err; failed=1; }

# No type has a setting that `pawl run` would take for its own.
"$pawl" check --types | awk '
    /^(source|processor|sink) / { kind = $1; type = $2; next }
    { own = "type on_error dead_letter batch_records batch_bytes backoff"
      own = own (kind == "source" ? " to backoff_max" : " from guarantee start") (kind == "sink" ? " backoff_max linger on_lost" : kind == "processor" ? " retries" : "")
      if (index(" " own " ", " " $1 " ")) { print kind, type ": its setting " $1 " can never be given"; bad = 1 } }
    END { exit bad }' || failed=1

# What is in the examples is well.
for file in "$root"/examples/*.yaml; do
    "$pawl" check --quiet "$file" 2>err || { echo "$file:"; cat err; failed=1; }
done
[ "$failed" -eq 0 ] && echo "$tried wrong files were refused, each with its line"
exit "$failed"
