#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# test-label: slow
# test-timeout: 300
#
# A real log, written and rotated while it is followed, through file -> regex -> PostgreSQL by each
# of the three kinds at once, while `pawl run` and the server are killed with -9. Then the tables
# are what SQL itself computes from the raw bytes. Without the real log one like it is made.
set -u
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
pawl=$(realpath "${1:-${PAWL_COMMAND:-}}")
[ -x "$pawl" ] || { echo "SKIPPED: no command pawl"; exit 77; }
if ! "$pawl" check --types | grep -q '^sink postgres:'; then echo "SKIPPED: built without libpq"; \
    exit 77; fi
. "$here/../support/lib_postgres.sh"
pg_new
work=$PG_DIR/work
mkdir "$work" || exit 1
cd "$work" || exit 1
bad() { echo "FAILED: $*"; tail -5 "$work/err" 2>/dev/null; exit 1; }
sql() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
child=
writer=
cleanup() {
    local process
    for process in $child $writer; do kill -9 "$process" 2>/dev/null; done
    cd /
    pg_remove
}
trap cleanup EXIT
real=$(realpath -m "$here/../../../shared/data/OpenSSH_2k.log")
if [ -r "$real" ]; then
    cp "$real" once
else
    echo "the real log is not there: one like it is made"
    seq 2000 | awk '{ s = ($1 * 7919) % 1000
        if (s % 4 == 1) printf("Dec 10 06:55:48 LabSZ sshd[%d]: Connection closed by 10.1.%d.%d [preauth]\r\n", 24200 + s, s % 200, s % 7)
        else printf("Dec 10 06:55:48 LabSZ sshd[%d]: Failed password for %s%s from 10.1.%d.%d port %d ssh2\r\n", 24200 + s, (s % 3 ? "invalid user " : ""), (s % 17 ? "u" s : "\"q\\\\" s), s % 200, s % 7, 1024 + s) }' >once
fi
printf 'Dec 10 11:03:40 LabSZ sshd[25448]: Failed password for invalid user \\"x\t%%\303\244 from 1.2.3.4 port 9 ssh2\r\n' >>once
repeats=25
for ((i = 0; i < repeats; i++)); do cat once; done >raw
chmod 644 raw

cat >p.yaml <<Y
name: ssh
log: {directory: log, segment_size: 4M, retention: {consumed: true}}
streams: {lines: {}, logins: {partitions: 3}, rest: {}, dead: {}}
sources:
  log: {type: file, path: in.log, to: lines, crlf: true, rotate_wait: 100ms, batch_records: 300, backoff: 10ms, backoff_max: 100ms}
processors:
  parse:
    type: regex
    from: lines
    to: logins
    pattern: 'sshd\[(?<pid>\d+)\]: Failed password for (?:invalid user )?(?<user>\S*) from (?<address>\S+) port (?<port>\d+)'
    key: address
    rest: rest
    dead_letter: dead
    on_error: dead-letter
sinks:
Y
for kind in transactional two-phase idempotent; do
    cat >>p.yaml <<Y
  $kind:
    type: postgres
    from: logins
    conninfo: host=$PG_DIR user=postgres dbname=postgres
    kind: $kind
    table: $kind
    columns.pid: \$.pid
    columns.user: \$.user
    columns.address: \$.address
    columns.port: \$.port
    batch_records: 200
    backoff: 10ms
    backoff_max: 100ms
Y
done
echo '    columns.id: id' >>p.yaml
"$pawl" check p.yaml >told 2>err || bad check
for kind in transactional two-phase idempotent; do
    sql -c "CREATE TABLE \"$kind\" (id text PRIMARY KEY DEFAULT gen_random_uuid()::text, pid int NOT NULL, \"user\" text NOT NULL, address text NOT NULL, port int NOT NULL)"
done

write_log() { # in pieces of uneven size; rotated by renaming every now and then
    local size at=0 n total=0
    total=$(stat -c %s raw)
    for ((n = 1; at < total; n++)); do
        size=$((RANDOM + 1))
        tail -c +$((at + 1)) raw | head -c "$size" >>in.log
        at=$((at + size))
        if [ $((n % 20)) = 0 ]; then # behind a whole line, as programs do it
            tail -c +$((at + 1)) raw | head -1 >rest
            cat rest >>in.log
            at=$((at + $(stat -c %s rest)))
            mv in.log "in.log-$n"
            : >in.log
        fi
        sleep 0.03
    done
}
: >in.log
write_log &
writer=$!
begin() {
    "$pawl" run p.yaml --quiet 2>>err &
    child=$!
}
killed=0 servers=0
begin
while kill -0 "$writer" 2>/dev/null || [ "$killed" -lt 12 ] || [ "$servers" -lt 6 ]; do
    sleep "0.$(printf '%03d' $((RANDOM % 400 + 50)))"
    case $((RANDOM % 3)) in
    0) pg_kill; pg_start || bad "the server does not come again"; servers=$((servers + 1)) ;;
    1) kill -9 "$child" || bad "it ended by itself"; wait "$child" 2>/dev/null; killed=$((killed + 1)); begin ;;
    2) # both; the pipeline comes back first, and waits
        kill -9 "$child" || bad "it ended by itself"
        pg_kill
        wait "$child" 2>/dev/null
        begin
        pg_start || bad "the server does not come again"
        killed=$((killed + 1)) servers=$((servers + 1))
        ;;
    esac
done 2>/dev/null
wait "$writer"
writer=
until "$pawl" status log 2>/dev/null | grep -q '^pipeline ssh .*: running'; do
    kill -0 "$child" 2>/dev/null || bad "it ended by itself"
    sleep 0.05
done
kill -TERM "$child"
wait "$child" || bad "the end: $?"
child=
"$pawl" run p.yaml --until-idle --quiet 2>>err || bad "until it is idle"

sql -v file="$work/raw" <<'S'
CREATE TABLE want AS SELECT m[1]::int AS pid, m[2] AS "user", m[3] AS address, m[4]::int AS port
  FROM string_to_table(pg_read_file(:'file'), E'\r\n') AS line,
       regexp_match(line, 'sshd\[(\d+)\]: Failed password for (?:invalid user )?(\S*) from (\S+) port (\d+)') AS m WHERE m IS NOT NULL;
S
want=$(sql -c "SELECT count(*) FROM want")
[ "$want" -gt 5000 ] || bad "$want rows are few"
for kind in transactional two-phase idempotent; do
    differ=$(sql -c "WITH got AS (SELECT pid, \"user\", address, port FROM \"$kind\")
        SELECT (SELECT count(*) FROM (SELECT * FROM want EXCEPT ALL SELECT * FROM got) a) || ' lost, ' || (SELECT count(*) FROM (SELECT * FROM got EXCEPT ALL SELECT * FROM want) b) || ' doubled'")
    [ "$differ" = "0 lost, 0 doubled" ] || bad "$kind: $differ of $want"
done
[ "$(sql -c 'SELECT count(*) FROM pg_prepared_xacts')" = 0 ] || bad "something stays prepared"
"$pawl" audit log >/dev/null || bad audit
echo "killed $killed times, the server $servers times: $want rows as SQL computes them, by each of three kinds"
