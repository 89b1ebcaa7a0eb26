#!/usr/bin/env bash
# The end-to-end test of the stack with a real Consul agent, real NGINX and real replicas: up.sh, what
# Consul and NGINX show, a replica killed under load, an agent that lost its state, down.sh. Has a state
# folder and ports of its own, so that it runs beside a stack that is up.
set -euo pipefail
unset REPLICAS ROOT_DIR HTTP_PORT HTTPS_PORT TCP_PORT DATA_PORT CONTROL_PORT
unset CONSUL_HTTP_PORT CONSUL_DNS_PORT CONSUL_SERVER_PORT CONSUL_SERF_PORT CONSUL_HTTP_ADDR CONSUL_HTTP_TOKEN
RUN_DIR=$(mktemp -d "${TMPDIR:-/tmp}/streamd-test-stack.XXXXXX")
export RUN_DIR
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/checks.sh"
source "$LIB_DIR/values.sh"
source "$LIB_DIR/settings.sh"
source "$LIB_DIR/waiting.sh"
source "$LIB_DIR/network.sh"
source "$LIB_DIR/processes.sh"
source "$LIB_DIR/consul.sh"
source "$LIB_DIR/suite.sh"
source "$LIB_DIR/suite-stack.sh"

usage() {
    cat <<'USAGE'
usage: test-stack.sh

Prints one line per check and ends with "N passed, M failed". Exit code 0 when none failed. When one
failed, the logs are kept and their folder is named.
environment: STREAMD_BIN (built by cargo)
USAGE
}

REQUESTS=1000
# The load is spread over more than a check interval, so that it sees all states of a dying replica.
REQUEST_PAUSE_S=0.012
# The check interval of 10 s, the time-out of 1 s, and the agent's report to the server.
CRITICAL_SECONDS=12
# A reload follows a change within a second.
RELOAD_SECONDS=5
REGISTERED_SECONDS=15

LOAD_PID=

main() {
    no_arguments "$@"
    clean_up_at_the_end
    choose_ports
    test_up
    test_consul_shows
    test_nginx_answers
    test_up_again
    test_replica_dies
    test_replica_returns
    test_consul_forgets
    test_strangers
    test_taken_ids
    test_follower_dies
    test_down
    finish
}

clean_up() {
    local status=$?
    count_unfinished
    if [[ -n $LOAD_PID ]]; then kill "$LOAD_PID" 2>/dev/null || true; fi
    "$REPO_DIR/scripts/down.sh" >"$RUN_DIR/cleanup.log" 2>&1 || warn "down.sh failed: see $RUN_DIR/cleanup.log"
    remove_or_keep "$status" "logs are"
}

# ---------------------------------------------------------------- up

test_up() {
    check "up.sh brings the stack up and its smoke test passes" run_up
    ((CHECKS_FAILED == 0)) || give_up
    check "status.sh calls everything healthy" quiet "$REPO_DIR/scripts/status.sh"
}

test_up_again() {
    local before
    before=$(all_pids)
    check "up.sh a second time succeeds" run_up
    check "up.sh a second time leaves every process alone" equal "$before" "$(all_pids)"
    rm "$RUN_DIR/tls/cert.pem"
    check "up.sh makes a certificate where it is gone" run_up
    check "up.sh a third time leaves every process alone" equal "$before" "$(all_pids)"
    check "NGINX works with the new certificate" equal "$(openssl x509 -noout -fingerprint -in "$RUN_DIR/tls/cert.pem")" "$(certificate_in_force)"
}

certificate_in_force() {
    { openssl s_client -connect "127.0.0.1:$HTTPS_PORT" </dev/null | openssl x509 -noout -fingerprint; } 2>/dev/null || true
}

all_pids() {
    local name
    for name in $(process_names '*'); do
        printf '%s=%s ' "$name" "$(process_pid "$name" || echo dead)"
    done
}

# ---------------------------------------------------------------- what is shown

