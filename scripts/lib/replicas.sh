# shellcheck shell=bash
# The replicas of the stack. Needs settings.sh, network.sh and processes.sh, with what they need.

# Prints the configuration file of a replica: one of its own (streamd-2.toml), or that of all.
replica_config() {
    if [[ -f $RUN_DIR/streamd-$1.toml ]]; then
        printf '%s' "$RUN_DIR/streamd-$1.toml"
    else
        printf '%s' "$RUN_DIR/streamd.toml"
    fi
}

# replica_command NUMBER STREAMD: sets REPLICA_COMMAND to its command line.
replica_command() {
    REPLICA_COMMAND=("$2" --config "$(replica_config "$1")" --root "$ROOT_DIR" --workers 1
        --data-listen "127.0.0.$1:$DATA_PORT" --control-listen "127.0.0.$1:$CONTROL_PORT" --log-format json
        --trusted-proxies "127.0.0.0/8,::1" --proxy-protocol optional)
    # Clients of NGINX's port name the host as they know it. With this the daemon itself asks for a token before it
    # starts with uploads.
    if tcp_is_open; then REPLICA_COMMAND+=(--hosts-allowed '*'); fi
}

# start_replica NUMBER STREAMD: starts it unless it runs with this very command line and binary.
start_replica() {
    replica_command "$1" "$2"
    ensure_process "replica-$1" "${REPLICA_COMMAND[@]}"
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
