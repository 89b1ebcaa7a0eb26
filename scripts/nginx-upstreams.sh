#!/usr/bin/env bash
# Keeps NGINX's upstream lists equal to the healthy replicas that Consul knows: control.conf from file-server-http,
# data.conf from file-server-tcp. Follows changes with blocking queries; writes a list and reloads NGINX only when it
# changed and `nginx -t` accepts it. Each entry is judged alone, and what is refused is named: anybody may register. A list
# is never emptied: when no instance passes, the last good one stays, since a replica that may answer beats none. What is
# in force is told in Consul's key-value store: there a replica that is about to stop sees whether it still gets traffic.
#
# No errexit: whatever one round meets, the next one follows. What ends all the same is started again, a follower by this
# script, this script by keep.sh or by systemd/streamd-upstreams.service.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/waiting.sh"
source "$LIB_DIR/signals.sh"
source "$LIB_DIR/processes.sh"
source "$LIB_DIR/consul.sh"
source "$LIB_DIR/nginx.sh"
source "$LIB_DIR/balancers.sh"
source "$LIB_DIR/proof.sh"
source "$LIB_DIR/lists.sh"
source "$LIB_DIR/entries.sh"
source "$LIB_DIR/reload.sh"
source "$LIB_DIR/installing.sh"
source "$LIB_DIR/alarm.sh"
source "$LIB_DIR/following.sh"

usage() {
    cat <<'USAGE'
usage: nginx-upstreams.sh [--once] [--dir DIR] [--conf FILE] [--prefix DIR]

  --once        write both lists as Consul sees them now and end; 1 when a list would be empty
                and there is no earlier one
  --dir DIR     where control.conf and data.conf are kept    run/nginx/upstreams
  --conf FILE   configuration of the NGINX to reload         run/nginx/nginx.conf
  --prefix DIR  prefix of that NGINX (nginx -p)              the folder of FILE
Away from the repository the defaults are /etc/nginx/upstreams and /etc/nginx/nginx.conf.

An entry of Consul is taken when its address is an IPv4 or IPv6 address, its port is 1 to 65535, it carries
the tag of the stack, its ID is NAME-ADDRESS-PORT, and it carries the proof that consul-register.sh makes with
the key of the stack. Entries that are refused are in DIR/control.refused and DIR/data.refused.

environment (default):
  CONSUL_HTTP_ADDR (127.0.0.1:8500), CONSUL_HTTP_TOKEN or CONSUL_HTTP_TOKEN_FILE
  RUN_DIR (run)
  STACK_TAG (streamd)     the tag that entries of the stack carry
  REGISTRATION_KEY_FILE   the key of the stack, 64 to 128 hexadecimal digits, the same on all its hosts
                          (run/registration.key; on servers /etc/streamd/registration.key);
                          "none": entries need no proof
A token must be allowed to read the two services, to write the keys below streamd/balancers and sessions of its
agent's node, and to write the service nginx-upstreams, whose checks tell that the lists follow.

Exit code: 0 told to end, 1 failed, 2 usage, 78 no usable key.
USAGE
}

declare -A SERVICES=([control]=file-server-http [data]=file-server-tcp)

# The time that a follower must have run to be started again at once; else it waits 1 to 10 s.
STEADY_SECONDS=30

IS_ONCE=0
UPSTREAMS_DIR="$NGINX_DIR/upstreams"
NGINX_CONF="$NGINX_DIR/nginx.conf"
NGINX_PREFIX=

main() {
    parse_arguments "$@"
    mkdir -p "$UPSTREAMS_DIR" || die "can't create $UPSTREAMS_DIR: choose another --dir"
    # Checked here: in the rounds nobody could be told.
    consul_url >/dev/null || exit 2
    load_key
    if ((IS_ONCE)); then
        write_once
    else
        keep_following
    fi
}

parse_arguments() {
    while (($#)); do
        case $1 in
            -h | --help) usage && exit 0 ;;
            --once) IS_ONCE=1 ;;
            --dir | --conf | --prefix)
                take_path "$@"
                shift
                ;;
            *) die_usage "unknown argument \"$1\"" ;;
        esac
        shift
    done
    NGINX_PREFIX=${NGINX_PREFIX:-$(dirname "$NGINX_CONF")}
}

