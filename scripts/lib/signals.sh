# shellcheck shell=bash
# Being told to end. bash reads the inside of $( ) when it comes to it, runs traps while it reads, and then can parse
# neither (5.2.15: "trap: line 2: unexpected EOF while looking for matching `)'", and the script ends or goes on without
# its trap). So SIGTERM counts only where a process waits, and is sent until it has been heard. Who is told only once, by
# a service manager say, must do without $( ) and have its work done by a child. Needs nothing.

IS_STOPPING=0

# heed_signals: from here on SIGTERM counts in wait_or_told and pause_or_told only. What is run from here ignores it too,
# unless it is reset there (trap - TERM).
heed_signals() { trap '' TERM; }

# wait_or_told PID: until the child ends, or this process is told to. Returns its status.
wait_or_told() {
    local status=0
    trap 'IS_STOPPING=1' TERM
    if ((!IS_STOPPING)); then wait "$1" || status=$?; fi
    trap '' TERM
    return "$status"
}

pause_or_told() {
    (trap - TERM && exec sleep "$1") &
    wait_or_told "$!" || true
    kill "$!" 2>/dev/null || true
}

# is_wanted PARENT: neither told to end nor left by the process that could tell. proc(5): the second field of stat is a
# name in parentheses, which may hold any character; the fourth is the parent.
is_wanted() {
    local line
    ((!IS_STOPPING)) || return 1
    { read -r line <"/proc/$BASHPID/stat"; } 2>/dev/null || return 0
    line=${line##*) }
    line=${line#* }
    [[ ${line%% *} == "$1" ]]
}

# tell_to_end SECONDS PID...: children, until they have ended; what hasn't by then is killed.
tell_to_end() {
    local tenths=$(($1 * 10)) signal=TERM pid is_living=1
    shift
    while ((is_living)); do
        is_living=0
        for pid in "$@"; do
            if kill -"$signal" "$pid" 2>/dev/null; then is_living=1; fi
        done
        if ((--tenths <= 0)); then signal=KILL; fi
        if ((is_living)); then sleep 0.1; fi
    done
    for pid in "$@"; do
        wait "$pid" 2>/dev/null || true
    done
}
