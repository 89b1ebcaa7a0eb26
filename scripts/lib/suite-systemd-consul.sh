# shellcheck shell=bash disable=SC2034,SC2153,SC2154  # settings of test-systemd.sh, and what check prints
# Checks of test-systemd.sh on the units that stand beside the service: its registration with Consul, and the lists of
# NGINX. Needs suite-systemd.sh and consul-program.sh, with what they need.

# ---------------------------------------------------------------- registration with Consul

test_consul() {
    local consul unit=streamd-consul@127.0.0.1.service
    if ! consul=$(consul_path); then
        say "skipped: registration with Consul, which isn't installed (scripts/install-deps.sh installs it)"
        return 0
    fi
    cp -- "$consul" "$RUN_DIR/srv/consul"
    container systemd-run --quiet --unit=consul --property=SuccessExitStatus=1 /srv/consul agent -dev -bind=127.0.0.1 -log-level=err
    wait_for "$STATE_SECONDS" consul_answers || die "the Consul agent in the container doesn't answer"
    # The only node of all: nothing takes its place in the list, so that its drain lasts to the end.
    container tee /etc/streamd/consul.env <<<'DRAIN_SECONDS_MAX=3' >/dev/null
    mark_journal
    check "Consul: systemctl start $unit" quiet container systemctl start "$unit"
    check "Consul: both services are registered and pass" wait_for "$STATE_SECONDS" registered_are "passing passing"
    # Each host of a stack has the same.
    container install -m 0600 /dev/null /etc/streamd/registration.key
    container tee /etc/streamd/registration.key <<<"$TOKEN$TOKEN" >/dev/null
    check "Consul: systemctl restart $unit, with a key" quiet container systemctl restart "$unit"
    check "Consul: both services are registered again" wait_for "$STATE_SECONDS" registered_are "passing passing"
    check "Consul: $unit is at most 1.5 exposed" is_exposed 1.5 "$unit"
    check "Consul: systemctl start $UPSTREAMS_UNIT" quiet container systemctl start "$UPSTREAMS_UNIT"
    check "Consul: it lists this node for NGINX" wait_for "$STATE_SECONDS" node_is_listed
    check "Consul: $UPSTREAMS_UNIT is at most 3.5 exposed" is_exposed 3.5 "$UPSTREAMS_UNIT"
    test_killed_unit "$unit"
    container rm /etc/nginx/upstreams/control.conf
    test_killed_unit "$UPSTREAMS_UNIT"
    check "Consul: $UPSTREAMS_UNIT, started again, lists this node" wait_for "$STATE_SECONDS" node_is_listed
    check "Consul: a balancer's keys are there, and its predecessor's are not" wait_for "$STATE_SECONDS" balancer_keys_are 2
    check "Consul: systemctl stop streamd" quiet container systemctl stop streamd.socket streamd.service
    check "Consul: nothing is registered any more" registered_are ""
    check "Consul: $unit ended with it" equal inactive "$(property ActiveState "$unit")"
    check "Consul: it was deregistered before streamd began to drain" wait_for 5 deregistered_first "$unit"
    container systemctl stop "$UPSTREAMS_UNIT"
    check "Consul: $UPSTREAMS_UNIT, stopped, has taken its keys away" balancer_keys_are 0
    # Which NGINX's configuration includes: no package removes it.
    container rm -rf /etc/nginx/upstreams
    container rmdir --ignore-fail-on-non-empty /etc/nginx
    container systemctl stop consul.service
    container systemctl start streamd.socket streamd.service
    wait_for "$STATE_SECONDS" serves || warn "streamd didn't come back after the test with Consul"
}

UPSTREAMS_UNIT=streamd-upstreams.service

# test_killed_unit UNIT: systemd starts it again.
test_killed_unit() {
    local pid
    pid=$(property MainPID "$1")
    container bash -c "kill -KILL $pid"
    check "Consul: $1, killed, comes back" wait_for "$STATE_SECONDS" has_other_main "$1" "$pid"
}

has_other_main() { [[ $(property ActiveState "$1") == active && $(property MainPID "$1") != "$2" ]]; }

node_is_listed() {
    container grep -q '^server 127.0.0.1:8081 ' /etc/nginx/upstreams/control.conf &&
        container grep -q '^server 127.0.0.1:8080 ' /etc/nginx/upstreams/data.conf
} 2>/dev/null

balancer_keys_are() {
    CHECK_DETAIL=$(net_curl 'http://127.0.0.1:8500/v1/kv/streamd/balancers/?keys')
    [[ $(jq length <<<"${CHECK_DETAIL:-[]}") == "$1" ]]
}

consul_answers() { net_curl --fail --output /dev/null http://127.0.0.1:8500/v1/status/leader; }

# The states of all instances of ours.
registered_are() {
    local states
    states=$(net_curl http://127.0.0.1:8500/v1/agent/checks |
        jq -r '[.[] | select(.ServiceName | startswith("file-server-")) | .Status] | join(" ")')
    CHECK_DETAIL="their checks are \"$states\""
    [[ $states == "$1" ]]
}

deregistered_first() {
    local deregistered draining
    deregistered=$(time_of "$1" 'deregistered')
    draining=$(time_of streamd.service 'draining')
    CHECK_DETAIL="deregistered at \"$deregistered\", drained from \"$draining\""
    [[ -n $deregistered && -n $draining ]] && awk -v a="$deregistered" -v b="$draining" 'BEGIN { exit !(a < b) }'
}

# time_of UNIT PATTERN: seconds since 1970 of the last such line since the mark.
time_of() {
    container journalctl --unit="$1" --output=short-unix --since="@$JOURNAL_MARK" |
        awk -v pattern="$2" '$0 ~ pattern { time = $1 } END { printf "%s", time }'
}
