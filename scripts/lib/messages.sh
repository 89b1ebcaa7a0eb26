# shellcheck shell=bash
# Messages of a script, and its exit. Needs environment.sh.

say() { printf '%s\n' "$@"; }

warn() { printf '%s: %s\n' "$SCRIPT_NAME" "$*" >&2; }

die() {
    warn "$*"
    exit 1
}

# For the long-running scripts, whose output is a log.
log() { printf '%(%Y-%m-%dT%H:%M:%S%z)T %s: %s\n' -1 "$SCRIPT_NAME" "$*"; }

die_usage() {
    warn "$*; try $SCRIPT_NAME -h"
    exit 2
}

# Ends the script; shows the end of the log in which the reason stands.
die_with_log() {
    local message=$1 log_file=$2
    if [[ -s $log_file ]]; then
        printf -- '--- last lines of %s\n' "$log_file" >&2
        tail -n 15 "$log_file" >&2
        printf -- '---\n' >&2
    fi
    die "$message (log: $log_file)"
}

# write_file PATH LINE...: ends the script with the system's reason where that can't be, on a full disk say.
write_file() {
    local says
    says=$({ printf '%s\n' "${@:2}" >"$1"; } 2>&1) || die "can't write $1: ${says##*: }"
}

append_line() {
    local says
    says=$({ printf '%s\n' "$2" >>"$1"; } 2>&1) || die "can't write $1: ${says##*: }"
}
