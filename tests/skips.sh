#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# skips.sh - what a test leaves out is named in the summary, with the reason: no case skips in
# silence, and skipped.awk finds all that are told, however they are told.
set -uo pipefail
source_dir=${PAWL_SOURCE_DIR:-$(cd "$(dirname "$0")/.." && pwd)}
failed=0

if grep -rnE '(^|[^_[:alnum:]])skip\(\)' "$source_dir/tests" --include='*.[ch]' |
    grep -v 'tests/support/skip\.h:'; then
    echo "a case that is skipped says why: SKIP(reason) of tests/support/skip.h"
    failed=1
fi
while read -r file; do
    grep -q 'SKIPPED' "$file" && continue
    echo "$file: exits with 77 and doesn't say why"
    failed=1
done < <(grep -rlE 'exit\(?[ ]?77' "$source_dir/tests" --include='*.sh' --include='*.py')

log() {
    cat <<'LOG'
1/5 Test  #7: whole ............................***Skipped   0.00 sec
[ RUN      ] shown twice
SKIPPED: no ring
[  SKIPPED ] shown twice
2/5 Test #17: silent ...........................***Skipped   0.00 sec
3/5 Test  #3: seam .............................   Passed    0.00 sec
Start testing: Nov 27 16:00 UTC
----------------------------------------------------------
1/5 Testing: backends
1/5 Test: backends
Output:
----------------------------------------------------------
[==========] Running 3 test(s).
[ RUN      ] uring, direct
SKIPPED: no ring
[  SKIPPED ] uring, direct
[ RUN      ] posix, direct
[       OK ] posix, direct
[ RUN      ] uring, buffered
[  SKIPPED ] uring, buffered
[==========] 3 test(s) run.
[  PASSED  ] 1 test(s).
[  SKIPPED ] 2 test(s), listed below:
[  SKIPPED ] uring, direct
[  SKIPPED ] uring, buffered

 2 SKIPPED TEST(S)
<end of output>
Test time =   0.01 sec
----------------------------------------------------------
Test Passed.
2/5 Testing: service
Output:
----------------------------------------------------------
the protocol: well
SKIPPED in part: no analyser
<end of output>
Test Passed.
3/5 Testing: whole
Output:
----------------------------------------------------------
SKIPPED: needs root
<end of output>
Test Passed.
4/5 Testing: silent
Output:
----------------------------------------------------------
<end of output>
Test Passed.
5/5 Testing: seam
Output:
----------------------------------------------------------
[ RUN      ] twice
SKIPPED: no ring
[  SKIPPED ] twice
[ RUN      ] twice
SKIPPED: no ring
[  SKIPPED ] twice
<end of output>
Test Passed.
LOG
}
expected='skipped: backends: uring, direct: no ring
skipped: backends: uring, buffered: no reason given
skipped: service: no analyser
skipped: whole: needs root
skipped: seam: twice: no ring (2 times)
skipped: silent: no reason given'
found=$(log | awk -f "$source_dir/tests/skipped.awk")
if [ "$found" != "$expected" ]; then
    diff -u <(echo "$expected") <(echo "$found")
    failed=1
fi
[ "$failed" -eq 0 ] && echo "skips are told, with a reason each"
exit "$failed"
