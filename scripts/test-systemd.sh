#!/usr/bin/env bash
# The test of the service under a real systemd: a Debian of its own is booted in namespaces (lib/container.sh), the
# package installed in it, and the service started, reloaded, stopped in part and as a whole, restarted under load,
# upgraded, removed and purged. Nothing of this host is changed, and no network but the container's is used.
set -euo pipefail
RUN_DIR=$(mktemp -d "${TMPDIR:-/tmp}/streamd-test-systemd.XXXXXX")
export RUN_DIR
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/checks.sh"
source "$LIB_DIR/values.sh"
source "$LIB_DIR/waiting.sh"
source "$LIB_DIR/consul-program.sh"
source "$LIB_DIR/suite.sh"
source "$LIB_DIR/debian.sh"
source "$LIB_DIR/container.sh"
source "$LIB_DIR/suite-systemd.sh"
source "$LIB_DIR/suite-systemd-consul.sh"

usage() {
    cat <<'USAGE'
usage: test-systemd.sh [TEST...]

Without arguments all tests: transfers hardening reload stopped_thread stopped_process killed_process
restarts_under_load stop_in_flight bad_configuration dynamic_user consul upgrade removal. Boots, installs and starts in any case.

Prints one line per check and ends with "N passed, M failed". Exit code 0 when none failed. When one failed, the
journal is kept and its folder is named. Without root, namespaces, debootstrap or a package it says so and ends with 0.
environment: STREAMD_DEB (the package that cargo deb built last)
USAGE
}

DATA_URL=http://127.0.0.1:8080
CONTROL_URL=http://127.0.0.1:8081
TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
RESTARTS=5
LOAD_PER_SECOND=200
# Transfers that a stop finds under way: paced by the client to take some seconds.
DOWNLOADS=8
DOWNLOAD_BYTES=$((24 << 20))
DOWNLOAD_RATE=6M
STATE_SECONDS=20
# Little enough for a host that may not raise the limit of open files.
CONNECTIONS_MAX=4000

TESTS=(transfers hardening reload stopped_thread stopped_process killed_process restarts_under_load stop_in_flight
    bad_configuration dynamic_user consul upgrade removal)
LOAD_PIDS=()

main() {
    local obstacle
    parse_arguments "$@"
    obstacle=$(container_obstacle)
    [[ -n $obstacle || -n $(package_path) ]] || obstacle="there is no package: build it with cargo deb -p streamd"
    if [[ -n $obstacle ]]; then rmdir "$RUN_DIR" && say "skipped: $obstacle" && exit 0; fi
    clean_up_at_the_end
    container_prepare
    make_files
    container_boot "$RUN_DIR/srv"
    run_tests
    finish
}