test_consul_shows() {
    local service
    for service in file-server-http file-server-tcp; do
        check "Consul: three passing $service" equal 3 "$(consul_count "$service" passing)"
        check "Consul: ids, addresses and tags of $service" equal "$(expected_instances "$service")" "$(instances "$service")"
        check "Consul: DNS has three SRV records of $service" equal 3 "$(srv_records "$service")"
    done
    check "Consul: nginx is registered" equal "nginx-127.0.0.1-$HTTP_PORT load-balancer,nginx,reverse-proxy" \
        "$(consul_api GET /v1/catalog/service/nginx && jq -r '.[] | "\(.ServiceID) \(.ServiceTags | join(","))"' <<<"$API_BODY")"
    check "Consul: the user interface answers" equal 200 "$(http_status -L "$STACK_CONSUL_URL/ui/")"
}

expected_instances() {
    local i port=$CONTROL_PORT tags=http,file,server,streamd
    if [[ $1 == file-server-tcp ]]; then port=$DATA_PORT tags=tcp,file,server,streamd; fi
    for i in 1 2 3; do
        printf '%s-127.0.0.%d-%d 127.0.0.%d:%d %s\n' "$1" "$i" "$port" "$i" "$port" "$tags"
    done
}

instances() {
    consul_api GET "/v1/catalog/service/$1" || true
    jq -r '.[] | "\(.ServiceID) \(.ServiceAddress):\(.ServicePort) \(.ServiceTags | join(","))"' <<<"$API_BODY" | sort
}

srv_records() { dig +short +time=2 +tries=2 @127.0.0.1 -p "$CONSUL_DNS_PORT" "$1.service.consul" SRV | wc -l; }

test_nginx_answers() {
    check "NGINX: /health over HTTP" equal OK "$(direct_curl -s --max-time 5 "$NGINX_URL/health")"
    check "NGINX: /health over HTTPS" equal OK "$(direct_curl -sk --max-time 5 "https://127.0.0.1:$HTTPS_PORT/health")"
    check "NGINX: POST /stream?size=169 sends 169 bytes" equal 169 \
        "$(direct_curl -s --max-time 10 -X POST "$NGINX_URL/stream?size=169" | jq .bytes_sent)"
    check "NGINX: /metrics is 404" equal 404 "$(http_status "$NGINX_URL/metrics")"
    check "NGINX: eight frames on one connection to port $TCP_PORT" equal donedonedonedonedonedonedonedone "$(eight_frames)"
    local address
    address=$(outside_address)
    if [[ -z $address ]]; then return 0; fi
    check "NGINX: /health for a client that is not on loopback" equal 200 "$(http_status "http://$address:$HTTP_PORT/health")"
    check "NGINX: /stream is 404 for a client that is not on loopback" equal 404 \
        "$(http_status -X POST "http://$address:$HTTP_PORT/stream?size=1")"
}

outside_address() { hostname -I 2>/dev/null | tr ' ' '\n' | grep -m 1 -E '^[0-9.]+$' || true; }

# Eight frames of 5 bytes, written at once; the answers are read until the peer closes.
eight_frames() {
    local i
    for i in {1..8}; do printf '\5\0\0\0\0\0\0\0fra%02d' "$i"; done | timeout 5 nc -N 127.0.0.1 "$TCP_PORT" || true
}

# ---------------------------------------------------------------- a replica dies and returns

test_replica_dies() {
    local victim
    start_load
    wait_for 30 load_reached 100 || warn "the load is slow: $(wc -l <"$RUN_DIR/load") requests in 30 s"
    victim=$(process_pid replica-2)
    kill -KILL "$victim"
    check "killed replica: Consul shows file-server-http critical" \
        wait_for "$CRITICAL_SECONDS" status_is critical "file-server-http-127.0.0.2-$CONTROL_PORT"
    check "killed replica: Consul shows file-server-tcp critical" \
        wait_for "$CRITICAL_SECONDS" status_is critical "file-server-tcp-127.0.0.2-$DATA_PORT"
    check "killed replica: NGINX's lists drop it" wait_for "$RELOAD_SECONDS" lists_have 2
    check "killed replica: status.sh says that something is wrong" fails "$REPO_DIR/scripts/status.sh"
    wait "$LOAD_PID" || true
    LOAD_PID=
    check "killed replica: $REQUESTS GET /health through NGINX are all 200" equal "$REQUESTS 200" "$(load_result)"
}

