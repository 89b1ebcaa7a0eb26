# shellcheck shell=bash disable=SC2034  # much of what is set here is read by the scripts
# What the scripts of the development stack share: settings, messages, waiting, processes.
# Sourced, never run. Functions of the Consul API are in lib-consul.sh. consul-register.sh, nginx-upstreams.sh
# and rolling-restart.sh also work away from the repository, with these two libraries beside them.
#
# Settings (environment; up.sh records what it chose in $RUN_DIR/stack.env for the other scripts):
#   RUN_DIR             state and logs of the stack                     run/ of the repository
#   REPLICAS            streamd replicas, on 127.0.0.1 and up           3
#   DATA_PORT           data plane of each replica                      8080
#   CONTROL_PORT        control plane of each replica                   8081
#   HTTP_PORT           NGINX, HTTP                                     80, or 8000 where 80 can't be had
#   HTTPS_PORT          NGINX, HTTPS                                    443, or 8443 likewise
#   TCP_PORT            NGINX, to the data planes                       9080
#   CONSUL_HTTP_PORT    Consul API and user interface                   8500
#   CONSUL_DNS_PORT     Consul DNS                                      8600
#   CONSUL_SERVER_PORT  Consul RPC                                      8300
#   CONSUL_SERF_PORT    Consul gossip                                   8301
#   ROOT_DIR            files to serve                                  $RUN_DIR/www
#   STREAMD_BIN         streamd to run                                  built by cargo

if [[ -n ${STREAMD_LIB_LOADED:-} ]]; then return 0; fi
STREAMD_LIB_LOADED=1

# Debian keeps nginx in /usr/sbin, which is not on an ordinary user's PATH.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

SCRIPTS_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
REPO_DIR=$(dirname "$SCRIPTS_DIR")
SCRIPT_NAME=$(basename "$0")
DEPS_DIR="$REPO_DIR/.deps"
if [[ -f $REPO_DIR/consul.hcl ]]; then
    IS_INSTALLED=0
    RUN_DIR=$(realpath -m "${RUN_DIR:-$REPO_DIR/run}")
    NGINX_DIR="$RUN_DIR/nginx"
else
    # Installed on a server: there is no stack, and NGINX is the distribution's.
    IS_INSTALLED=1
    RUN_DIR=$(realpath -m "${RUN_DIR:-/run/streamd}")
    NGINX_DIR=/etc/nginx
fi
LOG_DIR="$RUN_DIR/log"
PID_DIR="$RUN_DIR/pids"
STATE_FILE="$RUN_DIR/stack.env"

SETTINGS=(REPLICAS DATA_PORT CONTROL_PORT HTTP_PORT HTTPS_PORT TCP_PORT
    CONSUL_HTTP_PORT CONSUL_DNS_PORT CONSUL_SERVER_PORT CONSUL_SERF_PORT)

# A replica per loopback address; more than this on one host is a slip of the keyboard.
REPLICAS_MAX=64

# ---------------------------------------------------------------- messages

say() { printf '%s\n' "$@"; }

warn() { printf '%s: %s\n' "$SCRIPT_NAME" "$*" >&2; }

die() {
    warn "$*"
    exit 1
}

# For the long-running scripts, whose output is a log.
log() { printf '%(%Y-%m-%dT%H:%M:%S%z)T %s: %s\n' -1 "$SCRIPT_NAME" "$*"; }

die_usage() {
    warn "$*; try $SCRIPT_NAME -h"
    exit 2
}

# Ends the script; shows the end of the log in which the reason stands.
die_with_log() {
    local message=$1 log_file=$2
    if [[ -s $log_file ]]; then
        printf -- '--- last lines of %s\n' "$log_file" >&2
        tail -n 15 "$log_file" >&2
        printf -- '---\n' >&2
    fi
    die "$message (log: $log_file)"
}

# One line per check, counted; the caller ends with check_summary.
CHECKS_PASSED=0
CHECKS_FAILED=0

check() {
    local description=$1
    shift
    if "$@"; then
        CHECKS_PASSED=$((CHECKS_PASSED + 1))
        printf 'ok      %s\n' "$description"
    else
        CHECKS_FAILED=$((CHECKS_FAILED + 1))
        printf 'FAILED  %s%s\n' "$description" "${CHECK_DETAIL:+: $CHECK_DETAIL}"
    fi
    CHECK_DETAIL=
}

check_summary() {
    printf '%d passed, %d failed\n' "$CHECKS_PASSED" "$CHECKS_FAILED"
    ((CHECKS_FAILED == 0))
}

# ---------------------------------------------------------------- settings

# The environment first, then what up.sh recorded, then the defaults above.
load_settings() {
    load_recorded_settings
    : "${REPLICAS:=3}" "${DATA_PORT:=8080}" "${CONTROL_PORT:=8081}" "${TCP_PORT:=9080}"
    : "${CONSUL_HTTP_PORT:=8500}" "${CONSUL_DNS_PORT:=8600}"
    : "${CONSUL_SERVER_PORT:=8300}" "${CONSUL_SERF_PORT:=8301}"
    : "${HTTP_PORT:=}" "${HTTPS_PORT:=}" # up.sh chooses them
    : "${ROOT_DIR:=$RUN_DIR/www}"
    check_settings
    STACK_CONSUL_URL="http://127.0.0.1:$CONSUL_HTTP_PORT"
}

