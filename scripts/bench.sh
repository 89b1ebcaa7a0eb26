#!/usr/bin/env bash
# Runs the standard set of the bench on streamd and its peers and writes bench-results/<date>.json and .html.
# Where it may (root, loop devices), it sets up a slow device for the mixed scenarios and a tmpfs for uploads, and
# removes them again.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"

usage() {
    cat <<'USAGE'
usage: bench.sh quick|full [--host-network] [ARGUMENT...]

  quick  one short round of streamd, nginx and the ceiling: under 6 minutes
  full   five rounds of all peers that are installed (scripts/install-peers.sh); after 40 minutes no further
         measurement is begun

  --host-network  the host's loopback, with the host's congestion control. Else root measures in a network
                  namespace of its own, with reno: BBR, where it is the host's default, would pace loopback by timers

Further arguments go to `stream-bench compare`, for example --only pull. The server runs on core 0 and the client
on core 1, where there are two. Uploads go to root/put-tmpfs and root/put-disk of bench-results/work: a tmpfs, which
takes root, and the file system of bench-results. Nothing else should run meanwhile.
USAGE
}

RESULTS_DIR=$REPO_DIR/bench-results
WORK_DIR=$RESULTS_DIR/work
SLOW_NAME=slow
SLOW_DIR=$WORK_DIR/root/$SLOW_NAME
# The slow device writes as fast as slow-device.sh lets it read.
SLOW_WRITE_BYTES_PER_S=$((50 << 20))

PUT_DISK_NAME='put-disk'
PUT_TMPFS_NAME='put-tmpfs'
PUT_TMPFS_DIR=$WORK_DIR/root/$PUT_TMPFS_NAME
# Up to 2.3 GiB of it are used: each name has its body, and the next arrives.
PUT_TMPFS_SIZE=6g
MEMORY_KIB_MIN=$((6 << 20))

main() {
    local set=${1:-}
    case $set in
        quick | full) shift ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
    if [[ ${1:-} == --host-network ]]; then
        OWN_NETWORK=
        shift
    fi
    local peers=streamd,streamd-again,nginx,h2o,lighttpd,caddy,ceiling
    [[ $set == full ]] || peers=streamd,streamd-again,nginx,ceiling
    # cargo reads a relative one from where it is started; it is made absolute for the programs below.
    local target
    target=$(realpath -m -- "${CARGO_TARGET_DIR:-$REPO_DIR/target}")
    cargo build --manifest-path "$REPO_DIR/Cargo.toml" --target-dir "$target" --release --locked --workspace
    mkdir -p "$WORK_DIR/root"
    # The bench takes a directory that isn't empty only with its own mark.
    touch "$WORK_DIR/.stream-bench"
    local arguments=(--set "$set" --peers "$peers" --directory "$WORK_DIR")
    [[ " $* " == *" --streamd"[\ =]* ]] || arguments+=(--streamd "$target/release/streamd")
    if (($(nproc) > 1)); then arguments+=(--server-cores 0 --client-cores 1); fi
    trap clean_up EXIT
    if make_slow_device; then
        arguments+=(--slow "$SLOW_NAME" --slow-cgroup "$SLOW_PROCS")
        slow_writes || warn "the slow device writes fast: mixed-put says nothing"
    fi
    local put=$PUT_DISK_NAME
    if mount_tmpfs; then put=$PUT_TMPFS_NAME,$put; fi
    arguments+=(--put-directory "$put")
    local name
    name=$RESULTS_DIR/$(date -u +%Y-%m-%dT%H%M%SZ)
    # streamd that failed at something makes the run fail, but not lose what the others did.
    local status=0
    local command=("$target/release/stream-bench" compare "${arguments[@]}" --json "$name.json" "$@")
    if own_network_works; then in_own_network "${command[@]}" || status=$?; else "${command[@]}" || status=$?; fi
    [[ -s $name.json ]] || exit "$status"
    "$target/release/stream-bench" report "$name.json" --output "$name.html"
    say "results: $name.json"
    say "page:    $name.html"
    return "$status"
}

# Every namespace may choose reno; cubic, which loopback can't tell from it, only where the host allows it
# (net.ipv4.tcp_allowed_congestion_control).
OWN_NETWORK=yes
in_own_network() {
    unshare --net bash -c '
        ip link set lo up && echo reno >/proc/sys/net/ipv4/tcp_congestion_control && exec "$@"
    ' bash "$@"
}

