# shellcheck shell=bash disable=SC2034,SC2153,SC2154  # settings of test-systemd.sh, and what check prints
# The parts of the checks of test-systemd.sh: questions about the service in the container, and load on it.
# Needs suite.sh, container.sh and debian.sh, with what they need.

# A check without which the others would only repeat that it failed.
require() {
    local failed=$CHECKS_FAILED
    check "$@"
    if ((CHECKS_FAILED > failed)); then
        tail -n 30 "$RUN_DIR/quiet.log" >&2
        container journalctl --unit=streamd.service --lines=20 --output=cat --no-pager >&2
        exit 1
    fi
}

# At most MAXIMUM, which may have a fraction.
at_most() {
    CHECK_DETAIL="expected at most $1, got \"$2\""
    awk -v maximum="$1" -v value="$2" 'BEGIN { exit !(value ~ /^[0-9.]+$/ && value + 0 <= maximum + 0) }'
}

# is_exposed MAXIMUM UNIT
is_exposed() {
    at_most "$1" "$(container systemd-analyze security --no-pager "$2" |
        sed -n "s/.*Overall exposure level for .*: \([0-9.]*\).*/\1/p")"
}

sha256_of() { sha256sum "$1" | cut -d ' ' -f 1; }

# A property of a unit: property NAME [UNIT]
property() { container systemctl show --value --property "$1" "${2:-streamd.service}"; }

is_active() { [[ $(container systemctl is-active streamd.service) == active ]]; }

net_curl() { container_net curl --silent --max-time 60 "$@"; }

healthy() { [[ $(net_curl "$CONTROL_URL/health") == OK ]]; }

downloads_small() { [[ $(net_curl "$DATA_URL/small" | sha256sum | cut -d ' ' -f 1) == "$SMALL_SHA256" ]]; }

serves() { healthy && downloads_small && is_active; }

# The service's lines in the journal since the last mark.
journal() { container journalctl --unit=streamd.service --output=cat --since="@$JOURNAL_MARK"; }

# Not a cursor: journalctl 252 leaves out the first line after --after-cursor= that it filters for.
mark_journal() { JOURNAL_MARK=${EPOCHREALTIME/,/.}; }

journal_has() { journal | grep -q -E -- "$1"; }

configure() {
    printf '%s\n' 'root = "/srv/files"' 'uploads = true' "connections_max = $CONNECTIONS_MAX" "$@" >"$RUN_DIR/streamd.toml"
    container tee /etc/streamd/streamd.toml <"$RUN_DIR/streamd.toml" >/dev/null
}

put_status() { net_curl --output /dev/null --write-out '%{http_code}' --header "Authorization: Bearer $TOKEN" "$@"; }

# ---------------------------------------------------------------- load

# Both ports: files from the data plane, and the health of a daemon that may just be draining.
start_load() {
    start_one_load data --rate "$LOAD_PER_SECOND" --sha256 "$SMALL_SHA256" "$DATA_URL/small"
    start_one_load control --rate 20 --statuses 200,503 "$CONTROL_URL/health"
    sleep 1
}

start_one_load() {
    local name=$1
    shift
    container_net_exec "$REPO_DIR/scripts/connect-load.py" "$@" >"$RUN_DIR/load.$name" 2>"$RUN_DIR/load.$name.failures" &
    LOAD_PIDS+=("$!")
    printf -v "LOAD_PID_$name" '%s' "$!"
}

# check_load WHAT
check_load() {
    local name pid
    for name in data control; do
        pid="LOAD_PID_$name"
        kill -TERM "${!pid}"
        wait "${!pid}" || true
        cat "$RUN_DIR/load.$name.failures"
        check "$1 under load, $name port: $(cat "$RUN_DIR/load.$name")" load_lost_nothing "$RUN_DIR/load.$name"
    done
}

load_lost_nothing() { grep -q -E '^requests [1-9][0-9]*, refused 0, failed 0,' "$1"; }
