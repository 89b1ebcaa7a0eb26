#!/usr/bin/env bash
# Tests what restarts and failures of the stack's parts cost its clients, with a real Consul agent, a real NGINX and
# real replicas: rolling restarts, an upgrade to a broken version, a replica killed, NGINX reloaded, the agent
# killed, hung, wiped and answering 500, all of it under load from clients that compare every byte. Has a state
# folder and ports of its own, so that it runs beside a stack that is up.
set -euo pipefail
unset REPLICAS ROOT_DIR HTTP_PORT HTTPS_PORT TCP_PORT DATA_PORT CONTROL_PORT DRAIN_SECONDS DRAIN_SECONDS_MAX
unset CONSUL_HTTP_PORT CONSUL_DNS_PORT CONSUL_SERVER_PORT CONSUL_SERF_PORT CONSUL_HTTP_ADDR CONSUL_HTTP_TOKEN
RUN_DIR=$(mktemp -d "${TMPDIR:-/tmp}/streamd-test-restart.XXXXXX")
export RUN_DIR
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/checks.sh"
source "$LIB_DIR/values.sh"
source "$LIB_DIR/settings.sh"
source "$LIB_DIR/waiting.sh"
source "$LIB_DIR/network.sh"
source "$LIB_DIR/processes.sh"
source "$LIB_DIR/replicas.sh"
source "$LIB_DIR/consul.sh"
source "$LIB_DIR/suite.sh"
source "$LIB_DIR/suite-stack.sh"
source "$LIB_DIR/lists.sh"
source "$LIB_DIR/suite-rolling.sh"

usage() {
    cat <<'USAGE'
usage: test-restart.sh [--full]

  --full  rolling restarts until 100,000 requests have been made meanwhile, instead of one; and those of
          hosts (rolling-restart.sh --hosts)

Prints one line per check and ends with "N passed, M failed". Exit code 0 when none failed. When one
failed, the logs are kept and their folder is named.
environment: STREAMD_BIN (built by cargo)
USAGE
}

FULL=0
FULL_REQUESTS=100000
# The most rolling restarts, however slow the load is.
ROUNDS_MAX=20
RELOADS=20
RELOAD_PAUSE_S=0.4
# The check interval of 10 s, the time-out of 1 s, and the agent's report to the server.
CRITICAL_SECONDS=12
# A check, and the reload that follows it.
LISTED_SECONDS=15
# A registration must be back this long after its agent is.
HEALED_SECONDS=15
# Two polls of the watches and the time-out of one.
FAULT_SECONDS=9
# A report waits for nothing; the end waits for a request of each client.
ANSWER_SECONDS=60

LOAD_CHILD=
FAKE_AGENT_PID=
WATCHES=
REPORT='{}'

main() {
    if [[ ${1:-} == --full ]]; then
        FULL=1
        shift
    fi
    no_arguments "$@"
    clean_up_at_the_end
    choose_ports
    bring_up
    test_installed
    start_load
    test_rolling_restart
    test_broken_upgrade
    test_broken_off
    test_lists_stand_still
    test_hosts
    test_replica_killed
    test_reloads
    test_agent_killed
    test_agent_hung
    test_agent_wiped
    test_agent_errors
    end_load
    finish
}

clean_up() {
    local status=$?
    count_unfinished
    if [[ -n $ROLLING_PID ]]; then kill "$ROLLING_PID" 2>/dev/null || true; fi
    if [[ -n $LOAD_CHILD ]]; then kill "$LOAD_CHILD" 2>/dev/null || true; fi
    if [[ -n $FAKE_AGENT_PID ]]; then kill "$FAKE_AGENT_PID" 2>/dev/null || true; fi
    "$REPO_DIR/scripts/down.sh" >"$RUN_DIR/cleanup.log" 2>&1 || warn "down.sh failed: see $RUN_DIR/cleanup.log"
    remove_or_keep "$status" "logs are"
}

# Frames are stored, so that their bytes can be compared.
bring_up() {
    local i
    for i in 1 2 3; do
        mkdir -p "$RUN_DIR/spool/$i"
        # Uploads: they are open on loopback alone, so that whoever checks another address than the replica's refuses them.
        printf 'sink = "store"\nspool = "%s"\nuploads = true\n' "$RUN_DIR/spool/$i" >"$RUN_DIR/streamd-$i.toml"
    done
    check "up.sh brings the stack up and its smoke test passes" run_up
    ((CHECKS_FAILED == 0)) || give_up
    STREAMD=$(realpath -m "$(streamd_path)")
}

