#!/usr/bin/env bash
# Restarts streamd replica by replica, so that no request is lost: each is taken out of Consul and of NGINX's
# lists, finishes what it has, starts again, and is back in the lists before the next one's turn. That is also
# how a new version is brought in. Stops at the first replica that does not come back; the others run on. Nobody is
# stopped whom somebody may still send to, and whoever was taken out when this ends early is put back.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/values.sh"
source "$LIB_DIR/settings.sh"
source "$LIB_DIR/lock.sh"
source "$LIB_DIR/waiting.sh"
source "$LIB_DIR/network.sh"
source "$LIB_DIR/processes.sh"
source "$LIB_DIR/replicas.sh"
source "$LIB_DIR/consul.sh"
source "$LIB_DIR/balancers.sh"
source "$LIB_DIR/lists.sh"
source "$LIB_DIR/proof.sh"

usage() {
    cat <<'USAGE'
usage: rolling-restart.sh
       rolling-restart.sh --hosts [USER@]ADDRESS...

Without arguments, the replicas of the stack that up.sh started, with the binary at STREAMD_BIN or the one
that cargo built last (target/release/streamd).

  --hosts  hosts where streamd runs under systemd beside streamd-consul@ADDRESS: "systemctl restart streamd"
           on each through REMOTE_SHELL, then a wait until Consul calls both its services passing

Exit code: 0 all replicas were restarted, 1 one did not come back or nothing was touched, 2 usage, 129 to 143 broken
off by a signal. A replica that is out of rotation then, or did not come back, is put back: with the new binary, or the
one that it had before where that is another file.
environment (default):
  RUN_DIR (run), STREAMD_BIN           the stack
  STACK_TAG (streamd)                  tag of the stack's registrations
  CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN (or CONSUL_HTTP_TOKEN_FILE)  with --hosts: any agent of the data centre
  REMOTE_SHELL (ssh)                   with --hosts: run as REMOTE_SHELL [USER@]ADDRESS systemctl restart streamd
USAGE
}

# A watch drains for up to 15 s (DRAIN_SECONDS_MAX); an agent that hangs costs it more.
LEAVE_SECONDS=45
# The watch has waited for all of it; this bounds an agent that fails just then.
OUT_SECONDS=10
# A watch that is in the middle of a drain: the next one lifts the maintenance that it has set.
WITHDRAW_SECONDS=5
# Requests that old NGINX workers have in flight. What takes longer is finished by the replica's own drain.
OLD_WORKERS_SECONDS=10
# drain_timeout_ms is 30 s; streamd ends by itself shortly after.
STOP_SECONDS=40
START_SECONDS=20
# A watch registers at once; Consul's own first check comes within 10 s.
PASSING_SECONDS=30
LISTED_SECONDS=10
# Above TimeoutStopSec of streamd-consul@ (60 s) and of streamd (40 s).
REMOTE_SECONDS=120

HOSTS=()
STARTED_CS=0

main() {
    parse_arguments "$@"
    take_uptime
    STARTED_CS=$UPTIME_CS
    # A signal may end a command whose output goes elsewhere, and that of put_back then went there too.
    exec 7>&1 8>&2
    trap put_back EXIT
    end_by_signals
    if ((${#HOSTS[@]})); then
        restart_hosts
    else
        restart_stack
    fi
}

parse_arguments() {
    case ${1:-} in
        '') ((!IS_INSTALLED)) || die_usage "there is no development stack here: name hosts with --hosts" ;;
        -h | --help) usage && exit 0 ;;
        --hosts) shift && take_hosts "$@" ;;
        *) die_usage "unknown argument \"$1\"" ;;
    esac
}