start_load() {
    : >"$RUN_DIR/load"
    run_load >>"$RUN_DIR/load" 2>/dev/null &
    LOAD_PID=$!
}

# A connection for each request: nothing but NGINX can hide a failure.
run_load() {
    local i
    for ((i = 0; i < REQUESTS; i++)); do
        direct_curl -s -o /dev/null --max-time 10 -w '%{http_code}\n' "$NGINX_URL/health" || true
        sleep "$REQUEST_PAUSE_S"
    done
}

load_reached() { (($(wc -l <"$RUN_DIR/load") >= $1)); }

# "1000 200", or a row of counts and codes.
load_result() { sort "$RUN_DIR/load" | uniq -c | awk '{printf "%s%s %s", sep, $1, $2; sep = ", "}'; }

test_replica_returns() {
    check "up.sh starts the replica again" run_up
    check "returned replica: Consul shows three passing" equal "3 3" \
        "$(consul_count file-server-http passing) $(consul_count file-server-tcp passing)"
    check "returned replica: NGINX's lists have it" wait_for "$RELOAD_SECONDS" lists_have 3
}

# ---------------------------------------------------------------- Consul forgets

test_consul_forgets() {
    local command watches
    watches=$(pids_of 'register-*')
    mapfile -d '' -t command <"/proc/$(process_pid consul)/cmdline"
    stop_processes TERM 10 consul
    rm -rf "$RUN_DIR/consul"
    check "without Consul NGINX goes on with the lists it has" equal "OK 3" \
        "$(direct_curl -s --max-time 5 "$NGINX_URL/health") $(grep -c '^server ' "$NGINX_DIR/upstreams/control.conf")"
    start_process consul "${command[@]}"
    check "wiped Consul: the agent answers" wait_for 20 consul_ready
    check "wiped Consul: all services are registered within $REGISTERED_SECONDS s" \
        wait_for "$REGISTERED_SECONDS" all_registered
    check "wiped Consul: by the watches that ran before" equal "$watches" "$(pids_of 'register-*')"
    check "wiped Consul: all pass again" wait_for 15 all_passing
    check "wiped Consul: NGINX's lists have three again" wait_for "$RELOAD_SECONDS" lists_have 3
}

# ---------------------------------------------------------------- strangers in Consul

# Whoever may register may name any host, with any address. The lists go on without him.
STRANGERS=(no-such-host 999.1.1.1 1:2:3 127.0.0.1:8082 1.1.1.1- a..b 0 0x7f.1 $'127.0.0.1\n' $'\e[31m127.0.0.1' 127.0.0.1)

test_strangers() {
    local before i
    before=$(cat "$NGINX_DIR/upstreams/control.conf")
    for i in "${!STRANGERS[@]}"; do register_stranger "stranger-$i" "${STRANGERS[i]}" "$CONTROL_PORT"; done
    check "strangers: ${#STRANGERS[@]} are named in the log" wait_for 20 all_named "$LOG_DIR/nginx-upstreams.log"
    check "strangers: each of them once" equal "${#STRANGERS[@]}" "$(grep -c 'refused stranger-' "$LOG_DIR/nginx-upstreams.log")"
    check "strangers: control.refused has them" wait_for 5 all_named "$NGINX_DIR/upstreams/control.refused"
    check "strangers: status.sh names them" status_names_strangers
    check "strangers: and calls everything else healthy" wait_for 30 status_is_healthy
    check "strangers: no control character reaches a log or a terminal" \
        equal '' "$(cat "$LOG_DIR/nginx-upstreams.log" "$RUN_DIR/status" | tr -d '\n\t -~')"
    check "strangers: the list stays" equal "$before" "$(cat "$NGINX_DIR/upstreams/control.conf")"
    set_maintenance 2 true
    check "strangers: a replica that leaves is dropped" wait_for "$RELOAD_SECONDS" lists_have 2
    set_maintenance 2 false
    check "strangers: one that comes is added" wait_for "$RELOAD_SECONDS" lists_have 3
    check "strangers: up.sh succeeds beside them" run_up
    test_lone_host
    for i in "${!STRANGERS[@]}"; do consul_api PUT "/v1/agent/service/deregister/stranger-$i" || true; done
    check "strangers: gone, nothing is refused any more" wait_for 10 none_refused
    check "strangers: NGINX answers" equal 200 "$(http_status "$NGINX_URL/health")"
}

