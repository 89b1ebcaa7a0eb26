#!/usr/bin/env bash
# Runs a command of the development stack and starts it again whenever it ends, as Restart= of a unit does on servers.
# Ends when it is told to, with the command.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/waiting.sh"

usage() {
    cat <<'USAGE'
usage: keep.sh COMMAND [ARGUMENT...]
USAGE
}

BACKOFF_SECONDS_MAX=10
# A program that has run for this long didn't end because of how it began.
STEADY_SECONDS=30

IS_STOPPING=0
KEPT_PID=

main() {
    case ${1:-} in
        '') die_usage "there is no COMMAND" ;;
        -h | --help) usage && exit 0 ;;
    esac
    # From here on without any $( ), since this process is told only once to end (lib/signals.sh).
    trap 'stop' TERM INT
    local backoff=1 started_cs status
    while ((!IS_STOPPING)); do
        take_uptime
        started_cs=$UPTIME_CS
        run "$@"
        status=$?
        ((!IS_STOPPING)) || break
        take_uptime
        if ((UPTIME_CS - started_cs > STEADY_SECONDS * 100)); then backoff=1; fi
        log "${1##*/} ended with $status: starting it again in $backoff s"
        pause "$backoff"
        backoff=$((backoff * 2 > BACKOFF_SECONDS_MAX ? BACKOFF_SECONDS_MAX : backoff * 2))
    done
}

# Until it has ended: a signal ends the wait alone.
run() {
    local status
    "$@" &
    KEPT_PID=$!
    # Told to end just before.
    if ((IS_STOPPING)); then kill "$KEPT_PID" 2>/dev/null; fi
    while true; do
        wait "$KEPT_PID"
        status=$?
        kill -0 "$KEPT_PID" 2>/dev/null || break
    done
    KEPT_PID=
    return "$status"
}

stop() {
    IS_STOPPING=1
    end_pause
    if [[ -n $KEPT_PID ]]; then kill "$KEPT_PID" 2>/dev/null; fi
}

main "$@"
