#!/usr/bin/env bash
# Tests what a disk costs those who ask for what is in memory, while others press: windows that look hot and aren't, from a
# device that reads 8 MiB/s for the daemon alone (slow-device.sh). Needs root, loop devices and the blkio or io controller.
set -euo pipefail
SCRIPTS_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
    cat <<'USAGE'
usage: test-cold-pressure.sh [--short] [--before PROGRAM] [--driver NAME] STREAMD

  STREAMD           the daemon's program
  --short           fewer cases, files and seconds: half a minute in all
  --before PROGRAM  another one, which is pressed first and not judged
  --driver NAME     auto, uring or epoll; auto where it isn't given

Prints a table: the times of a hot GET that is asked for every 5 ms, the oldest heartbeat of the worker, what was pulled,
how often and how long at most the worker waited. Exit code 0 when that is within what ARCHITECTURE.md promises, 1
when it isn't, 77 where this host can't make a slow device.
USAGE
}

SKIPPED=77
SECONDS_LONG=10 FILES_LONG=10000
SECONDS_SHORT=3 FILES_SHORT=200
# The watchdog is fed within a second; a loaded machine may take longer to let anybody run.
HEARTBEAT_LONG_S=1 HEARTBEAT_SHORT_S=10

CASES_LONG=forged,lacking,many,evicted,memory CASES_SHORT=forged,many,evicted

before='' driver=auto program='' cases=$CASES_LONG seconds=$SECONDS_LONG files=$FILES_LONG heartbeat=$HEARTBEAT_LONG_S
while (($#)); do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --short) seconds=$SECONDS_SHORT files=$FILES_SHORT heartbeat=$HEARTBEAT_SHORT_S cases=$CASES_SHORT ;;
        --before) before=${2:?"--before needs a program"} && shift ;;
        --driver) driver=${2:?"--driver needs a name"} && shift ;;
        -*) usage >&2 && exit 2 ;;
        *) program=$1 ;;
    esac
    shift
done
[[ -x $program ]] || { usage >&2 && exit 2; }

directory=$(mktemp -d "${TMPDIR:-/tmp}/streamd-cold-pressure.XXXXXX")
clean_up() {
    "$SCRIPTS_DIR/slow-device.sh" down "$directory/device" >/dev/null || true
    rm -rf -- "${directory:?}/log"
    rmdir --ignore-fail-on-non-empty "$directory"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

if ! "$SCRIPTS_DIR/slow-device.sh" up --mib-per-s 8 --size 3GiB "$directory/device" >"$directory/log" 2>&1; then
    printf 'skipped: %s\n' "$(tail -n 1 "$directory/log")"
    exit "$SKIPPED"
fi
procs=$(sed -n 's/^procs: //p' "$directory/log")

press() {
    "$SCRIPTS_DIR/cold-pressure.py" --dir "$directory/device" --procs "$procs" --driver "$driver" --seconds "$seconds" --files "$files" \
        --cases "$cases" "$@"
}

if [[ -n $before ]]; then
    printf 'before: %s\n' "$before"
    press --streamd "$before"
    printf 'now: %s\n' "$program"
fi
press --streamd "$program" --check "$heartbeat"
