#!/usr/bin/env bash
# A slow disk on any machine: a file system on a loop device from which the processes of one cgroup read no
# faster than they are allowed. Everybody else reads at full speed, so that files can be made and checked.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/values.sh"

usage() {
    cat <<'USAGE'
usage: slow-device.sh up|down|status [--mib-per-s N] [--size SIZE] DIR

  up      make the device, mount it at DIR, throttle it, and measure what it gives
  down    undo all of it; the files on the device are gone
  status  say whether it is up, and measure again

  --mib-per-s N  reading speed, 1 to 10000; 50 where it isn't given
  --size SIZE    size of a new device: 64MiB to 64GiB; 2GiB where it isn't given

Needs root, a free loop device, and the blkio (cgroup v1) or io (cgroup v2) controller. A process is
throttled once its id is written to the file that is printed as "procs". Files and state are in DIR.slow-device.
USAGE
}

SIZE_MIN_BYTES=$((64 << 20))
SIZE_MAX_BYTES=$((64 << 30))

# The measurement reads for about this long.
MEASURE_SECONDS=2

READ_AHEAD_KIB=128

# Room that is left on the disk which holds the device's file.
FREE_BYTES_MIN=$((1 << 30))

COMMAND=
DIRECTORY=
MIB_PER_S=50
SIZE=2GiB

main() {
    parse_arguments "$@"
    STATE_DIR="$DIRECTORY.slow-device"
    IMAGE="$STATE_DIR/image"
    GROUP_NAME="stream-bench-$(cksum <<<"$DIRECTORY" | cut -d ' ' -f 1)"
    check_host
    "$COMMAND"
}

parse_arguments() {
    while (($#)); do
        case $1 in
            -h | --help) usage && exit 0 ;;
            --mib-per-s | --size)
                (($# > 1)) || die_usage "$1 needs a value"
                if [[ $1 == --size ]]; then SIZE=$2; else MIB_PER_S=$2; fi
                shift
                ;;
            -*) die_usage "unknown option \"$1\"" ;;
            up | down | status) if [[ -z $COMMAND ]]; then COMMAND=$1; else DIRECTORY=$1; fi ;;
            *)
                [[ -n $COMMAND && -z $DIRECTORY ]] || die_usage "unexpected argument \"$1\""
                DIRECTORY=$1
                ;;
        esac
        shift
    done
    [[ -n $COMMAND ]] || die_usage "say up, down or status"
    [[ -n $DIRECTORY ]] || die_usage "name the directory at which the device is mounted"
    is_number "$MIB_PER_S" 1 10000 || die_usage "--mib-per-s is \"$MIB_PER_S\": it must be a number from 1 to 10000"
    as_decimal MIB_PER_S
    [[ $SIZE =~ ^[0-9]{1,5}[MG]iB$ ]] || die_usage "--size is \"$SIZE\": it must be like 512MiB or 2GiB"
    SIZE_BYTES=$(numfmt --from=iec-i "${SIZE%B}")
    ((SIZE_BYTES >= SIZE_MIN_BYTES && SIZE_BYTES <= SIZE_MAX_BYTES)) ||
        die_usage "--size is \"$SIZE\": it must lie between 64MiB and 64GiB"
    DIRECTORY=$(realpath -m "$DIRECTORY")
    # /proc/mounts writes blanks as octal numbers.
    [[ $DIRECTORY != *[[:space:]\\]* ]] || die_usage "the directory's path holds blanks or backslashes: choose another"
}

check_host() {
    local program
    ((EUID == 0)) ||
        die "needs root, for loop devices and cgroups: run it as root, or name a directory on a disk that is slow by itself"
    for program in losetup lsblk blockdev mkfs.ext4 mount findmnt dd; do
        command -v "$program" >/dev/null || die "$program is missing (packages util-linux, mount, e2fsprogs, coreutils)"
    done
}

# ---------------------------------------------------------------- commands

up() {
    if ! is_mounted; then
        # Parts that were made before a failure are taken down again.
        trap 'take_down || true' EXIT
        make_device
    fi
    make_group
    throttle
    trap - EXIT
    report
}

down() {
    if ! is_mounted && [[ -z $(loop_device) && ! -e $STATE_DIR ]]; then
        say "$DIRECTORY: nothing is up"
        return 0
    fi
    take_down || die "$DIRECTORY is not wholly down: see above; run this again when that is solved"
    say "$DIRECTORY: down"
}

