# shellcheck shell=bash disable=SC2034  # STARTED is read by the scripts
# The processes of the stack. Needs environment.sh, messages.sh and waiting.sh.
#
# A process of the stack has a name. $PID_DIR/NAME.pid holds its pid, its start time and the boot it
# belongs to, so that a pid which the kernel has given to somebody else is never mistaken for it;
# $PID_DIR/NAME.command holds its command line. Each is the leader of a session of its own.

# Empty where a unit hides all of /proc but processes; there nothing is started by these functions.
BOOT_ID=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null || true)

# Sets STAT_STATE, STAT_SESSION and STAT_START (clock ticks since boot) from proc(5).
read_stat() {
    local line fields
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    # The second field is the name in parentheses and may itself hold spaces and parentheses.
    read -ra fields <<<"${line##*) }"
    STAT_STATE=${fields[0]} STAT_SESSION=${fields[3]} STAT_START=${fields[19]}
}

# Prints the pid of the named process; fails when it doesn't live any more.
process_pid() {
    local pid start boot
    { read -r pid start boot <"$PID_DIR/$1.pid"; } 2>/dev/null || return 1
    [[ $boot == "$BOOT_ID" ]] || return 1
    read_stat "$pid" || return 1
    [[ $STAT_START == "$start" && $STAT_STATE != Z ]] && printf '%s' "$pid"
}

process_lives() { process_pid "$1" >/dev/null; }

# Prints the names recorded, living or not, that match a shell pattern. Another program's pid file has no start time.
process_names() {
    local file name pid start boot
    for file in "$PID_DIR"/*.pid; do
        name=${file##*/} name=${name%.pid}
        # shellcheck disable=SC2053  # the pattern is meant as one
        [[ -f $file && $name == $1 ]] || continue
        { read -r pid start boot <"$file"; } 2>/dev/null || continue
        if [[ $pid =~ ^[0-9]+$ && $start =~ ^[0-9]+$ && -n $boot ]]; then say "$name"; fi
    done
}

# The variables that start_process hands on of the caller's environment, where it is set: nothing of his makes a replica another one
# (STREAMD_*), sends a request elsewhere (proxies), or is secret.
PROCESS_VARIABLES=(TMPDIR TZ CONSUL_HTTP_ADDR DRAIN_SECONDS DRAIN_SECONDS_MAX STACK_TAG REGISTRATION_KEY_FILE)

# exec_in_stack_environment COMMAND...: in place of the calling shell.
exec_in_stack_environment() {
    local variable variables=("PATH=$PATH" LC_ALL=C "HOME=$RUN_DIR" "RUN_DIR=$RUN_DIR")
    for variable in "${PROCESS_VARIABLES[@]}"; do
        if [[ -n ${!variable+set} ]]; then variables+=("$variable=${!variable}"); fi
    done
    exec env -i "${variables[@]}" "$@"
}

start_process() {
    local name=$1 log_file="$LOG_DIR/$1.log"
    shift
    end_session "$name"
    # A log tells of one life of its process; that of the life before is kept.
    if [[ -s $log_file ]]; then mv "$log_file" "$log_file.1"; fi
    (
        cd "$RUN_DIR" || exit 1
        exec_in_stack_environment setsid "$@" >>"$log_file" 2>&1 </dev/null 9>&-
    ) &
    read_stat "$!" || die_with_log "$name ended as it started" "$log_file"
    # Nobody could end what isn't written down.
    if ! (write_file "$PID_DIR/$name.pid" "$! $STAT_START $BOOT_ID" && write_file "$PID_DIR/$name.command" "$(printf '%q ' "$@")"); then
        kill -KILL "$!"
        rm -f "$PID_DIR/$name.pid"
        die "$name was ended again"
    fi
}

# ensure_process NAME COMMAND...: starts it unless it runs with this very command line.
# Sets STARTED to 1 when it was started, else to 0.
ensure_process() {
    local name=$1 pid command
    shift
    STARTED=0
    if pid=$(process_pid "$name"); then
        printf -v command '%q ' "$@"
        if [[ $command == "$(cat "$PID_DIR/$name.command")" && $(readlink "/proc/$pid/exe") != *' (deleted)' ]]; then
            say "  $name runs already (pid $pid)"
            return 0
        fi
        say "  $name has another command line or an older binary: restarting it"
        stop_processes TERM 40 "$name"
    elif [[ -f $PID_DIR/$name.pid ]]; then
        say "  $name had died: starting it again"
    fi
    start_process "$name" "$@"
    STARTED=1
    say "  $name started (pid $(process_pid "$name" || echo gone))"
}

# stop_processes SIGNAL SECONDS NAME...: signals all, waits for all, kills what is left of them.
stop_processes() {
    local signal=$1 seconds=$2 name pid
    shift 2
    for name in "$@"; do
        if pid=$(process_pid "$name"); then kill -"$signal" "$pid" 2>/dev/null || true; fi
    done
    if ! wait_for "$seconds" none_lives "$@"; then
        for name in "$@"; do
            pid=$(process_pid "$name") || continue
            warn "$name (pid $pid) didn't end within $seconds s of SIG$signal: killing it"
            kill -KILL "$pid" 2>/dev/null || true
        done
        wait_for 5 none_lives "$@" || warn "not even SIGKILL ended one of: $*"
    fi
    for name in "$@"; do
        end_session "$name"
        rm -f "$PID_DIR/$name.pid" "$PID_DIR/$name.command"
    done
}

none_lives() {
    local name
    for name in "$@"; do
        if process_lives "$name"; then return 1; fi
    done
}

# Kills what a process of ours left behind when it died (NGINX workers, a curl).
end_session() {
    local pid
    for pid in $(orphans "$1"); do
        kill -KILL "$pid" 2>/dev/null || true
    done
}

# Prints the living members of the session which the named, dead process led. A member has its session
# id, is younger, and works in RUN_DIR, where start_process put it; all three, so that a stranger never
# passes for one.
orphans() {
    local leader leader_start boot directory pid
    { read -r leader leader_start boot <"$PID_DIR/$1.pid"; } 2>/dev/null || return 0
    [[ $boot == "$BOOT_ID" && ! -e /proc/$leader/cwd ]] || return 0
    for directory in /proc/[0-9]*; do
        pid=${directory#/proc/}
        read_stat "$pid" || continue
        [[ $STAT_SESSION == "$leader" && $STAT_STATE != Z ]] || continue
        ((STAT_START >= leader_start)) || continue
        [[ $(readlink "/proc/$pid/cwd" 2>/dev/null) == "$RUN_DIR" ]] && say "$pid"
    done
    return 0
}
