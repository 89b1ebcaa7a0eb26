#!/usr/bin/env bash
# Registers one streamd replica, or NGINX, with the local Consul agent through its API.
# Run with --watch beside each replica: it registers again when the agent has forgotten, and takes the
# replica out of rotation before it ends. One watch serves one replica, so that stopping a single
# replica is stopping its watch and then the daemon.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=lib-consul.sh
source "$REPO_DIR/scripts/lib-consul.sh"

usage() {
    cat <<'USAGE'
usage: consul-register.sh [--watch | --deregister] replica ADDRESS [DATA_PORT [CONTROL_PORT]]
       consul-register.sh [--watch | --deregister] nginx ADDRESS [PORT]

  replica       file-server-tcp on DATA_PORT (8080) and file-server-http on CONTROL_PORT (8081)
  nginx         nginx on PORT (80)
  --watch       register, and again whenever the agent has forgotten; on SIGTERM or SIGINT set
                maintenance, wait DRAIN_SECONDS (2) so that load balancers notice, and deregister
  --deregister  remove the registration and end

environment: CONSUL_HTTP_ADDR (127.0.0.1:8500), CONSUL_HTTP_TOKEN, DRAIN_SECONDS
USAGE
}

# A service must be back within 15 s after its agent lost it.
WATCH_POLL_SECONDS=3
# Consul ends a check after 1 s and repeats it every 10 s: a dead replica is known within 11 s.
CHECK_INTERVAL=10s
CHECK_TIMEOUT=1s
# Long enough for a restart or a short outage of the host; Consul's own lower limit is one minute.
DEREGISTER_AFTER=10m

MODE=register
SERVICE_IDS=()
declare -A REGISTRATIONS
declare -A PORTS

main() {
    parse_arguments "$@"
    case $MODE in
        register) register_all || die "$(api_error)" ;;
        deregister) deregister_all || die "$(api_error)" ;;
        watch) watch ;;
    esac
}