# The others pass under names of the stack, and nothing is sent to them: the only host of all isn't restarted.
test_lone_host() {
    local i name
    for name in file-server-http file-server-tcp; do
        register_stranger "$name-stranger" 127.0.0.8 "$CONTROL_PORT" "$name"
        register_stranger "$name-127.0.0.8-$CONTROL_PORT" 127.0.0.8 "$CONTROL_PORT" "$name"
        register_stranger "$name-127.0.0.9-x" 127.0.0.9 "$CONTROL_PORT" "$name"
    done
    for i in 2 3; do set_maintenance "$i" true; done
    wait_for "$RELOAD_SECONDS" lists_have 1 || true
    check "strangers: the only host of all isn't restarted" \
        ends_saying 1 'nothing would serve' env REMOTE_SHELL="touch $RUN_DIR/restarted" "$SCRIPTS_DIR/rolling-restart.sh" --hosts 127.0.0.1
    check "strangers: they are no hosts" \
        ends_saying 1 'does not call both' env REMOTE_SHELL="touch $RUN_DIR/restarted" "$SCRIPTS_DIR/rolling-restart.sh" --hosts 127.0.0.9
    check "strangers: nothing was restarted" test ! -e "$RUN_DIR/restarted"
    for i in 2 3; do set_maintenance "$i" false; done
    wait_for "$RELOAD_SECONDS" lists_have 3 || true
    check "strangers: a host that isn't the only one is" \
        ends_saying 0 'all 1 hosts' env REMOTE_SHELL=echo "$SCRIPTS_DIR/rolling-restart.sh" --hosts 127.0.0.1
    for name in file-server-http file-server-tcp; do
        for i in "$name-stranger" "$name-127.0.0.8-$CONTROL_PORT" "$name-127.0.0.9-x"; do
            consul_api PUT "/v1/agent/service/deregister/$i" || true
        done
    done
}

# Under the IDs of the stack's own: by hand without the key, say. The watch takes them back.
test_taken_ids() {
    local i
    for i in 1 2 3; do register_stranger "$(own_id "$i")" "127.0.0.$i" "$CONTROL_PORT"; done
    register_stranger "$(own_id 2)" 127.0.0.9 "$CONTROL_PORT"
    check "taken IDs: the watches take them back" wait_for 20 all_taken_back
    check "taken IDs: NGINX's lists have three" wait_for "$RELOAD_SECONDS" lists_have 3
    check "taken IDs: nothing is refused any more" wait_for 10 none_refused
    set_maintenance 2 true
    register_stranger "$(own_id 2)" 127.0.0.9 "$CONTROL_PORT"
    check "taken IDs: one that is in maintenance is named" wait_for 20 grep -q "$(own_id 2): it is in maintenance" "$LOG_DIR/register-replica-2.log"
    check "taken IDs: and stays in maintenance" status_is maintenance "$(own_id 2)"
    set_maintenance 2 false
    check "taken IDs: it is taken back behind it" wait_for 20 lists_have 3
}

own_id() { printf 'file-server-http-127.0.0.%d-%d' "$1" "$CONTROL_PORT"; }

all_taken_back() {
    local i
    for i in 1 2 3; do
        CHECK_DETAIL="see $LOG_DIR/register-replica-$i.log"
        grep -q "somebody else had registered $(own_id "$i"): taken back" "$LOG_DIR/register-replica-$i.log" || return 1
    done
}

