# shellcheck shell=bash
# Waiting, for a while or for something, by the time since boot: the wall clock of a host may be set at any moment.
# Needs nothing.

# Sets UPTIME_CS, hundredths of a second since the boot. proc(5): always with two digits behind the point.
UPTIME_CS=0
take_uptime() {
    local seconds
    read -r seconds _ </proc/uptime
    UPTIME_CS=$((10#${seconds/./}))
}

# wait_for SECONDS COMMAND...: polls until the command succeeds; 1 after the deadline.
wait_for() {
    local deadline_cs
    take_uptime
    deadline_cs=$((UPTIME_CS + $1 * 100))
    shift
    until "$@"; do
        take_uptime
        ((UPTIME_CS < deadline_cs)) || return 1
        sleep 0.1
    done
}

# A sleep which a trapped signal ends at once, leaving no process behind.
PAUSE_PID=
pause() {
    sleep "$1" &
    PAUSE_PID=$!
    wait "$PAUSE_PID" || true
    end_pause
}

end_pause() {
    if [[ -n $PAUSE_PID ]]; then kill "$PAUSE_PID" 2>/dev/null || true; fi
    PAUSE_PID=
}
