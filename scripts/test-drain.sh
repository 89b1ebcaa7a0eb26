#!/usr/bin/env bash
# Tests what a replica that leaves waits for: consul-register.sh with a real Consul agent, and load balancers that hold what
# the test wants. Has a state folder and ports of its own.
set -euo pipefail
unset REPLICAS ROOT_DIR HTTP_PORT HTTPS_PORT TCP_PORT DATA_PORT CONTROL_PORT DRAIN_SECONDS DRAIN_SECONDS_MAX
unset CONSUL_HTTP_PORT CONSUL_DNS_PORT CONSUL_SERVER_PORT CONSUL_SERF_PORT CONSUL_HTTP_ADDR CONSUL_HTTP_TOKEN
unset CONSUL_HTTP_TOKEN_FILE REGISTRATION_KEY_FILE STACK_TAG
RUN_DIR=$(mktemp -d "${TMPDIR:-/tmp}/streamd-test-drain.XXXXXX")
export RUN_DIR
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/checks.sh"
source "$LIB_DIR/values.sh"
source "$LIB_DIR/settings.sh"
source "$LIB_DIR/waiting.sh"
source "$LIB_DIR/network.sh"
source "$LIB_DIR/processes.sh"
source "$LIB_DIR/consul-program.sh"
source "$LIB_DIR/consul.sh"
source "$LIB_DIR/balancers.sh"
source "$LIB_DIR/suite.sh"
source "$LIB_DIR/suite-stack.sh"

usage() {
    cat <<'USAGE'
usage: test-drain.sh

Prints one line per check and ends with "N passed, M failed". Exit code 0 when none failed. When one
failed, the logs are kept and their folder is named.
USAGE
}

# A session lives for up to 20 s after its balancer died, and the drain asks five times a second.
DRAIN_SECONDS_AT_MOST=60
STATE_SECONDS=20
# Long enough for a drain that waits for nobody to end.
STILL_SECONDS=2

# What may lie under the balancers' keys besides what balancers write: of older scripts, of clocks that go wrong, of anybody.
ODD_VALUES=('' '"x"' '[1]' 'null' '7' 'NaN' '{{{' '{"servers":["SERVER"]}' '{"time":9999999999,"servers":["SERVER"]}'
    '{"time":0,"servers":["SERVER"]}' '{"service":"file-server-tcp","index":NaN,"servers":["SERVER"]}'
    '{"service":"file-server-tcp","index":"0","servers":[]}' '{"service":"file-server-tcp","index":1e400,"servers":7}'
    '{"service":["file-server-tcp"],"index":0,"servers":["SERVER"]}' '{"service":"file-server-tcp","index":-1,"servers":["SERVER"]}')

main() {
    no_arguments "$@"
    clean_up_at_the_end
    choose_ports
    start_agent
    start_services
    begin_dead_balancer
    test_arguments
    test_no_balancer
    test_listing_balancer
    test_balancer_behind
    test_odd_values
    test_agent_hung
    test_successor
    test_dead_balancer
    test_no_clock
    finish
}

clean_up() {
    local status=$? names
    count_unfinished
    mapfile -t names < <(process_names '*')
    stop_processes TERM 10 "${names[@]}"
    remove_or_keep "$status" "logs are"
}

# ---------------------------------------------------------------- what is there

start_agent() {
    local consul
    mkdir -p "$LOG_DIR" "$PID_DIR"
    consul=$(consul_path) || die "consul is missing: scripts/install-deps.sh installs it"
    start_process consul "$consul" agent "-config-file=$REPO_DIR/consul.hcl" "-data-dir=$RUN_DIR/consul" \
        "-http-port=$CONSUL_HTTP_PORT" "-dns-port=$CONSUL_DNS_PORT" \
        "-server-port=$CONSUL_SERVER_PORT" "-serf-lan-port=$CONSUL_SERF_PORT"
    wait_for "$STATE_SECONDS" consul_ready || die_with_log "the Consul agent doesn't answer" "$LOG_DIR/consul.log"
}

# Stands for the replicas of all tests, on all addresses of loopback: what a watch asks before it registers.
start_services() {
    start_process services python3 -c '
import http.server, sys, threading

class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"OK")

