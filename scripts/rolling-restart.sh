#!/usr/bin/env bash
# Restarts streamd replica by replica, so that no request is lost: each is taken out of Consul and of NGINX's
# lists, finishes what it has, starts again, and is back in the lists before the next one's turn. That is also
# how a new version is brought in. Stops at the first replica that does not come back; the others run on.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=lib-consul.sh
source "$SCRIPTS_DIR/lib-consul.sh"

usage() {
    cat <<'USAGE'
usage: rolling-restart.sh
       rolling-restart.sh --hosts [USER@]ADDRESS...

Without arguments, the replicas of the stack that up.sh started, with the binary at STREAMD_BIN or the one
that cargo built last (target/release/streamd).

  --hosts  hosts where streamd runs under systemd beside streamd-consul@ADDRESS: "systemctl restart streamd"
           on each through REMOTE_SHELL, then a wait until Consul calls both its services passing

Exit code: 0 all replicas were restarted, 1 one did not come back or nothing was touched, 2 usage.
environment (default):
  RUN_DIR (run), STREAMD_BIN           the stack
  CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN  with --hosts: any agent of the data centre
  REMOTE_SHELL (ssh)                   with --hosts: run as REMOTE_SHELL [USER@]ADDRESS systemctl restart streamd
USAGE
}

# A watch drains for up to 15 s (DRAIN_SECONDS_MAX); an agent that hangs costs it more.
LEAVE_SECONDS=45
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
STARTED_US=

main() {
    parse_arguments "$@"
    STARTED_US=${EPOCHREALTIME/[.,]/}
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
        [[ $host =~ ^([0-9A-Za-z._-]+@)?[0-9A-Za-z][0-9A-Za-z.:-]*$ ]] ||
            die_usage "\"$host\" is neither an address nor USER@ADDRESS"
        HOSTS+=("$host")
    done
}

# step TEXT: one line with the seconds since the start.
step() {
    local us=$((${EPOCHREALTIME/[.,]/} - STARTED_US))
    printf '%4d.%d s  %s\n' "$((us / 1000000))" "$((us / 100000 % 10))" "$*"
}

# ---------------------------------------------------------------- the stack

restart_stack() {
    [[ -f $STATE_FILE ]] || die "the stack is down: start it with scripts/up.sh"
    lock_stack
    load_settings
    export CONSUL_HTTP_ADDR=$STACK_CONSUL_URL
    unset CONSUL_HTTP_TOKEN
    check_stack
    local i
    for ((i = 1; i <= REPLICAS; i++)); do
        restart_replica "$i"
    done
    step "all $REPLICAS replicas were restarted"
}

# What can be known before a replica is touched.
check_stack() {
    local name streamd_says
    STREAMD=$(realpath -m "$(streamd_path)")
    [[ -x $STREAMD ]] || die "there is no program at $STREAMD: run cargo build --release -p streamd, or set STREAMD_BIN"
    streamd_says=$("$STREAMD" --check --config "$(replica_config 1)" --root "$ROOT_DIR" 2>&1) ||
        die "$STREAMD refuses the configuration, nothing was touched: $(tail -n 1 <<<"$streamd_says")"
    ((REPLICAS > 1)) || die "nothing would serve while the only replica restarts: raise REPLICAS and run scripts/up.sh"
    for name in consul nginx nginx-upstreams; do
        process_lives "$name" || die "$name does not run, nothing was touched: run scripts/up.sh first"
    done
    lists_have_all || die "NGINX's lists don't have all replicas, nothing was touched: see scripts/status.sh"
}

lists_have_all() {
    local i
    for ((i = 1; i <= REPLICAS; i++)); do
        is_listed "$i" || return 1
    done
}

restart_replica() {
    local i=$1 name="replica-$1"
    step "$name: leaving Consul and NGINX's lists"
    stop_processes TERM "$LEAVE_SECONDS" "register-$name"
    is_unlisted "$i" ||
        warn "NGINX's lists still have $name and it stops all the same: see $LOG_DIR/nginx-upstreams.log"
    wait_for "$OLD_WORKERS_SECONDS" no_nginx_connection "$i" ||
        step "$name: old NGINX workers have requests in flight on it, which its drain finishes"
    step "$name: stopping (pid $(process_pid "$name" || echo none))"
    stop_processes TERM "$STOP_SECONDS" "$name"
    step "$name: starting $STREAMD"
    start_replica "$i" "$STREAMD" 9>&- >/dev/null
    if ! became_healthy "$i" "$START_SECONDS"; then
        give_up "$i" "it does not answer OK to http://127.0.0.$i:$CONTROL_PORT/health" "$LOG_DIR/$name.log"
    fi
    step "$name: healthy (pid $(process_pid "$name" || echo none)), registering"
    start_registration "$i" 9>&- >/dev/null
    wait_for "$PASSING_SECONDS" is_passing "127.0.0.$i" ||
        give_up "$i" "Consul does not call it passing" "$LOG_DIR/register-$name.log"
    wait_for "$LISTED_SECONDS" is_listed "$i" ||
        give_up "$i" "NGINX's lists don't have it" "$LOG_DIR/nginx-upstreams.log"
    step "$name: back in NGINX's lists"
}

give_up() {
    step "replica-$1: did not come back: $2"
    die_with_log "the replicas after it were not touched: mend replica-$1 and run scripts/up.sh, which starts it" "$3"
}

is_listed() { lists "$1" control "$CONTROL_PORT" && lists "$1" data "$DATA_PORT"; }

is_unlisted() { ! lists "$1" control "$CONTROL_PORT" && ! lists "$1" data "$DATA_PORT"; }

# lists NUMBER PLANE PORT
lists() { grep -qsF "server 127.0.0.$1:$3 " "$NGINX_DIR/upstreams/$2.conf"; }

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

# Those of all processes in NGINX's session, its old workers among them.
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
            die "nothing was touched: Consul does not call both services of ${host#*@} passing; is it registered so?"
    done
    for host in "${HOSTS[@]}"; do
        restart_host "$host"
    done
    step "all ${#HOSTS[@]} hosts were restarted"
}

# systemd stops streamd-consul@ first, which takes the host out of the lists and waits.
restart_host() {
    local host=$1 address=${1#*@} remote_shell
    read -ra remote_shell <<<"${REMOTE_SHELL:-ssh}"
    others_pass "$address" ||
        die "nothing would serve while $address restarts: it and the hosts after it were not touched"
    step "$address: systemctl restart streamd"
    timeout "$REMOTE_SECONDS" "${remote_shell[@]}" "$host" systemctl restart streamd </dev/null ||
        die "$address did not restart, the hosts after it were not touched: see systemctl status streamd there"
    wait_for "$PASSING_SECONDS" is_passing "$address" ||
        die "$address is not passing after $PASSING_SECONDS s, the hosts after it were not touched: see its journal"
    step "$address: back"
}

others_pass() {
    consul_api GET '/v1/health/service/file-server-tcp?passing' &&
        jq -e --arg address "$1" 'any(.[]; .Service.Address != $address)' <<<"$API_BODY" >/dev/null
}

# is_passing ADDRESS: both of its services.
is_passing() {
    local name
    for name in file-server-http file-server-tcp; do
        consul_api GET "/v1/health/service/$name?passing" || return 1
        jq -e --arg address "$1" 'any(.[]; .Service.Address == $address)' <<<"$API_BODY" >/dev/null || return 1
    done
}

main "$@"
