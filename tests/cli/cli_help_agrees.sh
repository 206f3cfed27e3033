#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Shows that `pawl help` and the man page tell of the same commands and the same long options,
# command by command. usage: cli_help_agrees.sh PAWL MAN-PAGE
set -u
LC_ALL=C
export LC_ALL
pawl=$1
page=$2
bad=0

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# Long options in running text, one a line. "-- CMD" is none.
options() { grep -oE -e '--[a-z][a-z-]+' | sort -u; }

# The man page's mdoc: "Fl -name" is an option.
page_options() { grep -oE 'Fl -[a-z][a-z-]+' | sed 's/^Fl -/--/' | sort -u; }

compare() { # what, help's list, page's list
    if ! cmp -s "$2" "$3"; then
        echo "$1: pawl help (<) and $page (>) differ:"
        diff "$2" "$3" | grep '^[<>]'
        bad=1
    fi
}

"$pawl" help >"$work/help" || exit 1
sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p' "$work/help" | sort -u >"$work/commands"
sed -n '/^\.Sh COMMANDS/,/^\.Sh OPTIONS/s/^\.It Cm \([a-z-]*\).*/\1/p' "$page" |
    sort -u >"$work/page-commands"
[ -s "$work/commands" ] || { echo "pawl help lists no commands"; exit 1; }
compare "commands" "$work/commands" "$work/page-commands"

# The options for opening, described once in the page and again by every command's own help.
sed -n '/^Options of every/,/^$/p' "$work/help" | sed 1d | options >"$work/opening"
{ cat "$work/opening"; echo "--help"; } | sort -u >"$work/common"

while read -r command; do
    [ "$command" = help ] && continue
    "$pawl" help "$command" >"$work/one" || { echo "pawl help $command fails"; bad=1; continue; }
    "$pawl" "$command" --help | cmp -s - "$work/one" ||
        { echo "pawl $command --help differs from pawl help $command"; bad=1; }
    options <"$work/one" | grep -vxF -f "$work/common" >"$work/a"
    # A command's part of the page: from each .It Cm of its name to the next .It Cm of another
    # command (or the end).
    awk -v c="$command" '/^\.Sh/ { on = 0 } /^\.It Cm / { on = $3 == c } on' "$page" >"$work/part"
    page_options <"$work/part" >"$work/b"
    compare "$command" "$work/a" "$work/b"
    # Both in the synopsis and in the list of options.
    while read -r option; do
        [ "$(grep -c -e "^ *$option" "$work/one")" -ge 1 ] ||
            { echo "$command: $option is not described by its help"; bad=1; }
    done <"$work/b"
done <"$work/commands"

options <"$work/help" >"$work/a"
awk '/^\.Sh OPTIONS/ { on = 1; next } /^\.Sh/ { on = 0 } on' "$page" | page_options >"$work/b"
compare "general options" "$work/a" "$work/b"
exit $bad