status() {
    is_mounted || die "$DIRECTORY: nothing is up"
    is_throttled || die "$DIRECTORY is mounted, but not throttled: run up again"
    report
}

report() {
    say "device: $(loop_device) at $DIRECTORY, $(df -h --output=size,avail "$DIRECTORY" | tail -n 1 | awk '{print $1 " (" $2 " free)"}')"
    say "throttle: $(throttle_in_force) bytes/s for reads, by cgroup v$CGROUP_VERSION"
    say "measured: $(measured_mib_per_s) MiB/s"
    say "procs: $(group_directory)/cgroup.procs"
}

# ---------------------------------------------------------------- the device

is_mounted() {
    local device
    device=$(loop_device)
    [[ -n $device ]] && findmnt --noheadings --mountpoint "$DIRECTORY" --source "$device" >/dev/null
}

# The loop device of our image, if there is one.
loop_device() {
    [[ -e $IMAGE ]] || return 0
    losetup --associated "$IMAGE" --noheadings --output NAME | head -n 1 | tr -d ' '
}

make_device() {
    local device available
    if [[ -e $DIRECTORY ]]; then
        [[ -d $DIRECTORY && -z $(ls -A "$DIRECTORY") ]] || die "$DIRECTORY isn't an empty directory: choose another"
    fi
    [[ ! -d $STATE_DIR || -z $(ls -A -I image -I cgroup "$STATE_DIR") ]] ||
        die "$STATE_DIR holds files that aren't a slow device's: choose another directory"
    mkdir -p "$DIRECTORY" "$STATE_DIR"
    available=$(df --output=avail --block-size=1 "$STATE_DIR" | tail -n 1)
    ((available >= SIZE_BYTES + FREE_BYTES_MIN)) ||
        die "$STATE_DIR: $SIZE and 1 GiB to spare are wanted, and $available bytes are free"
    rm -f "$IMAGE"
    truncate --size "$SIZE_BYTES" "$IMAGE"
    # Direct, so that the file's pages are not in the page cache a second time; not every file system has it.
    device=$(losetup --find --show --direct-io=on "$IMAGE" 2>/dev/null || losetup --find --show "$IMAGE") ||
        die "no loop device to be had: containers need --privileged, kernels the loop module (modprobe loop)"
    # The kernel's default for a disk; loop devices get more on some hosts, and then a short measurement sees what is
    # read ahead instead of what is sent.
    echo "$READ_AHEAD_KIB" >"/sys/block/${device##*/}/queue/read_ahead_kb"
    # No journal and no lazy initialisation: nothing writes behind the measurement's back.
    mkfs.ext4 -q -m 0 -O ^has_journal -E lazy_itable_init=0 "$device" || die "mkfs.ext4 failed on $device"
    mount -o noatime "$device" "$DIRECTORY" || die "$device can't be mounted at $DIRECTORY"
}

take_down() {
    local device failed=0
    if is_mounted; then
        umount "$DIRECTORY" || { warn "$DIRECTORY is in use: end what reads from it" && return 1; }
    fi
    device=$(loop_device)
    if [[ -n $device ]]; then losetup --detach "$device" || failed=1; fi
    if find_controller; then remove_group || failed=1; fi
    if is_private_mount; then umount "$STATE_DIR/cgroup" || failed=1; fi
    ((!failed)) || return 1
    rm -f -- "$IMAGE"
    # Anything else in it was put there by somebody else.
    if [[ -d $STATE_DIR/cgroup ]]; then rmdir --ignore-fail-on-non-empty "$STATE_DIR/cgroup"; fi
    if [[ -d $STATE_DIR ]]; then rmdir --ignore-fail-on-non-empty "$STATE_DIR"; fi
    if [[ -d $DIRECTORY ]]; then rmdir --ignore-fail-on-non-empty "$DIRECTORY"; fi
}

# ---------------------------------------------------------------- the throttle