parse_arguments() {
    local name
    for name in "$@"; do
        if [[ $name == -h || $name == --help ]]; then rmdir "$RUN_DIR" && usage && exit 0; fi
        if [[ " ${TESTS[*]} " != *" $name "* ]]; then rmdir "$RUN_DIR" && die_usage "there is no test \"$name\""; fi
    done
    if (($#)); then TESTS=("$@"); fi
}

run_tests() {
    local name
    test_boot
    test_install
    test_start
    for name in "${TESTS[@]}"; do "test_$name"; done
}

clean_up() {
    local status=$?
    count_unfinished
    ((${#LOAD_PIDS[@]} == 0)) || kill "${LOAD_PIDS[@]}" 2>/dev/null || true
    if ((status != 0)) && [[ -n $CONTAINER_PID ]]; then
        container journalctl --boot --output=short-precise >"$RUN_DIR/journal" 2>/dev/null || true
    fi
    container_stop
    remove_or_keep "$status" "the journal is"
}

# The directory that the container sees as /srv.
make_files() {
    mkdir -p "$RUN_DIR/srv/files"
    # The service's user is made when it starts: a directory that every user may write to.
    chmod 1777 "$RUN_DIR/srv/files"
    chmod 0755 "$RUN_DIR" "$RUN_DIR/srv"
    head -c "$DOWNLOAD_BYTES" /dev/urandom >"$RUN_DIR/srv/files/large"
    head -c 2000 /dev/urandom >"$RUN_DIR/srv/files/small"
    LARGE_SHA256=$(sha256_of "$RUN_DIR/srv/files/large")
    SMALL_SHA256=$(sha256_of "$RUN_DIR/srv/files/small")
}

# ---------------------------------------------------------------- boot and install

test_boot() {
    check "boot: systemctl is-system-running says running" equal running "$(container systemctl is-system-running)"
    list_files >"$RUN_DIR/files.before"
}

# Everything that a package may have left, without what any installation changes.
list_files() {
    container find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /srv -o -path /var/log \
        -o -path /var/lib/dpkg -o -path /var/cache -o -path /var/lib/systemd/catalog \) -prune -o -print | sort
}

test_install() {
    cp -- "$(package_path)" "$RUN_DIR/srv/streamd.deb"
    require "install: dpkg installs the package" quiet container dpkg --install /srv/streamd.deb
    check "install: systemd-analyze verify has nothing to say about the units" silent container \
        systemd-analyze verify --man=no streamd.service streamd.socket streamd-consul@127.0.0.1.service \
        streamd-upstreams.service
}

# The one to test, or nothing: the one built last.
package_path() {
    local path=${STREAMD_DEB:-}
    # shellcheck disable=SC2012  # names of ours, by time
    [[ -n $path ]] || path=$(ls -t "${CARGO_TARGET_DIR:-$REPO_DIR/target}"/debian/streamd_*.deb 2>/dev/null | head -n 1)
    if [[ -f $path ]]; then printf '%s' "$path"; fi
}

# ---------------------------------------------------------------- start

test_start() {
    write_drop_in
    configure
    # A socket can't be started below a service that runs already, as the package has left it.
    container systemctl stop streamd.service
    mark_journal
    check "start: the socket" quiet container systemctl enable --now streamd.socket
    require "start: systemctl start streamd" quiet container systemctl start streamd.service
    check "start: both are active" equal "active active" \
        "$(property ActiveState) $(property ActiveState streamd.socket)"
    check "start: STATUS says what it does" status_is_told
    check "start: /health" equal OK "$(net_curl "$CONTROL_URL/health")"
    check "start: io_uring drives the workers under the hardened unit" driver_is io_uring
    check "start: nothing went wrong on the way" equal "" "$(journal_problems)"
}

# The set-up is that of docs/operations.md: where uploads go, and a token that only the service may read.
write_drop_in() {
    container mkdir -p /etc/systemd/system/streamd.service.d /etc/streamd
    container tee /etc/systemd/system/streamd.service.d/uploads.conf >/dev/null <<'DROP_IN'
[Service]
ReadWritePaths=/srv/files
LoadCredential=token:/etc/streamd/token
Environment=STREAMD_TOKEN_FILE=%d/token
DROP_IN
    container install -m 0600 /dev/null /etc/streamd/token
    container tee /etc/streamd/token <<<"$TOKEN" >/dev/null
    container systemctl daemon-reload
}

status_is_told() {
    CHECK_DETAIL="StatusText is \"$(property StatusText)\""
    [[ $(property StatusText) == *connection* ]]
}

driver_is() {
    CHECK_DETAIL=$(metrics | grep '^streamd_build')
    [[ $CHECK_DETAIL == *"driver=\"$1\""* ]]
}

metrics() { net_curl --header "Authorization: Bearer $TOKEN" "$CONTROL_URL/metrics"; }

# Warnings and errors of the service since the mark, and of systemd about it.
journal_problems() { journal | grep -E '(WARN|ERROR) |[Ff]ailed|denied' || true; }

# ---------------------------------------------------------------- transfers

test_transfers() {
    local body="$RUN_DIR/uploaded"
    check "transfers: a file arrives whole" equal "$LARGE_SHA256" \
        "$(net_curl "$DATA_URL/large" | sha256sum | cut -d ' ' -f 1)"
    head -c 3000000 /dev/urandom >"$body"
    check "transfers: PUT with the token is 201" equal 201 "$(put_status --upload-file "$body" "$DATA_URL/uploaded")"
    check "transfers: what was uploaded comes back" equal "$(sha256_of "$body")" \
        "$(net_curl "$DATA_URL/uploaded" | sha256sum | cut -d ' ' -f 1)"
    check "transfers: PUT without a token is 401" equal 401 \
        "$(net_curl --output /dev/null --write-out '%{http_code}' --upload-file "$body" "$DATA_URL/other")"
    check "transfers: POST /stream sends 1 MiB to the data plane" equal 1048576 \
        "$(net_curl --header "Authorization: Bearer $TOKEN" -X POST "$CONTROL_URL/stream?size=1MiB" | jq .bytes_sent)"
}

test_hardening() {
    check "hardening: exposure is at most 1.5" is_exposed 1.5 streamd.service
    check "hardening: the service can't write elsewhere" fails container nsenter --target "$(property MainPID)" --mount \
        -- touch /etc/streamd/written
    check "hardening: its own sandbox is whole" journal_has 'INFO sandboxed landlock="ABI [0-9]*: files.* capabilities="none"'
    check "hardening: it has no capability" equal 0000000000000000 \
        "$(container sed -n 's/^CapEff:[[:space:]]*//p' "/proc/$(property MainPID)/status")"
}

# ---------------------------------------------------------------- reload

test_reload() {
    local pid
    pid=$(property MainPID)
    mark_journal
    configure 'upload_bytes_max = 1000'
    check "reload: a good configuration" quiet container systemctl reload streamd.service
    check "reload: the journal says so" wait_for "$STATE_SECONDS" journal_has 'reloaded$'
    # Each worker looks for new settings ten times a second.
    check "reload: it is in force" wait_for "$STATE_SECONDS" put_is_too_long
    mark_journal
    configure 'upload_bytes_max = 4000' 'no_such_key = 1'
    container systemctl reload streamd.service || true
    check "reload: a bad one is refused" wait_for "$STATE_SECONDS" journal_has 'reload refused.*no_such_key'
    check "reload: the old settings stay" equal "413 active $pid" \
        "$(put_status --upload-file "$RUN_DIR/srv/files/small" "$DATA_URL/too-long") $(property ActiveState) $(property MainPID)"
    configure
    container systemctl reload streamd.service
    check "reload: and the first ones return" wait_for "$STATE_SECONDS" put_succeeds
}

put_is_too_long() { [[ $(put_status --upload-file "$RUN_DIR/srv/files/small" "$DATA_URL/too-long") == 413 ]]; }

put_succeeds() { [[ $(put_status --upload-file "$RUN_DIR/srv/files/small" "$DATA_URL/short") == 20[14] ]]; }

# ---------------------------------------------------------------- what the watchdog finds

# The watchdog's time, what the stop takes, and the start.
watchdog_seconds() { printf '%d' $(($(property WatchdogUSec | seconds_of) + $(property TimeoutAbortUSec | seconds_of) + 10)); }

# systemctl shows spans as "1min 30s".
seconds_of() { awk '{ for (i = 1; i <= NF; i++) s += $i ~ /min$/ ? 60 * $i : $i + 0; print s }'; }

test_stopped_thread() {
    local thread tracer
    note_life
    thread=$(worker_thread)
    "$REPO_DIR/scripts/stop-thread.py" "$thread" >"$RUN_DIR/tracer" &
    tracer=$!
    LOAD_PIDS+=("$tracer")
    check "stopped worker: one thread of the service stands still" wait_for 5 grep -q stopped "$RUN_DIR/tracer"
    check "stopped worker: the watchdog restarts the service" wait_for "$(watchdog_seconds)" has_new_life
    check "stopped worker: it serves again" wait_for "$STATE_SECONDS" serves
    kill "$tracer" 2>/dev/null || true
    wait "$tracer" 2>/dev/null || true
    check "stopped worker: the journal names the watchdog" journal_has 'atchdog'
}

note_life() {
    mark_journal
    OLD_PID=$(property MainPID)
    OLD_RESTARTS=$(property NRestarts)
}

# Debian's base has no program kill, only the shell's.
signal_service() { container bash -c "kill -$1 $OLD_PID"; }

has_new_life() { (($(property NRestarts) > OLD_RESTARTS)) && [[ $(property MainPID) != "$OLD_PID" ]] && is_active; }

# This host's id of the first worker's thread.
worker_thread() {
    local directory host_pid
    host_pid=$(container_host_pid "$OLD_PID")
    for directory in "/proc/$host_pid/task"/*; do
        if [[ $(cat "$directory/comm") == streamd-0 ]]; then basename "$directory"; fi
    done
}

test_stopped_process() {
    note_life
    signal_service STOP
    check "stopped process: the watchdog restarts it" wait_for "$(watchdog_seconds)" has_new_life
    check "stopped process: it serves again" wait_for "$STATE_SECONDS" serves
}

test_killed_process() {
    note_life
    signal_service KILL
    check "killed process: systemd restarts it" wait_for "$STATE_SECONDS" has_new_life
    check "killed process: it serves again" wait_for "$STATE_SECONDS" serves
}

# ---------------------------------------------------------------- restarts

test_restarts_under_load() {
    local i
    start_load
    for ((i = 0; i < RESTARTS; i++)); do
        sleep 1
        container systemctl restart streamd.service
    done
    sleep 1
    check_load "$RESTARTS restarts"
}

# ---------------------------------------------------------------- stop

test_stop_in_flight() {
    local i upload="$RUN_DIR/srv/files/large"
    mark_journal
    for ((i = 0; i < DOWNLOADS; i++)); do start_transfer "download $i" --limit-rate "$DOWNLOAD_RATE" \
        --output "$RUN_DIR/download.$i" "$DATA_URL/large"; done
    start_transfer upload --limit-rate "$DOWNLOAD_RATE" --header "Authorization: Bearer $TOKEN" \
        --upload-file "$upload" "$DATA_URL/uploaded-while-stopping"
    check "stop: transfers are under way" wait_for "$STATE_SECONDS" all_are_under_way
    container systemctl stop streamd.socket streamd.service
    check "stop: it ended well" equal "inactive success 0" \
        "$(property ActiveState) $(property Result) $(property ExecMainStatus)"
    check "stop: the drain began while they ran" journal_has 'draining.*connections=[1-9]'
    for i in "${!TRANSFERS[@]}"; do wait "${TRANSFERS[$i]}" || true; done
    check "stop: $DOWNLOADS downloads that were under way are whole" equal "$DOWNLOADS" \
        "$(sha256sum "$RUN_DIR"/download.* | grep -c "^$LARGE_SHA256 ")"
    check "stop: an upload that was under way is whole" equal "$LARGE_SHA256" \
        "$(sha256_of "$RUN_DIR/srv/files/uploaded-while-stopping")"
    container systemctl start streamd.socket
    check "stop: then a connection to the socket starts the service" wait_for "$STATE_SECONDS" serves
}

TRANSFERS=()
start_transfer() {
    shift
    container_net_exec curl --silent --fail --show-error --max-time 60 "$@" &
    TRANSFERS+=("$!")
    LOAD_PIDS+=("$!")
}

# All of them, and each with most of its bytes to come.
all_are_under_way() {
    local i
    for ((i = 0; i < DOWNLOADS; i++)); do
        [[ -s $RUN_DIR/download.$i ]] || return 1
    done
    metrics | grep -q '^streamd_uploads_running 1$'
}

# ---------------------------------------------------------------- a configuration that can't work

test_bad_configuration() {
    container systemctl stop streamd.socket streamd.service
    configure 'no_such_key = 1'
    mark_journal
    check "bad configuration: systemctl start fails" fails container systemctl start streamd.service
    check "bad configuration: exit code 78" equal "failed 78" "$(property ActiveState) $(property ExecMainStatus)"
    check "bad configuration: the journal names the key" journal_has no_such_key
    # Longer than RestartSec=, so that a restart would be seen.
    sleep 3
    check "bad configuration: it isn't started again" equal "failed 0" "$(property ActiveState) $(property NRestarts)"
    configure
    container systemctl reset-failed streamd.service
    container systemctl start streamd.socket streamd.service
    check "bad configuration: mended, it starts" wait_for "$STATE_SECONDS" serves
}

# Tests DynamicUser=, by which systemd takes away what the daemon can't do without.
test_dynamic_user() {
    local drop_in=/etc/systemd/system/streamd.service.d/dynamic.conf
    container systemctl stop streamd.socket streamd.service
    container tee "$drop_in" >/dev/null <<<$'[Service]\nDynamicUser=yes'
    container systemctl daemon-reload
    mark_journal
    check "DynamicUser=: systemctl start fails" fails container systemctl start streamd.service
    check "DynamicUser=: exit code 78, and the remedy in the journal" equal "78 yes" \
        "$(property ExecMainStatus) $(journal_has 'RestrictSUIDSGID=no' && printf yes)"
    container rm "$drop_in"
    container systemctl daemon-reload
    container systemctl reset-failed streamd.service
    container systemctl start streamd.socket streamd.service
    check "DynamicUser=: without it, it starts" wait_for "$STATE_SECONDS" serves
}

# ---------------------------------------------------------------- upgrade, removal

test_upgrade() {
    local version socket_life
    version=$(dpkg-deb --field "$RUN_DIR/srv/streamd.deb" Version)+upgrade
    make_newer_package "$version"
    socket_life=$(property InvocationID streamd.socket)
    note_life
    start_load
    check "upgrade: dpkg installs a newer version" quiet container dpkg --install /srv/newer.deb
    check "upgrade: it is installed" equal "$version" "$(installed_version)"
    check "upgrade: the service runs anew" wait_for "$STATE_SECONDS" has_other_process
    check "upgrade: the socket is the one from before" equal "$socket_life" "$(property InvocationID streamd.socket)"
    check "upgrade: the configuration is the one from before" quiet container \
        grep -q '^root = "/srv/files"$' /etc/streamd/streamd.toml
    sleep 1
    check_load upgrade
}

# shellcheck disable=SC2016  # dpkg's variable
installed_version() { container dpkg-query --show --showformat '${Version}' streamd; }

has_other_process() { [[ $(property MainPID) != "$OLD_PID" ]] && serves; }

# Builds the package with another version.
make_newer_package() {
    local tree="$RUN_DIR/newer"
    dpkg-deb --raw-extract "$RUN_DIR/srv/streamd.deb" "$tree"
    sed -i "s/^Version: .*/Version: $1/" "$tree/DEBIAN/control"
    dpkg-deb --root-owner-group --build "$tree" "$RUN_DIR/srv/newer.deb" >/dev/null
}

test_removal() {
    check "remove: dpkg removes it" quiet container dpkg --remove streamd
    check "remove: nothing of it runs" equal "inactive inactive" \
        "$(property ActiveState) $(property ActiveState streamd.socket)"
    check "remove: the configuration stays" quiet container test -e /etc/streamd/streamd.toml
    # These are the administrator's files, which no package removes.
    container rm -rf /etc/systemd/system/streamd.service.d /etc/streamd/token
    check "purge: dpkg purges it" quiet container dpkg --purge streamd
    check "purge: no file is left" equal "" "$(list_files | diff "$RUN_DIR/files.before" - | grep '^[<>]' || true)"
    check "purge: no unit has failed" equal "" "$(container systemctl --failed --plain --no-legend)"
    check "purge: systemd is as it was" equal running "$(container systemctl is-system-running)"
}

main "$@"
