#!/usr/bin/env bash
# Runs a command, and again while it can go on where it was:
#   launch/again.sh python -m rt2.train --config=... --workdir=...
# 75: it has saved its step, or another process of the run was lost. 128 and more: it was killed.
# Any other end is final. SIGTERM is passed on, and nothing is started after it.
set -u
asked=
child=
trap 'asked=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM

for ((start = 1; start <= ${STARTS:-50}; start++)); do
    "$@" &
    child=$!
    [ -z "$asked" ] || kill -TERM "$child" # it came before the child had a number
    while true; do
        wait "$child" # a signal interrupts it
        code=$?
        kill -0 "$child" 2>/dev/null || break
    done
    if [ -n "$asked" ] || { [ "$code" -ne 75 ] && [ "$code" -lt 128 ]; }; then
        exit "$code"
    fi
    echo "launch/again.sh: ended with $code, start $start of ${STARTS:-50}" >&2
    sleep "${PAUSE:-10}"
done
exit "$code"