# Sets CGROUP_VERSION and CGROUP_ROOT where a controller of block devices is mounted.
find_controller() {
    CGROUP_VERSION=1
    CGROUP_ROOT=$(awk '$3 == "cgroup" && $4 ~ /(^|,)blkio(,|$)/ { print $2; exit }' /proc/mounts)
    [[ -z $CGROUP_ROOT ]] || return 0
    CGROUP_VERSION=2
    CGROUP_ROOT=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    [[ -n $CGROUP_ROOT && " $(cat "$CGROUP_ROOT/cgroup.controllers") " == *' io '* ]]
}

is_private_mount() { findmnt --noheadings --mountpoint "$STATE_DIR/cgroup" >/dev/null 2>&1; }

is_throttled() { find_controller && [[ -d $(group_directory) ]]; }

group_directory() { printf '%s/%s' "$CGROUP_ROOT" "$GROUP_NAME"; }

make_group() {
    find_controller || mount_controller
    if ((CGROUP_VERSION == 2)) && [[ " $(cat "$CGROUP_ROOT/cgroup.subtree_control") " != *' io '* ]]; then
        echo +io >"$CGROUP_ROOT/cgroup.subtree_control" ||
            die "$CGROUP_ROOT/cgroup.subtree_control refuses +io: this system's cgroups are not ours to change"
    fi
    mkdir -p "$(group_directory)" || die "can't make the cgroup $(group_directory)"
}

# This is for a system that has mounted none, where the kernel has one that isn't bound to the other version.
mount_controller() {
    grep -q '^blkio[[:space:]]' /proc/cgroups ||
        die "this kernel has no blkio controller (CONFIG_BLK_CGROUP): use a directory on a disk that is slow by itself"
    mkdir -p "$STATE_DIR/cgroup"
    mount -t cgroup -o blkio none "$STATE_DIR/cgroup" 2>/dev/null ||
        mount -t cgroup2 none "$STATE_DIR/cgroup" ||
        die "no cgroup hierarchy with a controller of block devices can be mounted"
    find_controller || die "the cgroup hierarchy at $STATE_DIR/cgroup has no controller of block devices"
}

throttle() {
    local numbers bytes_per_s=$((MIB_PER_S << 20))
    numbers=$(device_numbers)
    if ((CGROUP_VERSION == 1)); then
        echo "$numbers $bytes_per_s" >"$(group_directory)/blkio.throttle.read_bps_device"
    else
        echo "$numbers rbps=$bytes_per_s" >"$(group_directory)/io.max"
    fi || die "the kernel refuses the throttle (CONFIG_BLK_DEV_THROTTLING)"
}

device_numbers() { lsblk --nodeps --noheadings --output MAJ:MIN "$(loop_device)" | tr -d ' '; }

throttle_in_force() {
    local numbers
    numbers=$(device_numbers)
    if ((CGROUP_VERSION == 1)); then
        awk -v device="$numbers" '$1 == device { print $2 }' "$(group_directory)/blkio.throttle.read_bps_device"
    else
        sed -n "s/^$numbers .*rbps=\([0-9]*\).*/\1/p" "$(group_directory)/io.max"
    fi
}

# A cgroup can't be removed while processes are in it: they go back to where everybody is.
remove_group() {
    local group pid
    group=$(group_directory)
    [[ -d $group ]] || return 0
    while read -r pid; do
        echo "$pid" >"$CGROUP_ROOT/cgroup.procs" 2>/dev/null || true
    done <"$group/cgroup.procs"
    rmdir "$group" || { warn "$group can't be removed: is a process still in it?" && return 1; }
}

# Measures what dd reads past the page cache, from inside the cgroup.
measured_mib_per_s() {
    local device mib size_mib
    device=$(loop_device)
    mib=$((MIB_PER_S * MEASURE_SECONDS))
    size_mib=$(($(blockdev --getsize64 "$device") >> 20))
    ((mib <= size_mib)) || mib=$size_mib
    # shellcheck disable=SC2016  # expanded by the inner shell
    LC_ALL=C bash -c 'echo $$ >"$1/cgroup.procs" && exec dd if="$2" of=/dev/null bs=1M count="$3" iflag=direct' \
        _ "$(group_directory)" "$device" "$mib" 2>&1 |
        awk -v mib="$mib" '/copied/ { for (i = 1; i <= NF; i++) if ($i == "s,") { printf "%.1f", mib / $(i - 1); found = 1 } }
            END { if (!found) printf "unknown" }'
}

main "$@"
