# shellcheck shell=bash disable=SC2034  # what is set here is read by the scripts and by checks.sh
# Shared parts of the test-*.sh scripts: the life of a suite, and the parts of its checks. Needs environment.sh,
# messages.sh and checks.sh.

# ---------------------------------------------------------------- the life of a suite

# A suite makes RUN_DIR, has a usage and a clean_up of its own, and begins and ends with these.

FINISHED=0
QUIET_LOG="$RUN_DIR/quiet.log"

# no_arguments ARGUMENT...: of a suite that knows none but -h.
no_arguments() {
    case ${1:-} in
        '') ;;
        -h | --help) rmdir "$RUN_DIR" && usage && exit 0 ;;
        *) rmdir "$RUN_DIR" && die_usage "unknown argument \"$1\"" ;;
    esac
}

clean_up_at_the_end() {
    trap clean_up EXIT
    trap 'exit 130' INT TERM
}

finish() {
    FINISHED=1
    check_summary
}

# The first thing that clean_up does: it can't be interrupted, and what the suite didn't come to has failed.
count_unfinished() {
    trap '' INT TERM
    ((!FINISHED)) || return 0
    CHECKS_FAILED=$((CHECKS_FAILED + 1))
    warn "ended before its last check"
    check_summary || true
}

# The last: remove_or_keep STATUS WHAT
remove_or_keep() { if (($1 == 0)); then rm -rf -- "$RUN_DIR"; else warn "$2 kept in $RUN_DIR"; fi; }

# ---------------------------------------------------------------- checks

# equal EXPECTED GOT
equal() {
    CHECK_DETAIL="expected \"$1\", got \"$2\""
    [[ $1 == "$2" ]]
}

quiet() {
    CHECK_DETAIL="see $QUIET_LOG"
    "$@" >"$QUIET_LOG" 2>&1
}

# Runs without a sound, whatever it returns.
silent() {
    local output
    output=$("$@" 2>&1) || true
    CHECK_DETAIL="it printed: $output"
    [[ -z $output ]]
}

fails() {
    CHECK_DETAIL="it succeeded"
    ! "$@" >"$QUIET_LOG" 2>&1
}

# ends_saying STATUS TEXT COMMAND...: its exit code, and a part of what it prints.
ends_saying() {
    local expected=$1 text=$2 status=0 output
    shift 2
    output=$("$@" 2>&1 </dev/null) || status=$?
    CHECK_DETAIL="exit code $status, output: $output"
    [[ $status == "$expected" && $output == *"$text"* ]]
}

# ---------------------------------------------------------------- the scripts elsewhere

# in_libraries FOLDER NAME... -- SCRIPT [ARGUMENT...]: in a bash of its own that has sourced these files of the folder.
# shellcheck disable=SC2016  # expanded by the inner shell
in_libraries() {
    local folder=$1 names=()
    shift
    while [[ $1 != -- ]]; do
        names+=("$1")
        shift
    done
    bash -c 'set -euo pipefail
        for name in $2; do source "$1/$name.sh"; done
        script=$3
        shift 3
        eval "$script"' _ "$folder" "${names[*]}" "${@:2}"
}

# install_scripts FOLDER: what the package has in /usr/lib/streamd, with nothing else of the repository.
install_scripts() {
    local name
    mkdir -p "$1/lib"
    while read -r name; do
        cp "$REPO_DIR/scripts/$name" "$1/$name"
    done < <(sed -n 's#^.* usr/lib/streamd/\(.*\)#\1#p' "$REPO_DIR/packaging/contents")
}
