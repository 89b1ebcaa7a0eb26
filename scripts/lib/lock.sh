# shellcheck shell=bash
# One script at a time. Needs environment.sh and messages.sh.

# One up.sh, down.sh or rolling-restart.sh at a time. Descriptor 9 is closed in every process they start.
lock_stack() {
    local lock="$RUN_DIR/lock"
    [[ -w $RUN_DIR ]] || die "$RUN_DIR belongs to another user: remove it or set RUN_DIR"
    if [[ -e $lock || -L $lock ]]; then
        [[ -f $lock && ! -L $lock && ! -s $lock ]] || die "$lock is not a stack's: choose another RUN_DIR"
        # Its records name processes to be ended: root, who may do that to any, must not take them from somebody else.
        [[ -O $lock && (-O $PID_DIR || ! -e $PID_DIR) ]] || die "the stack in $RUN_DIR is another user's: be that user, or set RUN_DIR"
    fi
    # Not >, which would empty a file that came there meanwhile.
    exec 9>>"$lock" || die "can't write $lock: choose another RUN_DIR"
    flock -w 120 9 || die "another script has been starting or stopping the stack in $RUN_DIR for two minutes"
}
