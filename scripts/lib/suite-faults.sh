# shellcheck shell=bash disable=SC2034,SC2153  # settings of test-followers.sh, and what check prints
# Checks of test-followers.sh on followers that are killed, that have no room on their disk, and whose Consul is silent.
# Needs test-followers.sh, with what it needs.

# ---------------------------------------------------------------- killed

test_killed() {
    local pid killed
    read -r pid _ < <(curls_of_followers) || true
    [[ -z $pid ]] || kill -KILL "$pid"
    check "a killed curl: the list follows" follows
    pid=$(kept)
    kill -KILL "$pid"
    check "a killed main process: another is started" wait_for "$FOLLOWS_SECONDS" kept_differs "$pid"
    check "a killed main process: the list follows" follows
    check "a killed main process: its followers have gone" wait_for "$FOLLOWS_SECONDS" equal 2 "$(followers | wc -w)"
    check "nobody stands still" wait_for "$FOLLOWS_SECONDS" follow_again
    # Last, since who begins removes what was left by then: test_end looks at what is left of the answers that their curls
    # wait for.
    check "both ask" wait_for "$FOLLOWS_SECONDS" both_ask
    killed=$(followers)
    for pid in $killed; do kill -KILL "$pid"; done
    check "killed followers: others are started" wait_for "$FOLLOWS_SECONDS" followed_by_others "$killed"
    check "killed followers: the list follows" follows
    check "killed followers: it was said" says 'the follower of data.conf ended with 137: starting it again'
    check "killed followers: nobody stands still" wait_for "$FOLLOWS_SECONDS" follow_again
}

# followed_by_others PIDS
followed_by_others() {
    local pid count=0
    for pid in $(followers); do
        [[ " ${1//$'\n'/ } " != *" $pid "* ]] || return 1
        ((++count))
    done
    ((count == 2))
}

kept() { children_of "$(process_pid followers)"; }

kept_differs() { [[ -n $(kept) && $(kept) != "$1" ]]; }

children_of() {
    local children=()
    { read -ra children <"/proc/$1/task/$1/children"; } 2>/dev/null || true
    printf '%s' "${children[*]}"
}

# The shells of the main process that have been there for a second.
followers() {
    local pid
    for pid in $(children_of "$(kept)"); do
        [[ $(tr '\0' ' ' <"/proc/$pid/cmdline") == *nginx-upstreams.sh* ]] && printf '%s ' "$pid"
    done 2>/dev/null
    return 0
}

curls_of_followers() {
    local pid child
    for pid in $(followers); do
        for child in $(children_of "$pid"); do
            if [[ $(cat "/proc/$child/comm" 2>/dev/null) == curl ]]; then printf '%s ' "$child"; fi
        done
    done
}

both_ask() { (($(curls_of_followers | wc -w) == 2)); }

# ---------------------------------------------------------------- a full disk

# A small file system in a mount namespace of its own, which goes with the process.
test_full_disk() {
    local disk="$RUN_DIR/disk" root
    mkdir "$disk"
    if ! unshare --mount true 2>/dev/null; then
        say "skipped full disk: it needs a mount namespace, which only root may have here"
        return 0
    fi
    # shellcheck disable=SC2016  # expanded by the inner shell
    start_process disk unshare --mount --propagation private bash -c \
        'mount -t tmpfs -o size=64k tmpfs "$1" && exec "$2" --dir "$1" --conf "$1/none.conf"' _ "$disk" "$SCRIPTS_DIR/nginx-upstreams.sh"
    root="/proc/$(process_pid disk)/root$disk"
    check "full disk: the list is there" wait_for "$FOLLOWS_SECONDS" grep -qs 127.0.0.1:1001 "$root/control.conf"
    dd if=/dev/zero of="$root/filler" bs=4k 2>/dev/null || true
    register control 127.0.0.3 1001
    check "full disk: it is said" wait_for "$FOLLOWS_SECONDS" grep -qs 'control.conf .*\(full\|Fail\|write\)' "$LOG_DIR/disk.log"
    check "full disk: whoever asks is told" wait_for "$FOLLOWS_SECONDS" quiet lists_stand_still "$root"
    check "full disk: the list stays" grep -q '^server 127.0.0.1:1001 max_fails=0;$' "$root/control.conf"
    rm "$root/filler"
    check "full disk: after it the list follows" wait_for "$FOLLOWS_SECONDS" grep -qs 127.0.0.3:1001 "$root/control.conf"
    check "full disk: by the same process" process_lives disk
    deregister control 127.0.0.3 1001
    stop_processes TERM 15 disk
}

# ---------------------------------------------------------------- silence

test_hung_consul() {
    kill -STOP "$(process_pid consul)"
    check "hung Consul: whoever asks is told" wait_for "$FOLLOWS_SECONDS" stands_for 'Consul at .*timed out'
    check "hung Consul: the list stays" grep -q 127.0.0.1:1001 "$(list_in_force control)"
    kill -CONT "$(process_pid consul)"
    check "hung Consul: after it the lists follow" wait_for "$FOLLOWS_SECONDS" follow_again
    check "hung Consul: a change comes through" follows
}

SILENT_DIR="$RUN_DIR/silent"

# Another follower, which is stopped as soon as both of its lists are followed: its silence takes 30 s to be heard.
begin_silent_follower() {
    start_process silent "$SCRIPTS_DIR/nginx-upstreams.sh" --dir "$SILENT_DIR" --conf "$RUN_DIR/none.conf"
    check "a second NGINX of the host has an alarm of its own" wait_for "$FOLLOWS_SECONDS" has_checks "$(silent_alarm)"
    check "and it passes" wait_for "$FOLLOWS_SECONDS" status_is passing "$(silent_alarm)"
    signal_session STOP silent
}

silent_alarm() { UPSTREAMS_DIR=$SILENT_DIR alarm_id; }

# signal_session SIGNAL NAME: all processes that the named one leads.
signal_session() {
    local leader directory
    leader=$(process_pid "$2") || return 0
    for directory in /proc/[0-9]*; do
        read_stat "${directory#/proc/}" || continue
        if [[ $STAT_SESSION == "$leader" ]]; then kill -"$1" "${directory#/proc/}" 2>/dev/null || true; fi
    done
}

test_silence() {
    check "a silent follower: Consul calls it critical" wait_for "$ALARM_SECONDS" status_is critical "$(silent_alarm)"
    check "a silent follower: whoever asks is told" wait_for "$ALARM_SECONDS" quiet lists_stand_still "$SILENT_DIR"
    signal_session CONT silent
    check "it speaks again: Consul calls it passing" wait_for "$FOLLOWS_SECONDS" status_is passing "$(silent_alarm)"
}