take_hosts() {
    local host
    (($#)) || die_usage "--hosts needs at least one address"
    for host in "$@"; do
        # No word of it can be an option of the remote shell.
        [[ $host =~ ^([0-9A-Za-z_][0-9A-Za-z._-]*@)?[0-9A-Za-z][0-9A-Za-z.:-]*$ ]] ||
            die_usage "\"$host\" is neither an address nor USER@ADDRESS"
        HOSTS+=("$host")
    done
}

# step TEXT: one line with the seconds since the start.
step() {
    take_uptime
    local tenths=$(((UPTIME_CS - STARTED_CS) / 10))
    printf '%4d.%d s  %s\n' "$((tenths / 10))" "$((tenths % 10))" "$*"
}

# ---------------------------------------------------------------- ending early

# The replica that is out of rotation, whether it was told to stop, and the program that it ran before.
TAKEN_OUT=
IS_STOPPED=0
PROGRAM_BEFORE=
# STREAMD has ended instead of serving.
IS_STREAMD_BAD=0
# The host whose restart is under way.
HOST_UNDER_WAY=

end_by_signals() {
    trap 'break_off 129' HUP
    trap 'break_off 130' INT
    trap 'break_off 141' PIPE
    trap 'break_off 143' TERM
}

# bash sends itself another SIGINT where a command substitution died of one: that must not end put_back.
break_off() {
    trap : HUP INT PIPE TERM
    exit "$1"
}

# A program that is started outlives this script, and keeps none of its descriptors open.
detached() { "$@" 7>&- 8>&- 9>&- >/dev/null; }

# Runs steps that must not be cut in two, such as a start and the note of its pid: signals take effect behind it.
undisturbed() {
    local status=0 signalled=0
    trap 'signalled=129' HUP
    trap 'signalled=130' INT
    trap 'signalled=141' PIPE
    trap 'signalled=143' TERM
    "$@" || status=$?
    end_by_signals
    ((signalled == 0)) || break_off "$signalled"
    return "$status"
}

# Runs at every end. Nothing here may end it early: whoever is out of rotation would stay so.
put_back() {
    local status=$? number=$TAKEN_OUT
    trap : HUP INT PIPE TERM
    set +e
    { exec 1>&7 2>&8; } 2>/dev/null
    if [[ -n $HOST_UNDER_WAY ]]; then
        warn "ended while $HOST_UNDER_WAY restarted: look at systemctl status streamd there; the hosts after it were not touched"
    fi
    [[ -n $number ]] || return "$status"
    TAKEN_OUT=
    warn "ended before replica-$number was back: putting it back; the replicas after it were not touched"
    stop_processes TERM "$WITHDRAW_SECONDS" "register-replica-$number" 2>/dev/null
    if is_running_again "$number" && detached start_registration "$number"; then
        say_where_it_is "$number"
    else
        warn "replica-$number stays out of rotation and down: mend it and run scripts/up.sh, which starts it"
    fi
    return "$status"
}

is_running_again() {
    local program
    if ((!IS_STOPPED)) && process_lives "replica-$1"; then return 0; fi
    stop_processes TERM "$STOP_SECONDS" "replica-$1"
    for program in "$STREAMD" "$PROGRAM_BEFORE"; do
        [[ -x $program ]] || continue
        if [[ $program == "$STREAMD" ]] && ((IS_STREAMD_BAD)); then continue; fi
        detached start_replica "$1" "$program"
        if became_healthy "$1" "$START_SECONDS"; then
            warn "replica-$1 runs $program"
            return 0
        fi
    done
    return 1
}

say_where_it_is() {
    if ! wait_for "$PASSING_SECONDS" is_passing "127.0.0.$1"; then
        warn "replica-$1 runs and registers as soon as Consul answers: see scripts/status.sh"
    elif ! wait_for "$LISTED_SECONDS" is_listed "$1"; then
        warn "replica-$1 runs and is registered, but NGINX's lists don't have it: see scripts/status.sh"
    else
        warn "replica-$1 is back in rotation"
    fi
}

# ---------------------------------------------------------------- the stack

restart_stack() {
    stack_is_recorded || die "the stack is down: start it with scripts/up.sh"
    lock_stack
    load_settings
    use_stack_consul
    UPSTREAMS_DIR="$NGINX_DIR/upstreams"
    check_stack
    local i
    for ((i = 1; i <= REPLICAS; i++)); do
        check_rotation "$i"
        restart_replica "$i"
    done
    step "all $REPLICAS replicas were restarted"
}

# Checks everything that can be known before a replica is touched.
check_stack() {
    local i name
    STREAMD=$(realpath -m "$(streamd_path)")
    [[ -x $STREAMD ]] || die "there is no program at $STREAMD: run cargo build --release -p streamd, or set STREAMD_BIN"
    for ((i = 1; i <= REPLICAS; i++)); do check_configuration "$i"; done
    ((REPLICAS > 1)) || die "nothing would serve while the only replica restarts: raise REPLICAS and run scripts/up.sh"
    for name in consul nginx nginx-upstreams; do
        process_lives "$name" || die "$name does not run, nothing was touched: run scripts/up.sh first"
    done
    consul_ready || die "nothing was touched: $(api_error)"
    for ((i = 1; i <= REPLICAS; i++)); do
        is_passing "127.0.0.$i" || die "Consul does not call replica-$i passing, nothing was touched: see scripts/status.sh"
        wait_for "$LISTED_SECONDS" is_listed "$i" ||
            die "NGINX's lists don't have replica-$i, nothing was touched: see scripts/status.sh"
    done
}

# Checks the replica as it will be started: what is right for one replica need not be for another.
check_configuration() {
    local streamd_says
    replica_command "$1" "$STREAMD"
    streamd_says=$(cd "$RUN_DIR" && exec_in_stack_environment "${REPLICA_COMMAND[@]}" --check 2>&1 </dev/null 9>&-) ||
        die "$STREAMD refuses the configuration of replica-$1, nothing was touched: $(tail -n 1 <<<"$streamd_says")"
}

# A replica may leave where somebody else serves, and where its leaving reaches NGINX and is seen here.
check_rotation() {
    local i reason plane rest="replica-$1 and those after it were not touched"
    consul_ready || die "$rest: $(api_error)"
    if reason=$(lists_stand_still "$UPSTREAMS_DIR"); then
        die "NGINX's lists can't change, $rest: $reason (log: $LOG_DIR/nginx-upstreams.log)"
    fi
    for plane in control data; do
        balancer_is_live "$plane" ||
            die "NGINX doesn't tell in Consul whom it sends to, $rest: see $LOG_DIR/nginx-upstreams.log"
    done
    for ((i = 1; i <= REPLICAS; i++)); do
        if ((i != $1)) && is_passing "127.0.0.$i" && is_listed "$i"; then return 0; fi
    done
    die "nobody else would serve, $rest: see scripts/status.sh"
}

restart_replica() {
    local i=$1 name="replica-$1"
    step "$name: leaving Consul and NGINX's lists"
    TAKEN_OUT=$i IS_STOPPED=0 PROGRAM_BEFORE=$(program_of "$name")
    stop_processes TERM "$LEAVE_SECONDS" "register-$name"
    wait_for "$OUT_SECONDS" is_out "$i" || die "$name was not stopped, since it may still be sent to: $SENT_BY"
    wait_for "$OLD_WORKERS_SECONDS" no_nginx_connection "$i" ||
        step "$name: old NGINX workers have requests in flight on it, which its drain finishes"
    step "$name: stopping (pid $(process_pid "$name" || echo none))"
    IS_STOPPED=1
    stop_processes TERM "$STOP_SECONDS" "$name"
    step "$name: starting $STREAMD"
    undisturbed detached start_replica "$i" "$STREAMD"
    if ! became_healthy "$i" "$START_SECONDS"; then
        IS_STREAMD_BAD=1
        give_up "$i" "it does not answer OK to http://127.0.0.$i:$CONTROL_PORT/health" "$LOG_DIR/$name.log"
    fi
    IS_STOPPED=0
    step "$name: healthy (pid $(process_pid "$name" || echo none)), registering"
    undisturbed detached start_registration "$i"
    wait_for "$PASSING_SECONDS" is_passing "127.0.0.$i" ||
        give_up "$i" "Consul does not call it passing" "$LOG_DIR/register-$name.log"
    wait_for "$LISTED_SECONDS" is_listed "$i" ||
        give_up "$i" "NGINX's lists don't have it" "$LOG_DIR/nginx-upstreams.log"
    TAKEN_OUT=
    step "$name: back in NGINX's lists"
}

# Prints the program that a process was started as; nothing where it doesn't run.
program_of() {
    local pid words=()
    pid=$(process_pid "$1") || return 0
    { mapfile -d '' -t words <"/proc/$pid/cmdline"; } 2>/dev/null
    printf '%s' "${words[0]:-}"
}

give_up() {
    step "replica-$1: did not come back: $2"
    die_with_log "the replicas after it were not touched" "$3"
}

# Names who may still send to the replica, when is_out fails.
SENT_BY=

# is_out NUMBER: neither Consul nor a balancer anywhere sends to it, nor do the lists of the stack's own NGINX.
is_out() {
    local reason
    SENT_BY=
    is_held "$1" file-server-http "$CONTROL_PORT" || is_held "$1" file-server-tcp "$DATA_PORT" || {
        if lists "$1" control "$CONTROL_PORT" || lists "$1" data "$DATA_PORT"; then
            SENT_BY="NGINX's lists have it (log: $LOG_DIR/nginx-upstreams.log)"
        elif reason=$(lists_stand_still "$UPSTREAMS_DIR"); then
            SENT_BY="NGINX's lists can't change: $reason"
        fi
    }
    [[ -z $SENT_BY ]]
}

# is_held NUMBER NAME PORT: somebody still has it, or Consul doesn't tell; sets SENT_BY.
is_held() {
    if ! holders_of "$2" "$2-127.0.0.$1-$3" "127.0.0.$1:$3"; then
        SENT_BY=$(api_error)
    elif ((${#HOLDERS[@]})); then
        SENT_BY="${HOLDERS[*]} still has it"
    fi
    [[ -n $SENT_BY ]]
}

is_listed() { lists "$1" control "$CONTROL_PORT" && lists "$1" data "$DATA_PORT"; }

# lists NUMBER PLANE PORT: in what NGINX works with, which may not yet be what is in its files.
lists() { grep -qsF "server 127.0.0.$1:$3 " "$(list_in_force "$2" "$UPSTREAMS_DIR")"; }

# True when no NGINX worker, new or old, has a connection to the control plane of the replica. Those to its data
# plane last as long as their clients like; it closes them itself.
no_nginx_connection() {
    local inodes inode
    inodes=$(connected_inodes "127.0.0.$1" "$CONTROL_PORT")
    [[ -n $inodes ]] || return 0
    local held
    held=$(nginx_sockets)
    for inode in $inodes; do
        if [[ $held == *"socket:[$inode]"* ]]; then return 1; fi
    done
}

# Prints the socket inodes of established connections to an IPv4 address and port, from proc(5) net/tcp.
connected_inodes() {
    local a b c d peer
    IFS=. read -r a b c d <<<"$1"
    printf -v peer '%02X%02X%02X%02X:%04X' "$d" "$c" "$b" "$a" "$2"
    awk -v peer="$peer" '$3 == peer && $4 == "01" {print $10}' /proc/net/tcp
}

# Lists the sockets of all processes in NGINX's session, its old workers among them.
nginx_sockets() {
    local leader directory
    leader=$(process_pid nginx) || return 0
    for directory in /proc/[0-9]*; do
        read_stat "${directory#/proc/}" || continue
        [[ $STAT_SESSION == "$leader" ]] || continue
        find "$directory/fd" -type l -lname 'socket:*' -printf '%l\n' 2>/dev/null || true
    done
}

# ---------------------------------------------------------------- hosts

restart_hosts() {
    local host
    consul_ready || die "nothing was touched: $(api_error)"
    for host in "${HOSTS[@]}"; do
        is_passing "${host#*@}" ||
            die "nothing was touched: Consul does not call both services of ${host#*@} passing; is it registered so, with the tag $STACK_TAG?"
    done
    for host in "${HOSTS[@]}"; do
        restart_host "$host"
    done
    step "all ${#HOSTS[@]} hosts were restarted"
}

# systemd stops streamd-consul@ first, which takes the host out of the lists and waits.
restart_host() {
    local host=$1 address=${1#*@} rest="${1#*@} and the hosts after it were not touched" remote_shell
    read -ra remote_shell <<<"${REMOTE_SHELL:-ssh}"
    consul_ready || die "$rest: $(api_error)"
    others_serve "$address" || die "nothing would serve while it restarts ($OTHERS_FAULT): $rest"
    balancers_follow || die "$BALANCER_FAULT: $rest"
    step "$address: systemctl restart streamd"
    HOST_UNDER_WAY=$address
    # In the foreground: an interrupt from the terminal ends it too.
    timeout --foreground "$REMOTE_SECONDS" "${remote_shell[@]}" "$host" systemctl restart streamd </dev/null ||
        die "$address did not restart"
    wait_for "$PASSING_SECONDS" is_passing "$address" ||
        die "$address is not passing after $PASSING_SECONDS s: see its journal"
    HOST_UNDER_WAY=
    step "$address: back"
}

OTHERS_FAULT=

# others_serve ADDRESS: another host passes in both services, and so does one that each load balancer sends to which sends
# to this one: a stranger under the same name may pass as well, and no balancer takes him.
others_serve() {
    local name others keys
    OTHERS_FAULT=
    for name in file-server-http file-server-tcp; do
        if ! consul_api GET "/v1/health/service/$name?passing"; then
            OTHERS_FAULT=$(api_error)
        elif ! others=$(judged "$name" | awk -F '\t' -v own="$1" '$1 == "take" && $3 != own { print $2 }'); then
            OTHERS_FAULT="Consul's answer about $name can't be read"
        elif [[ -z $others ]]; then
            OTHERS_FAULT="no other $name passes"
        elif ! consul_api GET "/v1/kv/$BALANCERS_KEY/?recurse"; then
            # 404: no balancer tells anything.
            [[ $API_STATUS == 404 ]] || OTHERS_FAULT=$(api_error)
        elif ! keys=$(jq -r --arg name "$name" --arg own "$1" --arg others "$others" \
            "$JQ_BALANCERS | $JQ_SENDS_TO_NO_OTHER" <<<"$API_BODY" 2>/dev/null); then
            OTHERS_FAULT="what Consul has below $BALANCERS_KEY can't be read"
        elif [[ -n $keys ]]; then
            OTHERS_FAULT="${keys//$'\n'/ } sends to no other $name"
        fi
        [[ -z $OTHERS_FAULT ]] || return 1
    done
}

# shellcheck disable=SC2016  # variables of jq
JQ_SENDS_TO_NO_OTHER='
    ($others | split("\n")) as $others | (if $own | contains(":") then "[\($own)]:" else "\($own):" end) as $prefix
    | select(.value.service == $name and any(.value.servers[] | strings; startswith($prefix))
             and all(.value.servers[]; . as $server | all($others[]; . != $server))) | .key'

BALANCER_FAULT=

# Each follower of a load balancer's lists that is registered is heard of. Where there are none, nobody's lists are known.
balancers_follow() {
    local silent
    BALANCER_FAULT=
    if ! consul_api GET /v1/health/service/nginx-upstreams; then
        BALANCER_FAULT=$(api_error)
    elif ! silent=$(jq -r '[.[] | select(any(.Checks[]; .Status != "passing")) | .Service.ID | gsub("[^!-~]"; "?")]
        | join(" ")' <<<"$API_BODY" 2>/dev/null); then
        BALANCER_FAULT="Consul's answer about nginx-upstreams can't be read"
    elif [[ -n $silent ]]; then
        BALANCER_FAULT="lists of NGINX can't change: $silent isn't passing in Consul"
    fi
    [[ -z $BALANCER_FAULT ]]
}

# is_passing ADDRESS: both of its services, with the tag and the ID of the stack: anybody may register an address.
is_passing() {
    local name
    for name in file-server-http file-server-tcp; do
        consul_api GET "/v1/health/service/$name?passing" &&
            judged "$name" | awk -F '\t' -v own="$1" '$1 == "take" && $3 == own { found = 1 } END { exit !found }' || return 1
    done
}

# judged NAME: what upstreams.jq says of the entries in API_BODY, without a look at their proofs.
judged() {
    jq -n -r -L "$LIB_DIR" --arg service "$1" --arg tag "$STACK_TAG" -f "$LIB_DIR/upstreams.jq" <<<"$API_BODY" 2>/dev/null
}

main "$@"