# ---------------------------------------------------------------- installed on a server

# The scripts in one folder, with nothing else of the repository.
test_installed() {
    local root="$RUN_DIR/root" scripts="$RUN_DIR/root/usr/lib/streamd" name
    mkdir -p "$root/usr/bin" "$root/etc/systemd/system"
    install_scripts "$scripts"
    check "installed: consul-register.sh registers" ends_with 0 "$scripts/consul-register.sh" nginx 127.0.0.9 9
    check "installed: consul-register.sh deregisters" \
        ends_with 0 "$scripts/consul-register.sh" --deregister nginx 127.0.0.9 9
    check "installed: nginx-upstreams.sh writes the lists" ends_with 0 \
        env "REGISTRATION_KEY_FILE=$RUN_DIR/registration.key" "$scripts/nginx-upstreams.sh" --once \
        --dir "$RUN_DIR/root/upstreams" --conf "$RUN_DIR/root/nginx.conf"
    check "installed: the lists are those of the stack" diff -r -x '.*' "$RUN_DIR/root/upstreams" "$NGINX_DIR/upstreams"
    check "installed: rolling-restart.sh asks for hosts" ends_with 2 "$scripts/rolling-restart.sh"
    if ! command -v systemd-analyze >/dev/null || [[ ! -f /usr/lib/systemd/system/sysinit.target ]]; then
        say "skipped installed: systemd-analyze is missing (Debian's package systemd)"
        return 0
    fi
    mkdir -p "$root/usr/lib/systemd"
    cp -r /usr/lib/systemd/system "$root/usr/lib/systemd/"
    cp "$REPO_DIR"/systemd/* "$root/etc/systemd/system/"
    cp "$STREAMD" "$root/usr/bin/streamd"
    check "installed: systemd-analyze accepts streamd-consul@.service" verified "$root"
    check "installed: its exposure is at most 1.5" quiet systemd-analyze security --offline=yes --threshold=15 \
        --root="$root" --no-pager streamd-consul@192.0.2.10.service
}

# Without a word.
verified() {
    quiet systemd-analyze verify --root="$1" --man=no streamd-consul@192.0.2.10.service || return 1
    [[ ! -s $RUN_DIR/quiet.log ]]
}

# ---------------------------------------------------------------- load

start_load() {
    coproc LOAD {
        exec "$REPO_DIR/scripts/restart-load.py" --root "$ROOT_DIR" --spool "$RUN_DIR/spool" \
            --consul "$STACK_CONSUL_URL" --http-port "$HTTP_PORT" --tcp-port "$TCP_PORT" 2>"$RUN_DIR/load.log"
    }
    # bash unsets LOAD_PID when it has ended.
    LOAD_CHILD=$LOAD_PID
    wait_for 20 load_reached 1000 || die_with_log "the load does not get going" "$RUN_DIR/load.log"
}

# ask_load COMMAND: sets LOAD_ANSWER.
ask_load() {
    printf '%s\n' "$1" >&"${LOAD[1]}" || die_with_log "the load has ended" "$RUN_DIR/load.log"
    IFS= read -r -t "$ANSWER_SECONDS" LOAD_ANSWER <&"${LOAD[0]}" ||
        die_with_log "the load does not answer" "$RUN_DIR/load.log"
}

load_reached() { ask_load total && ((LOAD_ANSWER >= $1)); }

# Reports what happened since the last time, into REPORT and on one line.
take_report() {
    ask_load "${2:-report}"
    REPORT=$LOAD_ANSWER
    jq -r --arg what "$1" '"        \($what): \(.requests) requests, \(.failed) failed, " +
        "\(.retried) sent again on a new connection, \(.refused) connections refused, " +
        "\(.corrupted) corrupted, slowest \(.slowest_ms) ms (\(.slowest_kind))"' <<<"$REPORT"
    jq -r '.faults[] | "        " + .' <<<"$REPORT"
    ((FULL)) || return 0
    jq -r '.kinds | to_entries[] | "          \(.key): \(.value.requests), \(.value.failed) failed, " +
        "\(.value.retried) sent again, slowest \(.value.slowest_ms) ms"' <<<"$REPORT"
}

# none_lost WHAT: of the requests since the last report.
none_lost() {
    take_report "$1"
    check "$1: no request failed, no connection was refused, no byte was wrong" equal '0 0 0' "$(lost)"
}

lost() { jq -r '"\(.failed) \(.refused) \(.corrupted)"' <<<"$REPORT"; }

end_load() {
    take_report "at the end" end
    check "at the end: no request failed, no connection was refused, no byte was wrong" equal '0 0 0' "$(lost)"
    check "no client hangs" equal 0 "$(jq .hanging <<<"$REPORT")"
    check "all $(jq .frames_acknowledged <<<"$REPORT") frames that were acknowledged are stored byte by byte" \
        equal '0 0' "$(jq -r '"\(.frames_missing) \(.frames_corrupted)"' <<<"$REPORT")"
    wait "$LOAD_CHILD" || true
    LOAD_CHILD=
}

# ---------------------------------------------------------------- rolling restarts

test_rolling_restart() {
    local before rounds=0 requests=0
    ask_load report
    while true; do
        before=$(pids_of 'replica-*')
        rounds=$((rounds + 1))
        check "rolling restart $rounds: rolling-restart.sh ends well" quiet "$REPO_DIR/scripts/rolling-restart.sh"
        check "rolling restart $rounds: every replica is another process" all_differ "$before" "$(pids_of 'replica-*')"
        none_lost "rolling restart $rounds"
        requests=$((requests + $(jq .requests <<<"$REPORT")))
        if ((rounds == 1)); then sed 's/^/        /' "$RUN_DIR/quiet.log"; fi
        if ((!FULL || requests >= FULL_REQUESTS || rounds >= ROUNDS_MAX || CHECKS_FAILED > 0)); then break; fi
    done
    if ((FULL)); then
        check "$requests requests during $rounds rolling restarts are enough" reached "$requests" "$FULL_REQUESTS"
    fi
    check "the lists have all replicas, and Consul calls them passing" all_listed
}

reached() { (($1 >= $2)); }

all_listed() { lists_have 3 && all_passing; }

all_differ() {
    local pid
    CHECK_DETAIL="before $1, after $2"
    [[ $(wc -w <<<"$1") == 3 && $(wc -w <<<"$2") == 3 && $2 != *dead* ]] || return 1
    for pid in $1; do
        if [[ " $2" == *" $pid "* ]]; then return 1; fi
    done
}

# A version that can't run is refused before anything is touched; one that ends as it starts costs one replica.
test_broken_upgrade() {
    local before broken="$RUN_DIR/broken-streamd"
    before=$(pids_of 'replica-*')
    printf '#!/bin/sh\necho "streamd: made to fail" >&2\nexit 1\n' >"$broken"
    chmod +x "$broken"
    check "upgrade to what refuses the configuration: rolling-restart.sh ends with 1" ends_with 1 upgrade "$broken"
    check "upgrade to what refuses the configuration: no replica was touched" equal "$before" "$(pids_of 'replica-*')"
    # shellcheck disable=SC2016  # expanded by the script
    printf '#!/bin/sh\ncase "$*" in *--check*) exit 0 ;; esac\necho "streamd: made to fail" >&2\nexit 1\n' >"$broken"
    check "upgrade to what does not start: rolling-restart.sh ends with 1" ends_with 1 upgrade "$broken"
    check "upgrade to what does not start: the other replicas run on" equal "${before#* }" \
        "$(process_pid replica-2) $(process_pid replica-3) "
    check "upgrade to what does not start: its log names the reason" grep -q 'made to fail' "$RUN_DIR/quiet.log"
    none_lost "upgrade to what does not start"
    check "upgrade to what does not start: the replica is back with the old version" equal "$STREAMD" \
        "$(tr '\0' '\n' <"/proc/$(process_pid replica-1)/cmdline" | head -n 1)"
    check "upgrade to what does not start: all replicas are listed and pass" wait_for "$LISTED_SECONDS" all_listed
}

upgrade() { STREAMD_BIN=$1 "$REPO_DIR/scripts/rolling-restart.sh"; }

# ends_with STATUS COMMAND...
ends_with() {
    local expected=$1 status=0
    shift
    "$@" >"$RUN_DIR/quiet.log" 2>&1 || status=$?
    CHECK_DETAIL="it ended with $status, see $RUN_DIR/quiet.log"
    ((status == expected))
}

# ---------------------------------------------------------------- hosts

# Each address stands for a host; what systemctl restart does there, this script does as REMOTE_SHELL.
test_hosts() {
    ((FULL)) || return 0
    local before
    before=$(pids_of 'replica-*')
    export REMOTE_SHELL="$RUN_DIR/remote-shell"
    write_remote_shell
    check "hosts: rolling-restart.sh --hosts ends well" \
        quiet "$REPO_DIR/scripts/rolling-restart.sh" --hosts 127.0.0.1 root@127.0.0.2 127.0.0.3
    check "hosts: every replica is another process" all_differ "$before" "$(pids_of 'replica-*')"
    check "hosts: one that Consul doesn't know is refused" \
        ends_with 1 "$REPO_DIR/scripts/rolling-restart.sh" --hosts 127.0.0.9
    none_lost "hosts"
}

write_remote_shell() {
    cat >"$REMOTE_SHELL" <<REMOTE
#!/usr/bin/env bash
set -euo pipefail
for name in environment messages values settings waiting network processes replicas; do
    source "$REPO_DIR/scripts/lib/\$name.sh"
done
[[ "\${*:2}" == 'systemctl restart streamd' ]] || exit 2
load_settings
number=\${1##*.}
stop_processes TERM 45 "register-replica-\$number"
stop_processes TERM 40 "replica-\$number"
start_replica "\$number" "$STREAMD"
became_healthy "\$number" 20
start_registration "\$number"
REMOTE
    chmod +x "$REMOTE_SHELL"
}

# ---------------------------------------------------------------- a replica is killed

# It is stopped for a moment before, so that what is in flight on it stays there and can be counted.
test_replica_killed() {
    local victim open lost
    victim=$(process_pid replica-2)
    ask_load report
    kill -STOP "$victim"
    sleep 0.3
    open=$(connections_open 127.0.0.2)
    kill -KILL "$victim"
    check "killed replica: Consul shows file-server-http critical" \
        wait_for "$CRITICAL_SECONDS" status_is critical "file-server-http-127.0.0.2-$CONTROL_PORT"
    check "killed replica: NGINX's lists drop it" wait_for "$CRITICAL_SECONDS" lists_have 2
    take_report "killed replica"
    lost=$(jq -r "$LOST_ON_REPLICA" <<<"$REPORT")
    say "        $lost requests lost their connection, of $open that were open to the replica"
    check "killed replica: no more were lost than connections were open to it" reached "$open" "$lost"
    check "killed replica: no GET through NGINX's HTTP port failed" equal 0 "$(jq "$FAILED_GETS" <<<"$REPORT")"
    check "killed replica: no byte was wrong" equal 0 "$(jq .corrupted <<<"$REPORT")"
    start_replica 2 "$STREAMD" >/dev/null
    check "killed replica: started again, it is back in the lists" wait_for "$LISTED_SECONDS" all_listed
    take_report "after the killed replica"
    check "after the killed replica: no request failed, no byte was wrong" equal '0 0' \
        "$(jq -r '"\(.failed) \(.corrupted)"' <<<"$REPORT")"
}

# A reload of NGINX closes idle connections of its clients: those of GET /health aren't the replica's.
LOST_ON_REPLICA='[.kinds | to_entries[] | select(.key | startswith("nginx-http GET") | not) | .value
    | .failed + .retried] | add'
FAILED_GETS='[.kinds | to_entries[] | select(.key | startswith("nginx-http GET")) | .value.failed] | add'

# connections_open ADDRESS: to both of its ports.
connections_open() {
    ss -Htn state established src "$1" | awk -v data="$1:$DATA_PORT" -v control="$1:$CONTROL_PORT" \
        '$3 == data || $3 == control' | wc -l
}

# ---------------------------------------------------------------- NGINX is reloaded

test_reloads() {
    local i
    ask_load report
    for ((i = 0; i < RELOADS; i++)); do
        nginx -s reload -p "$NGINX_DIR" -c "$NGINX_DIR/nginx.conf" 2>>"$RUN_DIR/reload.log"
        sleep "$RELOAD_PAUSE_S"
    done
    none_lost "NGINX reloaded $RELOADS times"
}

# ---------------------------------------------------------------- Consul fails

# Each: begins a fault, waits until the watches have seen it, ends it, and looks at what it has cost.

test_agent_killed() {
    begin_fault
    kill_agent
    sleep "$FAULT_SECONDS"
    start_process consul "${CONSUL_COMMAND[@]}"
    end_fault "agent killed" 2 2
}

test_agent_hung() {
    begin_fault
    test_rolling_without_agent
    kill -STOP "$(process_pid consul)"
    sleep "$FAULT_SECONDS"
    # A request is given up after 5 s, and where much else runs the rounds are further apart.
    wait_for "$HEALED_SECONDS" all_have_noticed || true
    kill -CONT "$(process_pid consul)"
    end_fault "agent hung" 2 2
}

all_have_noticed() {
    local name
    for name in $(process_names 'register-*'); do has_lines 1 2 "$name" || return 1; done
}

test_agent_wiped() {
    begin_fault
    kill_agent
    rm -rf "$RUN_DIR/consul"
    start_process consul "${CONSUL_COMMAND[@]}"
    end_fault "agent wiped" 1 2
}

# Something else at its port: what a real agent can't be made to do.
test_agent_errors() {
    begin_fault
    kill_agent
    python3 - "$CONSUL_HTTP_PORT" >"$RUN_DIR/fake-agent.log" 2>&1 <<'PYTHON' &
import http.server, sys

class Failing(http.server.BaseHTTPRequestHandler):
    def fail(self):
        self.send_error(500)
    do_GET = do_PUT = do_DELETE = fail

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Failing).serve_forever()
PYTHON
    FAKE_AGENT_PID=$!
    sleep "$FAULT_SECONDS"
    kill "$FAKE_AGENT_PID"
    wait "$FAKE_AGENT_PID" 2>/dev/null || true
    FAKE_AGENT_PID=
    check "agent answering 500: the stand-in was asked" grep -q ' 500 ' "$RUN_DIR/fake-agent.log"
    start_process consul "${CONSUL_COMMAND[@]}"
    end_fault "agent answering 500" 2 2
}

CONSUL_COMMAND=()
declare -A LINES_BEFORE

kill_agent() {
    local pid
    pid=$(process_pid consul)
    kill -KILL "$pid"
    # Reaped here, so that bash doesn't tell of it.
    wait "$pid" 2>/dev/null || true
    wait_for 5 none_lives consul
}

begin_fault() {
    local name
    mapfile -d '' -t CONSUL_COMMAND <"/proc/$(process_pid consul)/cmdline"
    for name in $(process_names 'register-*') nginx-upstreams; do
        LINES_BEFORE[$name]=$(wc -l <"$LOG_DIR/$name.log")
    done
    WATCHES=$(pids_of 'register-*')
    ask_load report
}

# end_fault WHAT LINES_MIN LINES_MAX: of each watch, that the agent is lost and that the service is registered
# again; the first may be missing where the agent is away for less than a poll.
end_fault() {
    local name what=$1 started=${EPOCHREALTIME/[.,]/}
    check "$what: all services are registered and pass again within $HEALED_SECONDS s" \
        wait_for "$HEALED_SECONDS" all_healed
    say "        after $(((${EPOCHREALTIME/[.,]/} - started) / 1000)) ms"
    check "$what: by the watches that ran before" equal "$WATCHES" "$(pids_of 'register-*')"
    check "$what: NGINX's lists have all replicas" wait_for "$LISTED_SECONDS" lists_have 3
    for name in $(process_names 'register-*'); do
        check "$what: $name says so once, and once that it is over" \
            wait_for "$HEALED_SECONDS" has_lines "$2" "$3" "$name"
    done
    check "$what: nginx-upstreams says nothing twice" none_repeated
    none_lost "$what"
}

all_healed() { all_registered && all_passing; }

# has_lines MIN MAX NAME
has_lines() {
    local lines
    lines=$(new_lines "$3" | wc -l)
    CHECK_DETAIL="$lines lines: $(new_lines "$3")"
    (($1 <= lines && lines <= $2))
}

new_lines() { tail -n "+$((LINES_BEFORE[$1] + 1))" "$LOG_DIR/$1.log"; }

# For one list, the same line twice in a row would be a line per poll.
none_repeated() {
    local plane
    CHECK_DETAIL="$(new_lines nginx-upstreams)"
    for plane in control data; do
        [[ -z $(new_lines nginx-upstreams | cut -d ' ' -f 3- | grep -E "\b$plane.conf\b" | uniq -d) ]] || return 1
    done
}

main "$@"