take_path() {
    [[ -n ${2:-} ]] || die_usage "$1 needs a path"
    local path
    path=$(realpath -m "$2")
    case $1 in
        --dir) UPSTREAMS_DIR=$path ;;
        --conf) NGINX_CONF=$path ;;
        --prefix) NGINX_PREFIX=$path ;;
    esac
}

load_key() {
    [[ $STACK_TAG =~ ^[0-9A-Za-z._-]{1,64}$ ]] || die_usage "STACK_TAG is \"$STACK_TAG\": it takes letters, digits, . _ and -"
    if registration_key_load; then return 0; fi
    if [[ ${REGISTRATION_KEY_FILE:-} == none ]]; then
        IS_PROOF_ASKED=0
        log "entries need no proof: whoever may register services in Consul gets a share of the traffic"
        return 0
    fi
    warn "$KEY_ERROR: make one on one host (openssl rand -hex 32) and copy it to all, or set REGISTRATION_KEY_FILE=none"
    exit 78
}

# ---------------------------------------------------------------- once

write_once() {
    local plane
    for plane in control data; do
        query "$plane" 0 || die "$QUERY_ERROR"
        read_entries "$plane" || die "$QUERY_ERROR"
        if ((${#SERVERS[@]})); then
            install_list "$plane" "${SERVERS[@]}" || die "$plane.conf stays as it was: $LIST_FAULT"
        elif [[ -s $UPSTREAMS_DIR/$plane.conf ]]; then
            log "no instance of ${SERVICES[$plane]} passes: $plane.conf stays as it was"
        fi
        name_refused "$plane"
        [[ -s $UPSTREAMS_DIR/$plane.conf ]] ||
            die "no instance of ${SERVICES[$plane]} passes its checks in Consul: nothing to write to $plane.conf"
    done
}

# ---------------------------------------------------------------- following

# A request to Consul, one that takes back what was told there, and whatever NGINX is asked just then.
END_SECONDS=8
declare -A FOLLOWERS=()
declare -A BEGAN_CS=()
declare -A BACKOFF=([control]=1 [data]=1)
declare -A NOT_BEFORE_CS=([control]=0 [data]=0)

# One follower for each list: a blocking query watches one service. What ends is started again. From the trap on without
# any $( ), since this process is told only once to end (signals.sh).
keep_following() {
    local plane
    trap 'IS_STOPPING=1; end_pause' TERM INT
    # A reader of the log that has gone.
    trap '' PIPE
    while ((!IS_STOPPING)); do
        for plane in control data; do
            keep_follower "$plane"
        done
        pause 1
    done
    stop_followers
}

keep_follower() {
    local plane=$1 now_cs status=0
    take_uptime
    now_cs=$UPTIME_CS
    if [[ -n ${FOLLOWERS[$plane]:-} ]]; then
        if kill -0 "${FOLLOWERS[$plane]}" 2>/dev/null; then return 0; fi
        wait "${FOLLOWERS[$plane]}" || status=$?
        if ((now_cs - BEGAN_CS[$plane] > STEADY_SECONDS * 100)); then BACKOFF[$plane]=1; fi
        log "the follower of $plane.conf ended with $status: starting it again in ${BACKOFF[$plane]} s"
        NOT_BEFORE_CS[$plane]=$((now_cs + BACKOFF[$plane] * 100))
        BACKOFF[$plane]=$((BACKOFF[$plane] * 2 > BACKOFF_SECONDS_MAX ? BACKOFF_SECONDS_MAX : BACKOFF[$plane] * 2))
        FOLLOWERS[$plane]=
    fi
    ((now_cs >= NOT_BEFORE_CS[$plane])) || return 0
    follow "$plane" &
    FOLLOWERS[$plane]=$! BEGAN_CS[$plane]=$now_cs
}

# Followers that are told to end withdraw from Consul what they have told there.
stop_followers() {
    local plane pids=()
    trap '' TERM INT
    for plane in control data; do
        if [[ -n ${FOLLOWERS[$plane]} ]]; then pids+=("${FOLLOWERS[$plane]}"); fi
    done
    tell_to_end "$END_SECONDS" "${pids[@]}"
    CONSUL_TIMEOUT_S=$CONSUL_END_TIMEOUT_S
    alarm_end || log "the alarm in Consul stays, and will go off: $(api_error)"
}

main "$@"
