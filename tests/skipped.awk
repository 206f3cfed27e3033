# SPDX-License-Identifier: Apache-2.0
#
# skipped.awk - from what ctest printed and its Testing/Temporary/LastTest.log, in this order: what
# was left out, and why.
# A line for each case: "skipped: TEST: CASE: REASON". Tests say the reason as "SKIPPED: REASON" or,
# where a part of a script was left out, as "SKIPPED in part: REASON"; a case of cmocka follows it.

function say(what, why) {
    line = "skipped: " test ": " (what == "" ? "" : what ": ") (why == "" ? "no reason given" : why)
    if (!(line in times))
        order[++lines] = line
    times[line]++
    delete whole[test]
}
function flush() { # reasons that belong to no case
    for (i = 1; i <= reasons; i++)
        say("", reason[i])
    reasons = 0
}

/^[0-9]+\/[0-9]+ Testing: / { test = $3; reasons = 0; case_name = "" }
/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: .*\*\*\*Skipped/ { sub(/.*#[0-9]+: /, ""); whole[$1] }
test == "" { next } # ctest shows what a failed test printed, too
/^\[ RUN      \] / { flush(); case_name = substr($0, 14) }
/^\[ +(OK|FAILED) +\] / { if (case_name != "") reasons = 0; case_name = "" }
/^SKIPPED/ {
    sub(/^SKIPPED( in part)?[:,] */, "")
    reason[++reasons] = $0
}
/^\[  SKIPPED \] / && case_name != "" { # the summary's lines come after all cases
    say(case_name, reason[reasons])
    reasons = 0
    case_name = ""
}
/^<end of output>/ { flush() }
END {
    for (test in whole)
        say("", "")
    for (i = 1; i <= lines; i++)
        print order[i] (times[order[i]] > 1 ? " (" times[order[i]] " times)" : "")
}