servers = [http.server.ThreadingHTTPServer(("", int(port)), Healthy) for port in sys.argv[1:]]
for server in servers:
    threading.Thread(target=server.serve_forever).start()
' "$DATA_PORT" "$CONTROL_PORT"
    wait_for "$STATE_SECONDS" health_ok 127.0.0.1 "$CONTROL_PORT" ||
        die_with_log "what stands for the replicas doesn't answer" "$LOG_DIR/services.log"
}

# start_watch NUMBER [VARIABLE=VALUE...]: a watch for 127.0.0.NUMBER; returns once both its services pass.
start_watch() {
    local number=$1
    shift
    start_process "watch-$number" env "DRAIN_SECONDS=0" "DRAIN_SECONDS_MAX=$DRAIN_SECONDS_AT_MOST" "$@" \
        "$SCRIPTS_DIR/consul-register.sh" --watch replica "127.0.0.$number" "$DATA_PORT" "$CONTROL_PORT"
    wait_for "$STATE_SECONDS" passes "$number" || die_with_log "watch-$number doesn't register" "$LOG_DIR/watch-$number.log"
}

passes() {
    [[ $(consul_status "$(tcp_id "$1")") == passing &&
        $(consul_status "file-server-http-127.0.0.$1-$CONTROL_PORT") == passing ]]
}

tcp_id() { printf 'file-server-tcp-127.0.0.%s-%s' "$1" "$DATA_PORT"; }

# begin_drain NUMBER
begin_drain() {
    kill -TERM "$(process_pid "watch-$1")"
    wait_for "$STATE_SECONDS" drain_began "$1" || warn "watch-$1 doesn't begin to drain"
}

drain_began() { grep -q 'draining: maintenance is set' "$LOG_DIR/watch-$1.log"; }

waits_still() {
    CHECK_DETAIL="its log ends with: $(tail -n 2 "$LOG_DIR/watch-$1.log")"
    sleep "$STILL_SECONDS"
    process_lives "watch-$1"
}

# drains NUMBER: it ends, and not because its time was up.
drains() {
    wait_for "$DRAIN_SECONDS_AT_MOST" none_lives "watch-$1" || true
    CHECK_DETAIL="its log ends with: $(tail -n 2 "$LOG_DIR/watch-$1.log")"
    none_lives "watch-$1" && grep -q 'drained after .*neither Consul nor a load balancer' "$LOG_DIR/watch-$1.log"
}

# A balancer as balancers.sh has it, in this process: balance INDEX SERVER... for the data planes.
balance() {
    UPSTREAMS_DIR="$RUN_DIR/balancer"
    mkdir -p "$UPSTREAMS_DIR"
    balancer_publish data file-server-tcp "$@" || warn "the balancer's key wasn't written: $(api_error)"
}

# Beyond whatever index Consul has.
INDEX_OF_ALL=999999999

# ---------------------------------------------------------------- the tests

test_arguments() {
    local value
    for value in 08 0600; do
        check "DRAIN_SECONDS=$value is decimal" quiet env "DRAIN_SECONDS=$value" "$SCRIPTS_DIR/consul-register.sh" \
            --deregister replica 127.0.0.99 "$DATA_PORT" "$CONTROL_PORT"
    done
}

test_no_balancer() {
    start_watch 11
    begin_drain 11
    check "no balancer: it drains" drains 11
}

test_listing_balancer() {
    start_watch 12
    balance "$INDEX_OF_ALL" "127.0.0.12:$DATA_PORT" "127.0.0.1:$DATA_PORT"
    begin_drain 12
    check "a balancer that lists it: the drain waits" waits_still 12
    balance "$INDEX_OF_ALL" "127.0.0.1:$DATA_PORT"
    check "a balancer that has dropped it: the drain ends" drains 12
}

# It may be in the middle of a reload that brings the replica in.
test_balancer_behind() {
    start_watch 13
    balance 1 "127.0.0.1:$DATA_PORT"
    begin_drain 13
    check "a balancer that hasn't seen it leave: the drain waits" waits_still 13
    balance "$(maintenance_index 13)" "127.0.0.1:$DATA_PORT"
    check "a balancer that has seen it leave: the drain ends" drains 13
}