# register_stranger ID ADDRESS PORT [NAME]
register_stranger() {
    consul_api PUT /v1/agent/service/register "$(jq -n --arg id "$1" --arg address "$2" --argjson port "$3" \
        --arg name "${4:-file-server-http}" '{ID: $id, Name: $name, Address: $address, Port: $port, Tags: ["streamd"]}')" || true
}

all_named() {
    local i
    CHECK_DETAIL="see $1"
    for i in "${!STRANGERS[@]}"; do grep -qs "stranger-${i}[:[:blank:]]" "$1" || return 1; done
}

STATUS=
status_names_strangers() {
    STATUS=0
    "$REPO_DIR/scripts/status.sh" >"$RUN_DIR/status" 2>&1 || STATUS=$?
    all_named "$RUN_DIR/status"
}

status_is_healthy() {
    status_names_strangers
    CHECK_DETAIL="see $RUN_DIR/status"
    ((STATUS == 0))
}

set_maintenance() {
    consul_api PUT "/v1/agent/service/maintenance/file-server-http-127.0.0.$1-$CONTROL_PORT?enable=$2" &&
        consul_api PUT "/v1/agent/service/maintenance/file-server-tcp-127.0.0.$1-$DATA_PORT?enable=$2"
}

none_refused() { [[ ! -e $NGINX_DIR/upstreams/control.refused && ! -e $NGINX_DIR/upstreams/data.refused ]]; }

# ---------------------------------------------------------------- the follower dies

test_follower_dies() {
    local main
    main=$(follower_main)
    kill -KILL "$main"
    check "killed follower: the keeper starts another" wait_for 10 another_follower "$main"
    set_maintenance 2 true
    check "killed follower: the lists follow" wait_for 20 lists_have 2
    set_maintenance 2 false
    check "killed follower: and back" wait_for 20 lists_have 3
    check "killed follower: status.sh calls everything healthy" wait_for 10 quiet "$REPO_DIR/scripts/status.sh"
    kill -STOP "$(process_pid consul)"
    take_uptime
    local before_cs=$UPTIME_CS
    check "hung Consul: status.sh says so" fails "$REPO_DIR/scripts/status.sh"
    take_uptime
    check "hung Consul: it asks once" equal 1 "$(((UPTIME_CS - before_cs) < 1500))"
    kill -CONT "$(process_pid consul)"
    check "hung Consul: all pass again" wait_for 20 all_passing
}

follower_main() { tr ' ' '\n' <"/proc/$(process_pid nginx-upstreams)/task/$(process_pid nginx-upstreams)/children" | head -n 1; }

another_follower() {
    local main
    main=$(follower_main)
    [[ -n $main && $main != "$1" && $(tr '\0' ' ' <"/proc/$main/cmdline") == *nginx-upstreams.sh* ]]
}

# ---------------------------------------------------------------- down

test_down() {
    local members
    members=$(session_members)
    check "down.sh succeeds" quiet "$REPO_DIR/scripts/down.sh"
    check "down.sh leaves none of $(wc -w <<<"$members") processes running" equal "" "$(living "$members")"
    check "down.sh leaves no port open" all_free "$HTTP_PORT"
    check "down.sh a second time succeeds" quiet "$REPO_DIR/scripts/down.sh"
}

# The pids of all processes of the stack, with NGINX's workers and the curls of the followers.
session_members() {
    local name leaders=' ' directory
    for name in $(process_names '*'); do leaders+="$(process_pid "$name" || true) "; done
    for directory in /proc/[0-9]*; do
        read_stat "${directory#/proc/}" || continue
        if [[ $leaders == *" $STAT_SESSION "* ]]; then printf '%s ' "${directory#/proc/}"; fi
    done
}

living() {
    local pid
    for pid in $1; do
        if read_stat "$pid" && [[ $STAT_STATE != Z ]]; then printf '%s ' "$pid"; fi
    done
}

main "$@"