parse_arguments() {
    while [[ ${1:-} == -* ]]; do
        case $1 in
            -h | --help) usage && exit 0 ;;
            --watch) MODE=watch ;;
            --deregister) MODE=deregister ;;
            *) die_usage "unknown option \"$1\"" ;;
        esac
        shift
    done
    DRAIN_SECONDS=${DRAIN_SECONDS:-2}
    is_number "$DRAIN_SECONDS" 0 600 || die_usage "DRAIN_SECONDS is \"$DRAIN_SECONDS\": it must be 0 to 600"
    local kind=${1:-} address=${2:-}
    [[ $address =~ ^[0-9A-Za-z.:-]+$ ]] || die_usage "ADDRESS is \"$address\": give an IP address or host name"
    case $kind in
        replica) (($# <= 4)) && define_replica "$address" "${3:-8080}" "${4:-8081}" ;;
        nginx) (($# <= 3)) && define_nginx "$address" "${3:-80}" ;;
        *) die_usage "\"$kind\" is neither replica nor nginx" ;;
    esac || die_usage "too many arguments"
}

# ---------------------------------------------------------------- what is registered

define_replica() {
    local address=$1 data_port=$2 control_port=$3
    define file-server-tcp "$address" "$data_port" '["tcp","file","server"]' "$(tcp_check "$address" "$data_port")"
    define file-server-http "$address" "$control_port" '["http","file","server"]' \
        "$(http_check "$address" "$control_port")"
}

define_nginx() {
    define nginx "$1" "$2" '["load-balancer","nginx","reverse-proxy"]' "$(tcp_check "$1" "$2")"
}

# define NAME ADDRESS PORT TAGS_JSON CHECK_JSON
define() {
    local name=$1 address=$2 port=$3 id="$1-$2-$3"
    is_number "$port" 1 65535 || die_usage "port \"$port\" must be a number from 1 to 65535"
    SERVICE_IDS+=("$id")
    PORTS[$id]=$port
    REGISTRATIONS[$id]=$(jq -n --arg id "$id" --arg name "$name" --arg address "$address" \
        --argjson port "$port" --argjson tags "$4" --argjson check "$5" \
        --arg interval "$CHECK_INTERVAL" --arg timeout "$CHECK_TIMEOUT" --arg after "$DEREGISTER_AFTER" '{
            ID: $id, Name: $name, Tags: $tags, Address: $address, Port: $port,
            Check: ($check + {CheckID: "service:\($id)", Interval: $interval, Timeout: $timeout,
                              DeregisterCriticalServiceAfter: $after})}')
}

tcp_check() {
    jq -n --arg peer "$(host_port "$1" "$2")" '{Name: "port accepts connections", TCP: $peer}'
}

http_check() {
    jq -n --arg peer "$(host_port "$1" "$2")" '{Name: "GET /health", HTTP: "http://\($peer)/health"}'
}

host_port() { if [[ $1 == *:* ]]; then printf '[%s]:%s' "$1" "$2"; else printf '%s:%s' "$1" "$2"; fi; }

# ---------------------------------------------------------------- once

register_all() {
    local id
    for id in "${SERVICE_IDS[@]}"; do
        register "$id" || return 1
        log "registered $id"
    done
}

# A maintenance mark left by a watch that was killed would keep the service out of rotation.
register() {
    consul_api PUT '/v1/agent/service/register?replace-existing-checks=true' "${REGISTRATIONS[$1]}" &&
        consul_api PUT "/v1/agent/service/maintenance/$1?enable=false"
}

deregister_all() {
    local id
    for id in "${SERVICE_IDS[@]}"; do
        # 404: newer agents say so when there was nothing to remove.
        consul_api PUT "/v1/agent/service/deregister/$id" || [[ $API_STATUS == 404 ]] || return 1
        log "deregistered $id"
    done
}

# ---------------------------------------------------------------- watch

STOPPING=0
WATCH_STATE=

watch() {
    trap 'STOPPING=1; end_pause' TERM INT
    # What a predecessor registered may be outdated: the first round registers in any case.
    local known='{}'
    while ((!STOPPING)); do
        register_missing "$known"
        ((STOPPING)) || pause "$WATCH_POLL_SECONDS"
        known=
    done
    trap '' TERM INT
    leave
}

# register_missing [SERVICES_JSON]: asks the agent what it knows unless told, and adds what is missing.
register_missing() {
    local known=$1 id missing=()
    if [[ -z $known ]]; then
        if ! consul_api GET /v1/agent/services; then
            change_state "$(api_error); trying every $WATCH_POLL_SECONDS s"
            return 0
        fi
        known=$API_BODY
    fi
    for id in "${SERVICE_IDS[@]}"; do
        jq -e --arg id "$id" 'has($id)' <<<"$known" >/dev/null 2>&1 || missing+=("$id")
    done
    if ((${#missing[@]} == 0)); then
        change_state "registered: ${SERVICE_IDS[*]}"
        return 0
    fi
    register_each "${missing[@]}"
}

# A service that does not answer is not registered: Consul removes a replica that stays critical, and
# adding it back then would only make the list flap.
register_each() {
    local id
    for id in "$@"; do
        if ! port_answers "$(address_of "$id")" "${PORTS[$id]}"; then
            change_state "not registered: $id does not accept connections; waiting for it"
            return 0
        fi
        if ! register "$id"; then
            change_state "$(api_error); trying every $WATCH_POLL_SECONDS s"
            return 0
        fi
    done
    log "registered: $*"
    WATCH_STATE="registered: ${SERVICE_IDS[*]}"
}

address_of() { jq -r .Address <<<"${REGISTRATIONS[$1]}"; }

# One line per change, none per poll.
change_state() {
    [[ $1 != "$WATCH_STATE" ]] || return 0
    WATCH_STATE=$1
    log "$1"
}

leave() {
    local id
    for id in "${SERVICE_IDS[@]}"; do
        consul_api PUT "/v1/agent/service/maintenance/$id?enable=true&reason=shutting%20down" || true
    done
    if [[ $API_STATUS == 2* ]]; then
        log "maintenance set; deregistering in $DRAIN_SECONDS s"
        pause "$DRAIN_SECONDS"
    fi
    deregister_all || log "not deregistered: $(api_error)"
}

main "$@"