load_recorded_settings() {
    [[ -f $STATE_FILE ]] || return 0
    local key value
    while IFS='=' read -r key value; do
        [[ " ${SETTINGS[*]} ROOT_DIR " == *" $key "* ]] || continue
        [[ -n ${!key:-} ]] || printf -v "$key" '%s' "$value"
    done <"$STATE_FILE"
}

check_settings() {
    local key
    is_number "$REPLICAS" 1 "$REPLICAS_MAX" ||
        die_usage "REPLICAS is \"$REPLICAS\": it must be a number from 1 to $REPLICAS_MAX"
    for key in "${SETTINGS[@]}"; do
        [[ $key == *_PORT && -n ${!key:-} ]] || continue
        is_number "${!key}" 1 65535 || die_usage "$key is \"${!key}\": it must be a port from 1 to 65535"
    done
}

record_settings() {
    local key
    for key in "${SETTINGS[@]}" ROOT_DIR; do
        printf '%s=%s\n' "$key" "${!key}"
    done >"$STATE_FILE.new"
    mv "$STATE_FILE.new" "$STATE_FILE"
}

is_number() { [[ $1 =~ ^[0-9]{1,9}$ ]] && ((10#$1 >= $2 && 10#$1 <= $3)); }

# One up.sh, down.sh or rolling-restart.sh at a time. Descriptor 9 is closed in every process they start.
lock_stack() {
    mkdir -p "$LOG_DIR" "$PID_DIR" || die "can't create $LOG_DIR: choose another RUN_DIR"
    [[ -w $RUN_DIR && -w $PID_DIR ]] || die "$RUN_DIR belongs to another user: remove it or set RUN_DIR"
    exec 9>"$RUN_DIR/lock" || die "can't write $RUN_DIR/lock: choose another RUN_DIR"
    flock -w 120 9 || die "another script has been starting or stopping the stack in $RUN_DIR for two minutes"
}

# Prints the streamd to run. STREAMD_BIN wins over cargo's target directory.
streamd_path() { printf '%s' "${STREAMD_BIN:-${CARGO_TARGET_DIR:-$REPO_DIR/target}/release/streamd}"; }

# ---------------------------------------------------------------- waiting

# wait_for SECONDS COMMAND...: polls until the command succeeds; 1 after the deadline.
wait_for() {
    local deadline_us=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
    shift
    until "$@"; do
        ((${EPOCHREALTIME/[.,]/} < deadline_us)) || return 1
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

# True when something accepts TCP connections there. For loopback and local networks.
# shellcheck disable=SC2016  # expanded by the inner shell
port_answers() { timeout 2 bash -c 'exec 3<>"/dev/tcp/$1/$2"' _ "$1" "$2" 2>/dev/null; }

http_status() { curl -s -k -o /dev/null --max-time 5 -w '%{http_code}' "$@" || true; }

health_ok() { [[ $(curl -s --max-time 2 "http://$1:$2/health" 2>/dev/null) == OK ]]; }

# ---------------------------------------------------------------- processes
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

# Prints the names recorded, living or not, that match a shell pattern.
process_names() {
    local file name
    for file in "$PID_DIR"/*.pid; do
        name=$(basename "$file" .pid)
        # shellcheck disable=SC2053  # the pattern is meant as one
        if [[ -f $file && $name == $1 ]]; then say "$name"; fi
    done
}

start_process() {
    local name=$1 log_file="$LOG_DIR/$1.log"
    shift
    end_session "$name"
    # A log tells of one life of its process; that of the life before is kept.
    if [[ -s $log_file ]]; then mv "$log_file" "$log_file.1"; fi
    (
        cd "$RUN_DIR" || exit 1
        exec setsid "$@" >>"$log_file" 2>&1 </dev/null 9>&-
    ) &
    read_stat "$!" || die_with_log "$name ended as it started" "$log_file"
    printf '%s %s %s\n' "$!" "$STAT_START" "$BOOT_ID" >"$PID_DIR/$name.pid"
    printf '%q ' "$@" >"$PID_DIR/$name.command"
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

# ---------------------------------------------------------------- replicas of the stack

# Prints the configuration file of a replica: one of its own (streamd-2.toml), or that of all.
replica_config() {
    if [[ -f $RUN_DIR/streamd-$1.toml ]]; then
        printf '%s' "$RUN_DIR/streamd-$1.toml"
    else
        printf '%s' "$RUN_DIR/streamd.toml"
    fi
}

# start_replica NUMBER STREAMD: starts it unless it runs with this very command line and binary.
start_replica() {
    ensure_process "replica-$1" "$2" --config "$(replica_config "$1")" --root "$ROOT_DIR" --workers 1 \
        --data-listen "127.0.0.$1:$DATA_PORT" --control-listen "127.0.0.$1:$CONTROL_PORT" --log-format json
}

start_registration() {
    ensure_process "register-replica-$1" "$SCRIPTS_DIR/consul-register.sh" --watch \
        replica "127.0.0.$1" "$DATA_PORT" "$CONTROL_PORT"
}

# became_healthy NUMBER SECONDS: waits until it answers /health; fails at once when it ends instead.
became_healthy() {
    wait_for "$2" ready_or_dead "replica-$1" health_ok "127.0.0.$1" "$CONTROL_PORT" && process_lives "replica-$1"
}

# ready_or_dead NAME COMMAND...: what a wait for the command has to end at.
ready_or_dead() {
    local name=$1
    shift
    if ! process_lives "$name"; then return 0; fi
    "$@"
}
