#!/usr/bin/env bash
# Hold a commit message to the house's form: `area: what changes`, at most 72 characters, an empty line, then why.
#
#     scripts/commit_message.sh .git/COMMIT_EDITMSG      # the commit-msg hook of .pre-commit-config.yaml
set -euo pipefail
mapfile -t lines < <(grep -v '^#' "$1" || true)
subject=${lines[0]:-}

fail() {
	echo "commit message: $1" >&2
	echo "    $subject" >&2
	exit 1
}

case $subject in
"Merge "* | "Revert "* | "fixup! "* | "squash! "*) exit 0 ;; # written by git
esac
[ -n "$subject" ] || fail "the first line is empty; write \`area: what changes\`"
((${#subject} <= 72)) || fail "the subject has ${#subject} characters, 72 are allowed; the body takes the rest"
[[ $subject =~ ^[a-z0-9/_.,\ +-]+:\ [^\ ] ]] || fail "the subject is not of the form \`area: what changes\`"
[[ $subject != *. ]] || fail "the subject ends in a full stop"
[ -z "${lines[1]:-}" ] || fail "the second line is not empty; the body begins after an empty line"