own_network_works() {
    [[ -n $OWN_NETWORK ]] || return 1
    local reason
    if reason=$(in_own_network true 2>&1); then return 0; fi
    warn "the host's network and congestion control are used: $(tail -n 1 <<<"$reason")"
    return 1
}

SLOW_PROCS=
make_slow_device() {
    local log=$RESULTS_DIR/slow-device.log
    if ! "$REPO_DIR/scripts/slow-device.sh" up --size 6GiB "$SLOW_DIR" >"$log" 2>&1; then
        warn "no slow device, so no mixed scenarios: $(tail -n 1 "$log")"
        return 1
    fi
    SLOW_PROCS=$(sed -n 's/^procs: //p' "$log")
    say "slow device: $(grep -m 1 'MiB/s' "$log" || true)"
}

# The device writes what is dirty no faster than it reads, and whoever writes waits for it as soon as a little is dirty
# (strict_limit, Linux 6.2): else a few gigabytes would go into memory first, at its speed.
BDI_DIR=
slow_writes() {
    local device numbers
    device=$(findmnt --noheadings --output SOURCE --mountpoint "$SLOW_DIR")
    numbers=$(lsblk --nodeps --noheadings --output MAJ:MIN "$device" | tr -d ' ')
    [[ -w /sys/class/bdi/$numbers/strict_limit ]] || { warn "this kernel has no strict_limit (Linux 6.2)" && return 1; }
    BDI_DIR=/sys/class/bdi/$numbers
    throttle_writes "$numbers" "$SLOW_WRITE_BYTES_PER_S" ||
        { warn "the kernel refuses to throttle writes" && return 1; }
    echo 1 >"$BDI_DIR/max_ratio"
    echo 1 >"$BDI_DIR/strict_limit"
    say "slow device: $(measured_write_mib_per_s) MiB/s for writes"
}

# Pages are written back in nobody's name under cgroup v1, thus by the root of the hierarchy; under v2 by whoever made
# them dirty.
throttle_writes() {
    local numbers=$1 bytes_per_s=$2 group=${SLOW_PROCS%/cgroup.procs}
    if [[ -e $group/io.max ]]; then
        echo "$numbers wbps=${bytes_per_s/#0/max}" >"$group/io.max"
    else
        echo "$numbers $bytes_per_s" >"${group%/*}/blkio.throttle.write_bps_device"
    fi
}

measured_write_mib_per_s() {
    local file=$SLOW_DIR/written
    # shellcheck disable=SC2016  # expanded by the inner shell
    LC_ALL=C bash -c 'echo $$ >"$1" && exec dd if=/dev/zero of="$2" bs=1M count=150 conv=fsync' \
        _ "$SLOW_PROCS" "$file" 2>&1 |
        awk '/copied/ { for (i = 1; i <= NF; i++) if ($i == "s,") printf "%.1f", 150 / $(i - 1) }'
    rm -f "$file"
}

mount_tmpfs() {
    ((EUID == 0)) || { warn "no uploads to tmpfs: mounting one needs root" && return 1; }
    local available
    available=$(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo)
    ((available >= MEMORY_KIB_MIN)) || { warn "no uploads to tmpfs: $available KiB of memory are too few" && return 1; }
    mkdir -p "$PUT_TMPFS_DIR"
    # One may be left of a run that was killed.
    mountpoint --quiet "$PUT_TMPFS_DIR" || mount -t tmpfs -o "size=$PUT_TMPFS_SIZE,mode=755" put-tmpfs "$PUT_TMPFS_DIR"
}

clean_up() {
    if mountpoint --quiet "$PUT_TMPFS_DIR"; then umount "$PUT_TMPFS_DIR" || true; fi
    # They stay with the loop device, and so for its next user.
    if [[ -n $BDI_DIR ]]; then
        echo 0 >"$BDI_DIR/strict_limit"
        echo 100 >"$BDI_DIR/max_ratio"
        throttle_writes "${BDI_DIR##*/}" 0 || true
    fi
    if [[ -n $SLOW_PROCS ]]; then "$REPO_DIR/scripts/slow-device.sh" down "$SLOW_DIR" >/dev/null; fi
}

main "$@"