maintenance_index() {
    consul_api GET /v1/health/service/file-server-tcp || true
    jq --arg check "_service_maintenance:$(tcp_id "$1")" \
        '.[].Checks[] | select(.CheckID == $check) | .ModifyIndex' <<<"$API_BODY"
}

test_odd_values() {
    local i
    start_watch 14
    balance "$INDEX_OF_ALL" "127.0.0.14:$DATA_PORT"
    for i in "${!ODD_VALUES[@]}"; do put_odd "$i" "${ODD_VALUES[$i]//SERVER/127.0.0.14:$DATA_PORT}"; done
    begin_drain 14
    check "odd values under the balancers' keys: the drain waits for the one balancer" waits_still 14
    balance "$INDEX_OF_ALL"
    check "odd values under the balancers' keys: it doesn't wait for them" drains 14
    consul_api DELETE "/v1/kv/$BALANCERS_KEY/odd/?recurse" || true
}

# Once held by the balancer's own session, and once by none.
put_odd() {
    consul_api PUT "/v1/kv/$BALANCERS_KEY/odd/held-$1?acquire=$BALANCER_SESSION" "$2" || warn "$(api_error)"
    consul_api PUT "/v1/kv/$BALANCERS_KEY/odd/free-$1" "$2" || warn "$(api_error)"
}

# Its session is as good as before when the agent goes on: nothing is given up for one answer that didn't come.
test_agent_hung() {
    start_watch 15
    balance "$INDEX_OF_ALL" "127.0.0.15:$DATA_PORT"
    begin_drain 15
    kill -STOP "$(process_pid consul)"
    sleep $((CONSUL_TIMEOUT_S + STILL_SECONDS))
    check "an agent that hangs during a drain: the drain waits" process_lives watch-15
    kill -CONT "$(process_pid consul)"
    wait_for "$STATE_SECONDS" consul_ready || warn "the agent doesn't come back"
    balance "$INDEX_OF_ALL"
    check "an agent that hung during a drain: the drain ends" drains 15
}

# Killed, it leaves a session and a key, which whoever comes after it removes.
test_successor() {
    (BALANCER_SESSION='' balance "$INDEX_OF_ALL" "127.0.0.16:$DATA_PORT")
    BALANCER_SESSION='' BALANCER_PUBLISHED=''
    balance "$INDEX_OF_ALL" "127.0.0.1:$DATA_PORT"
    check "a successor: the key of the one that was killed is gone" equal '["127.0.0.1:'"$DATA_PORT"'"]' "$(own_keys)"
    balancer_withdraw data
    check "a balancer that ends takes its key away" equal '' "$(own_keys)"
}

# The servers in each key of this test's balancer.
own_keys() {
    consul_api GET "/v1/kv/$(UPSTREAMS_DIR="$RUN_DIR/balancer" balancer_key data)/?recurse" || return 0
    jq -c '.[].Value | @base64d | fromjson.servers' <<<"$API_BODY"
}

# ---------------------------------------------------------------- a balancer that dies

# Its session runs out while the other tests do their work.
begin_dead_balancer() {
    start_watch 10
    (
        UPSTREAMS_DIR="$RUN_DIR/dead-balancer"
        mkdir -p "$UPSTREAMS_DIR"
        balancer_publish data file-server-tcp "$INDEX_OF_ALL" "127.0.0.10:$DATA_PORT"
    ) || warn "the balancer's key wasn't written"
    begin_drain 10
    check "a balancer that died: the drain waits while its session lives" waits_still 10
}

test_dead_balancer() { check "a balancer that died: the drain ends with its session" drains 10; }

# Hosts differ, and any of them may be set to another time at any moment.
test_no_clock() {
    CHECK_DETAIL=$(grep -n -E 'EPOCH(SECONDS|REALTIME)|\bSECONDS\b|\bdate\b|\bnow\b' "$SCRIPTS_DIR/consul-register.sh" \
        "$LIB_DIR/balancers.sh" "$LIB_DIR/waiting.sh" | grep -v -E ':[0-9]+: *#' || true)
    check "nothing that drains asks a wall clock" equal '' "$CHECK_DETAIL"
}

main "$@"
