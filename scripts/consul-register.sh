#!/usr/bin/env bash
# Registers one streamd replica, or NGINX, with the local Consul agent through its API.
# Run with --watch beside each replica: it registers once the replica is ready and again when the agent has
# forgotten, and takes the replica out of rotation before it ends. One watch serves one replica, so that
# stopping a single replica is stopping its watch and then the daemon; systemd/streamd-consul@.service does so.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/values.sh"
source "$LIB_DIR/waiting.sh"
source "$LIB_DIR/signals.sh"
source "$LIB_DIR/network.sh"
source "$LIB_DIR/consul.sh"
source "$LIB_DIR/balancers.sh"
source "$LIB_DIR/addresses.sh"
source "$LIB_DIR/proof.sh"

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
  CONSUL_HTTP_ADDR (127.0.0.1:8500), CONSUL_HTTP_TOKEN or CONSUL_HTTP_TOKEN_FILE
  REGISTRATION_KEY_FILE   key of the proof by which load balancers know the stack's replicas; none for none
                          (run/registration.key; on servers /etc/streamd/registration.key)
  STACK_TAG (streamd)     tag by which they know them
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
# A round that is under way ends first: what it registers must not come behind the maintenance mark.
ROUND_SECONDS=10

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
    DRAIN_SECONDS=$((10#$DRAIN_SECONDS))
    DRAIN_SECONDS_MAX=${DRAIN_SECONDS_MAX:-$((DRAIN_SECONDS > 15 ? DRAIN_SECONDS : 15))}
    is_number "$DRAIN_SECONDS_MAX" "$DRAIN_SECONDS" 600 ||
        die_usage "DRAIN_SECONDS_MAX is \"$DRAIN_SECONDS_MAX\": it must be DRAIN_SECONDS to 600"
    DRAIN_SECONDS_MAX=$((10#$DRAIN_SECONDS_MAX))
    local kind=${1:-} address=${2:-}
    case $kind in
        replica) (($# <= 4)) && define_replica "$address" "${3:-8080}" "${4:-8081}" ;;
        nginx) (($# <= 3)) && define_nginx "$address" "${3:-80}" ;;
        *) die_usage "\"$kind\" is neither replica nor nginx" ;;
    esac || die_usage "too many arguments"
}

# ---------------------------------------------------------------- what is registered

# Load balancers take a replica that has the stack's tag, and its proof where there is a key.
define_replica() {
    local address=$1 data_port=$2 control_port=$3
    # Whoever resolves a name may be told another address at each time.
    is_address "$address" || die_usage "ADDRESS is \"$address\": give the replica's IPv4 or IPv6 address"
    load_key
    define file-server-tcp "$address" "$data_port" "[\"tcp\",\"file\",\"server\",\"$STACK_TAG\"]" \
        "$(tcp_check "$address" "$data_port")"
    define file-server-http "$address" "$control_port" "[\"http\",\"file\",\"server\",\"$STACK_TAG\"]" \
        "$(http_check "$address" "$control_port")"
}

define_nginx() {
    [[ $1 =~ ^[0-9A-Za-z.:-]+$ ]] || die_usage "ADDRESS is \"$1\": give an IP address or host name"
    define nginx "$1" "$2" '["load-balancer","nginx","reverse-proxy"]' "$(tcp_check "$1" "$2")"
}

HAS_KEY=0

load_key() {
    [[ $STACK_TAG =~ ^[0-9A-Za-z._-]{1,64}$ ]] || die_usage "STACK_TAG is \"$STACK_TAG\": it takes letters, digits, . _ and -"
    if registration_key_load; then
        HAS_KEY=1
    elif [[ ${REGISTRATION_KEY_FILE:-} != none && $MODE != deregister ]]; then
        log "registering without a proof, which load balancers with a key don't take: $KEY_ERROR"
    fi
}

# define NAME ADDRESS PORT TAGS_JSON CHECK_JSON
define() {
    local name=$1 address=$2 port=$3 id meta='{}'
    is_number "$port" 1 65535 || die_usage "port \"$port\" must be a number from 1 to 65535"
    port=$((10#$port))
    id="$name-$address-$port"
    if ((HAS_KEY)); then meta=$(jq -n --arg proof "$(registration_proof "$name" "$address" "$port")" '{"streamd-proof": $proof}'); fi
    SERVICE_IDS+=("$id")
    PORTS[$id]=$port
    REGISTRATIONS[$id]=$(jq -n --arg id "$id" --arg name "$name" --arg address "$address" \
        --argjson port "$port" --argjson tags "$4" --argjson meta "$meta" --argjson check "$5" \
        --arg interval "$CHECK_INTERVAL" --arg timeout "$CHECK_TIMEOUT" --arg after "$DEREGISTER_AFTER" '{
            ID: $id, Name: $name, Tags: $tags, Meta: $meta, Address: $address, Port: $port,
            Check: ($check + {CheckID: "service:\($id)", Interval: $interval, Timeout: $timeout,
                              DeregisterCriticalServiceAfter: $after})}')
}

tcp_check() {
    jq -n --arg peer "$(host_port "$1" "$2")" '{Name: "port accepts connections", TCP: $peer}'
}

http_check() {
    jq -n --arg peer "$(host_port "$1" "$2")" '{Name: "GET /health", HTTP: "http://\($peer)/health"}'
}

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

IS_FIRST_ROUND=1
# Entries that a predecessor registered may be outdated; and an agent that was away for a while has begun anew and
# takes all services for critical until it has asked them.
IS_ANEW=1
# The entries that somebody else has registered since.
CHANGED=()
# The agent's word on its checks, in a round that registers what it knows.
CHECKS='{}'
WATCH_STATE=

# This process is told only once to end, and must hear it: no $( ) from the trap on (signals.sh), so that its children
# do the work.
watch() {
    local worker
    trap 'IS_STOPPING=1; end_pause' TERM INT
    keep_registering &
    worker=$!
    # Not wait: a signal between a look at IS_STOPPING and the wait would be lost.
    while pause 1 && ((!IS_STOPPING)); do
        kill -0 "$worker" 2>/dev/null && continue
        log "the watch ended by itself: starting it again"
        keep_registering &
        worker=$!
    done
    trap : TERM INT
    tell_to_end "$ROUND_SECONDS" "$worker"
    (trap - TERM INT && leave) &
    worker=$!
    while kill -0 "$worker" 2>/dev/null; do wait "$worker" || true; done
}

# Until it is told to end, or the watch has died.
keep_registering() {
    heed_signals
    while is_wanted "$$"; do
        keep_registered
        pause_or_told "$WATCH_POLL_SECONDS"
    done
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
    find_changed "$services"
    if ((IS_ANEW || ${#CHANGED[@]})); then
        if ! consul_api GET /v1/agent/checks; then
            note_failure
            return 0
        fi
        CHECKS=$API_BODY
    fi
    for id in "${SERVICE_IDS[@]}"; do
        if ! knows "$services" "$id" || needs_renewal "$id"; then missing+=("$id"); fi
    done
    if ((${#missing[@]})); then
        register_each "${missing[@]}"
    elif ((${#CHANGED[@]})); then
        change_state "changed ${CHANGED[*]}" "somebody else has registered ${CHANGED[*]}: it is in maintenance, and stays as it is until that ends"
    else
        note_registered
    fi
}

# find_changed SERVICES: sets CHANGED. Whoever registers may use an ID of ours, by hand and without the key as well: load
# balancers then drop what still passes, and would for ever.
find_changed() {
    mapfile -t CHANGED < <(jq -r --argjson own "[$(IFS=, && printf '%s' "${REGISTRATIONS[*]}")]" "$JQ_CHANGED" <<<"$1" 2>/dev/null)
}

# shellcheck disable=SC2016  # variables of jq
JQ_CHANGED='
    def identity: [.Address, .Port, (.Tags // [] | sort), (.Meta // {} | .["streamd-proof"])];
    . as $known | $own[] | . as $one | $known[.ID] | select(type == "object")
    | select([.Service] + identity != [$one.Name] + ($one | identity)) | $one.ID'

# knows JSON_OBJECT KEY
knows() { jq -e --arg key "$2" 'has($key)' <<<"$1" >/dev/null 2>&1; }

# Registering also takes the maintenance mark away. One that somebody set while this watch runs stays.
needs_renewal() { { ((IS_ANEW)) || is_changed "$1"; } && { ((IS_FIRST_ROUND)) || ! knows "$CHECKS" "_service_maintenance:$1"; }; }

is_changed() { [[ " ${CHANGED[*]} " == *" $1 "* ]]; }

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
        if ((!IS_FIRST_ROUND)) && is_changed "$id"; then log "somebody else had registered $id: taken back"; fi
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
    address=$(registered Address "$1")
    if [[ $1 == file-server-http-* ]]; then
        peer=$(host_port "$address" "${PORTS[$1]}")
        [[ $(direct_curl -s --max-time "$READY_TIMEOUT_S" "http://$peer/health" 2>/dev/null) == OK* ]]
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

# Consul drops the service from its healthy ones at once; load balancers follow in their own time. An agent that fails
# meanwhile is asked again.
await_unlisted() {
    local started_cs elapsed_s
    take_uptime
    started_cs=$UPTIME_CS
    pause "$DRAIN_SECONDS"
    until is_unlisted; do
        take_uptime
        elapsed_s=$(((UPTIME_CS - started_cs) / 100))
        if ((elapsed_s >= DRAIN_SECONDS_MAX)); then
            log "drain ended after $elapsed_s s, $(still_listed)"
            return 0
        fi
        pause 0.2
    done
    take_uptime
    log "drained after $(((UPTIME_CS - started_cs) / 100)) s: neither Consul nor a load balancer lists it"
}

HOLDERS_OF_ALL=()
HOLDERS_ERROR=

# Nobody sends to any service of ours any more. Where that isn't so, still_listed says who does.
is_unlisted() {
    local id
    HOLDERS_OF_ALL=() HOLDERS_ERROR=
    for id in "${SERVICE_IDS[@]}"; do
        if ! holders_of "$(registered Name "$id")" "$id" "$(host_port "$(registered Address "$id")" "${PORTS[$id]}")"; then
            HOLDERS_ERROR=$(api_error)
            return 1
        fi
        HOLDERS_OF_ALL+=("${HOLDERS[@]}")
    done
    ((${#HOLDERS_OF_ALL[@]} == 0))
}

still_listed() {
    if [[ -n $HOLDERS_ERROR ]]; then
        printf 'who lists it is not known: %s' "$HOLDERS_ERROR"
    else
        printf 'still listed by: %s' "${HOLDERS_OF_ALL[*]}"
    fi
}

# registered FIELD ID
registered() { jq -r ".$1" <<<"${REGISTRATIONS[$2]}"; }

main "$@"
