# shellcheck shell=bash disable=SC2034  # what is set here is read by the scripts and by checks.sh
# Shared parts of the suites that start a stack of their own. Needs suite.sh, settings.sh, network.sh, processes.sh and
# consul.sh, with what they need.

# The caller may have opened his own stack.
unset TCP_ADDRESS

# ---------------------------------------------------------------- its ports

# Ports in a row, none of which is taken; below the range from which the kernel takes client ports. Suites
# that begin at the same moment begin to look at different places.
choose_ports() {
    local base i
    for ((i = 0; i < 100; i++)); do
        base=$((18000 + ($$ + i) % 100 * 100))
        if all_free "$base"; then
            export HTTP_PORT=$base HTTPS_PORT=$((base + 1)) TCP_PORT=$((base + 2))
            export DATA_PORT=$((base + 3)) CONTROL_PORT=$((base + 4))
            export CONSUL_HTTP_PORT=$((base + 5)) CONSUL_DNS_PORT=$((base + 6))
            export CONSUL_SERVER_PORT=$((base + 7)) CONSUL_SERF_PORT=$((base + 8))
            load_settings
            export CONSUL_HTTP_ADDR=$STACK_CONSUL_URL
            NGINX_URL="http://127.0.0.1:$HTTP_PORT"
            return 0
        fi
    done
    die "no nine free ports in a row between 18000 and 28000"
}

all_free() {
    local port
    for ((port = $1; port < $1 + 9; port++)); do
        if port_answers 127.0.0.1 "$port"; then return 1; fi
    done
}

# ---------------------------------------------------------------- its start

# The checks that follow would only repeat that the stack is down.
give_up() {
    tail -n 30 "$RUN_DIR/up.log" >&2
    exit 1
}

run_up() {
    CHECK_DETAIL="see $RUN_DIR/up.log"
    "$REPO_DIR/scripts/up.sh" >>"$RUN_DIR/up.log" 2>&1
}

# ---------------------------------------------------------------- what is asked

status_is() { [[ $(consul_status "$2") == "$1" ]]; }

lists_have() {
    [[ $(grep -c '^server ' "$NGINX_DIR/upstreams/control.conf") == "$1" ]] &&
        [[ $(grep -c '^server ' "$NGINX_DIR/upstreams/data.conf") == "$1" ]]
}

pids_of() {
    local name
    for name in $(process_names "$1"); do
        printf '%s ' "$(process_pid "$name" || echo dead)"
    done
}

all_registered() { consul_has 3 file-server-http && consul_has 3 file-server-tcp && consul_has 1 nginx; }

all_passing() {
    consul_has 3 file-server-http passing && consul_has 3 file-server-tcp passing && consul_has 1 nginx passing
}
