# shellcheck shell=bash disable=SC2034,SC2153,SC2154  # settings of test-restart.sh, and what check prints
# Checks of test-restart.sh on a rolling restart that can't go on: it stops nobody whom somebody still sends to, and puts
# back whom it took out. Needs suite-stack.sh and the load of test-restart.sh, with what they need.

# A start, a registration, and the check that follows it; or the drain of a watch whose lists stand still.
PUT_BACK_SECONDS=60
ROLLING_PID=

# ---------------------------------------------------------------- broken off

# Interrupts it as by Ctrl-C while a replica leaves, and by a TERM to the script alone while the replica restarts.
test_broken_off() {
    ask_load report
    break_off INT 'leaving' 130 "-"
    break_off TERM 'stopping' 143 ""
    check "broken off: up.sh finds all as it should be" run_up
    none_lost "broken off"
}

# break_off SIGNAL STEP STATUS PREFIX: PREFIX is - where the whole process group gets it.
break_off() {
    local what="broken off by SIG$1 while $2" status=0 log="$RUN_DIR/rolling.log"
    : >"$log"
    # bash starts what runs in the background with SIGINT ignored, which it then can't trap.
    setsid env --default-signal=INT,TERM "$REPO_DIR/scripts/rolling-restart.sh" >"$log" 2>&1 </dev/null &
    ROLLING_PID=$!
    wait_for "$PUT_BACK_SECONDS" grep -q "replica-1: $2" "$log" || warn "$what: it didn't get there"
    kill "-$1" -- "$4$ROLLING_PID" 2>/dev/null || true
    wait "$ROLLING_PID" 2>/dev/null || status=$?
    ROLLING_PID=
    check "$what: it ends with $3" equal "$3" "$status"
    CHECK_DETAIL="it printed: $(<"$log")"
    check "$what: it says that the replica is back" grep -q 'replica-1 is back in rotation' "$log"
    check "$what: all replicas are listed and pass" wait_for "$LISTED_SECONDS" all_listed
}

# ---------------------------------------------------------------- lists that stand still

# NGINX refuses whatever it is given, so that the replica that leaves stays in its lists.
test_lists_stand_still() {
    local before
    ask_load report
    before=$(pids_of 'replica-*')
    # A drain that can't end shouldn't last.
    stop_processes TERM 30 register-replica-1
    DRAIN_SECONDS_MAX=3 start_registration 1 >/dev/null
    wait_for "$LISTED_SECONDS" all_in_force || warn "replica-1 isn't back in the lists"
    cp "$NGINX_DIR/nginx.conf" "$RUN_DIR/nginx.conf.good"
    echo 'no_such_directive;' >>"$NGINX_DIR/nginx.conf"
    check "lists that stand still: rolling-restart.sh ends with 1" ends_with 1 "$REPO_DIR/scripts/rolling-restart.sh"
    # The lists may have been found to stand still before its turn, by a change of something else.
    CHECK_DETAIL="it printed: $(<"$RUN_DIR/quiet.log")"
    check "lists that stand still: it names the reason" \
        grep -q -E "was not stopped, since|NGINX's lists can't change" "$RUN_DIR/quiet.log"
    check "lists that stand still: no replica was stopped" equal "$before" "$(pids_of 'replica-*')"
    cp "$RUN_DIR/nginx.conf.good" "$NGINX_DIR/nginx.conf"
    check "lists that stand still: mended, all replicas are listed and pass" wait_for "$LISTED_SECONDS" all_listed
    none_lost "lists that stand still"
}

# Reads the lists that NGINX works with, not only those in its files.
all_in_force() {
    local plane
    for plane in control data; do
        [[ $(grep -c '^server ' "$(list_in_force "$plane")") == 3 ]] || return 1
    done
    all_passing
}

# ---------------------------------------------------------------- an agent that hangs

test_rolling_without_agent() {
    local before
    before=$(pids_of 'replica-*')
    kill -STOP "$(process_pid consul)"
    check "agent hung: rolling-restart.sh ends with 1" ends_with 1 "$REPO_DIR/scripts/rolling-restart.sh"
    check "agent hung: it says that nothing was touched" grep -q 'nothing was touched: the Consul agent' "$RUN_DIR/quiet.log"
    check "agent hung: no replica was stopped" equal "$before" "$(pids_of 'replica-*')"
    kill -CONT "$(process_pid consul)"
}
