#!/usr/bin/env bash
# Registers one streamd replica, or NGINX, with the local Consul agent through its API.
# Run with --watch beside each replica: it registers once the replica is ready and again when the agent has
# forgotten, and takes the replica out of rotation before it ends. One watch serves one replica, so that
# stopping a single replica is stopping its watch and then the daemon; systemd/streamd-consul@.service does so.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=lib-consul.sh
source "$SCRIPTS_DIR/lib-consul.sh"

usage() {
    cat <<'USAGE'
usage: consul-register.sh [--watch | --deregister] replica ADDRESS [DATA_PORT [CONTROL_PORT]]
       consul-register.sh [--watch | --deregister] nginx ADDRESS [PORT]

  replica       file-server-tcp on DATA_PORT (8080) and file-server-http on CONTROL_PORT (8081)
  nginx         nginx on PORT (80)
  --watch       register when it answers, and again whenever the agent has forgotten; on SIGTERM or SIGINT
                set maintenance, wait until load balancers have dropped it, deregister, and end
  --deregister  remove the registration and end

environment (default):
  CONSUL_HTTP_ADDR (127.0.0.1:8500), CONSUL_HTTP_TOKEN
  DRAIN_SECONDS (2)       time between maintenance and the end for whoever asks Consul by himself
  DRAIN_SECONDS_MAX (15)  time at most to wait for the load balancers whose lists nginx-upstreams.sh
                          keeps: it tells in Consul's key-value store which servers NGINX has
USAGE
}

# A service must be back within 15 s after its agent lost it.
WATCH_POLL_SECONDS=3
# Consul ends a check after 1 s and repeats it every 10 s: a dead replica is known within 11 s.
CHECK_INTERVAL=10s
CHECK_TIMEOUT=1s
# Long enough for a restart or a short outage of the host; Consul's own lower limit is one minute.
DEREGISTER_AFTER=10m
# At its end a watch gives an agent that is just restarting this long to take the maintenance mark.
MAINTENANCE_SECONDS=10
READY_TIMEOUT_S=2

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
    DRAIN_SECONDS_MAX=${DRAIN_SECONDS_MAX:-$((DRAIN_SECONDS > 15 ? DRAIN_SECONDS : 15))}
    is_number "$DRAIN_SECONDS_MAX" "$DRAIN_SECONDS" 600 ||
        die_usage "DRAIN_SECONDS_MAX is \"$DRAIN_SECONDS_MAX\": it must be DRAIN_SECONDS to 600"
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
        lift_maintenance "$id" || return 1
        log "registered $id"
    done
}

# register ID [passing]: Consul takes a service for critical until its first check, within 10 s; whoever has
# just asked the service himself may say that it passes.
register() {
    local registration=${REGISTRATIONS[$1]}
    if [[ -n ${2:-} ]]; then registration=$(jq --arg status "$2" '.Check.Status = $status' <<<"$registration"); fi
    consul_api PUT '/v1/agent/service/register?replace-existing-checks=true' "$registration"
}

# A maintenance mark left by a watch that was killed would keep the service out of rotation.
lift_maintenance() { consul_api PUT "/v1/agent/service/maintenance/$1?enable=false"; }

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
IS_FIRST_ROUND=1
# What a predecessor registered may be outdated; and an agent that was away for a while has begun anew and
# takes all services for critical until it has asked them.
IS_ANEW=1
# What the agent says of its checks, in a round that registers anew.
CHECKS='{}'
WATCH_STATE=

watch() {
    trap 'STOPPING=1; end_pause' TERM INT
    while ((!STOPPING)); do
        keep_registered
        ((STOPPING)) || pause "$WATCH_POLL_SECONDS"
    done
    # Not ignored: what this script runs would ignore them too, and time-outs work by them.
    trap : TERM INT
    leave
}

# One round: asks the agent what it knows and adds what is missing.
keep_registered() {
    local id services missing=()
    if ! consul_api GET /v1/agent/services; then
        note_failure
        return 0
    fi
    services=$API_BODY
    CHECKS='{}'
    if ((IS_ANEW)); then
        if ! consul_api GET /v1/agent/checks; then
            note_failure
            return 0
        fi
        CHECKS=$API_BODY
    fi
    for id in "${SERVICE_IDS[@]}"; do
        if ! knows "$services" "$id" || needs_renewal "$id"; then missing+=("$id"); fi
    done
    if ((${#missing[@]} == 0)); then
        note_registered
        return 0
    fi
    register_each "${missing[@]}"
}

# knows JSON_OBJECT KEY
knows() { jq -e --arg key "$2" 'has($key)' <<<"$1" >/dev/null 2>&1; }

# Registering also takes the maintenance mark away. One that somebody set while this watch runs stays.
needs_renewal() { ((IS_ANEW)) && { ((IS_FIRST_ROUND)) || ! knows "$CHECKS" "_service_maintenance:$1"; }; }

# A service that does not answer is not registered: Consul removes a replica that stays critical, and
# adding it back then would only make the list flap.
register_each() {
    local id
    for id in "$@"; do
        if ! is_ready "$id"; then
            change_state not-ready "not registered: $id is not ready; waiting for it"
            return 0
        fi
        if ! drop_critical "$id" || ! register "$id" passing ||
            { ((IS_FIRST_ROUND)) && ! lift_maintenance "$id"; }; then
            note_failure
            return 0
        fi
    done
    WATCH_STATE=
    note_registered
}

# Registering leaves the state of a check as it is (Consul 1.8), critical since the agent's restart: only a new
# check passes at once.
drop_critical() {
    jq -e --arg check "service:$1" '.[$check].Status == "critical"' <<<"$CHECKS" >/dev/null 2>&1 || return 0
    consul_api PUT "/v1/agent/service/deregister/$1" || [[ $API_STATUS == 404 ]]
}

is_ready() {
    local address peer
    address=$(jq -r .Address <<<"${REGISTRATIONS[$1]}")
    if [[ $1 == file-server-http-* ]]; then
        peer=$(host_port "$address" "${PORTS[$1]}")
        [[ $(curl -s --max-time "$READY_TIMEOUT_S" "http://$peer/health" 2>/dev/null) == OK ]]
    else
        port_answers "$address" "${PORTS[$1]}"
    fi
}

note_registered() {
    IS_ANEW=0 IS_FIRST_ROUND=0
    change_state registered "registered: ${SERVICE_IDS[*]}"
}

# An agent that is killed and comes back is refused, reset, without a leader and slow by turns: one state.
note_failure() {
    local state=unavailable
    if [[ $API_STATUS != 000 && $API_STATUS != 5* ]]; then state="status $API_STATUS"; fi
    IS_ANEW=1
    change_state "$state" "$(api_error); trying every $WATCH_POLL_SECONDS s"
}

# change_state STATE MESSAGE: one line per change, none per poll.
change_state() {
    [[ $1 != "$WATCH_STATE" ]] || return 0
    WATCH_STATE=$1
    log "$2"
}

# ---------------------------------------------------------------- the end of a watch

leave() {
    if ! answers; then
        log "stopping: ${SERVICE_IDS[*]} no longer answers, so there is nothing to drain"
    elif ! wait_for "$MAINTENANCE_SECONDS" set_maintenance; then
        log "stopping without a drain, load balancers go on sending: $(api_error)"
    else
        log "draining: maintenance is set on ${SERVICE_IDS[*]}"
        await_unlisted
    fi
    deregister_all || log "not deregistered: $(api_error)"
}

answers() {
    local id
    for id in "${SERVICE_IDS[@]}"; do
        if is_ready "$id"; then return 0; fi
    done
    return 1
}

set_maintenance() {
    local id
    for id in "${SERVICE_IDS[@]}"; do
        # 404: the agent doesn't know the service, so nobody is sent to it.
        consul_api PUT "/v1/agent/service/maintenance/$id?enable=true&reason=shutting%20down" ||
            [[ $API_STATUS == 404 ]] || return 1
    done
}

# Consul drops the service from its healthy ones at once; load balancers follow in their own time.
await_unlisted() {
    local started=$SECONDS
    pause "$DRAIN_SECONDS"
    while holders_known && ((${#HOLDERS[@]})); do
        if ((SECONDS - started >= DRAIN_SECONDS_MAX)); then
            log "drain ended after $((SECONDS - started)) s, still listed by: ${HOLDERS[*]}"
            return 0
        fi
        pause 0.2
    done
    if [[ -n $HOLDERS_ERROR ]]; then
        log "drain ended after $((SECONDS - started)) s, who lists it is not known: $HOLDERS_ERROR"
    else
        log "drained after $((SECONDS - started)) s: neither Consul nor a load balancer lists it"
    fi
}

HOLDERS=()
HOLDERS_ERROR=

# Sets HOLDERS to who still sends to a service of ours as far as Consul knows; fails with HOLDERS_ERROR.
holders_known() {
    local id name balancers
    HOLDERS=() HOLDERS_ERROR=
    for id in "${SERVICE_IDS[@]}"; do
        name=$(jq -r .Name <<<"${REGISTRATIONS[$id]}")
        consul_api GET "/v1/health/service/$name?passing" || { HOLDERS_ERROR=$(api_error) && return 1; }
        if jq -e --arg id "$id" 'any(.[]; .Service.ID == $id)' <<<"$API_BODY" >/dev/null; then
            HOLDERS+=("Consul:$id")
        fi
    done
    if ! consul_api GET "/v1/kv/$BALANCERS_KEY/?recurse"; then
        # 404: no nginx-upstreams.sh has told anything.
        [[ $API_STATUS != 404 ]] || return 0
        HOLDERS_ERROR=$(api_error)
        return 1
    fi
    for id in "${SERVICE_IDS[@]}"; do
        mapfile -t balancers < <(balancers_listing "$(jq -r .Address <<<"${REGISTRATIONS[$id]}")" "${PORTS[$id]}")
        HOLDERS+=("${balancers[@]}")
    done
}

# Prints the keys of the load balancers in API_BODY that send to this server. What was told long ago is of
# one that is gone.
balancers_listing() {
    jq -r --arg server "$(host_port "$1" "$2")" --argjson oldest "$((EPOCHSECONDS - BALANCER_AGE_SECONDS_MAX))" '
        .[] | .Key as $key | (.Value // "" | @base64d | fromjson? // empty)
        | select(.time >= $oldest and (.servers | index([$server]))) | $key' <<<"$API_BODY"
}

main "$@"
