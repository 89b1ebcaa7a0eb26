# shellcheck shell=bash
# A Debian with a real systemd as its process 1, in namespaces of its own: for tests of units and packages.
# Needs environment.sh, messages.sh, waiting.sh and debian.sh.
#
#   container_prepare         makes the root file system where there is none; sets CONTAINER_ROOT
#   container_boot SHARED     boots it; SHARED is its /srv; sets CONTAINER_PID, the pid of its systemd
#   container COMMAND...      runs a command in it
#   container_net COMMAND...  runs a command of this host in its network
#   container_net_exec COMMAND...  the same in place of the calling shell; for the background
#   container_stop            ends it; to be called on every way out

CONTAINER_SUITE=bookworm
# Debian's base, systemd, and what streamd's package depends on or recommends.
CONTAINER_PACKAGES=systemd,systemd-sysv,dbus,curl,jq,ca-certificates
CONTAINER_BOOT_SECONDS=60
CONTAINER_STOP_SECONDS=20

CONTAINER_ROOT=
CONTAINER_PID=
CONTAINER_UNSHARE_PID=
CONTAINER_NAME=
CONTAINER_NAMESPACES=(--mount --pid --fork --kill-child --net --uts --ipc)

# Prints why containers can't be booted here; nothing where they can.
container_obstacle() {
    local why
    if ((EUID != 0)); then
        say "it needs root"
    elif ! why=$(unshare "${CONTAINER_NAMESPACES[@]}" --cgroup mount -t cgroup2 cgroup2 /mnt 2>&1); then
        say "namespaces, or mounts in them, are not allowed here: ${why//$'\n'/ }"
    elif ! container_root_is_there && ! command -v debootstrap >/dev/null; then
        say "debootstrap is not installed (scripts/install-deps.sh installs it)"
    elif ! container_root_is_there && ! debian_mirror >/dev/null; then
        say "this host isn't a Debian: its apt sources name no mirror"
    fi
}

# ---------------------------------------------------------------- the root file system

container_root_path() { printf '%s/root-%s' "$DEPS_DIR" "$CONTAINER_SUITE"; }

# A root that was made for another list of packages is made again.
container_root_is_there() { [[ $(cat "$(container_root_path)/etc/made-for" 2>/dev/null) == "$CONTAINER_PACKAGES" ]]; }

container_prepare() {
    CONTAINER_ROOT=$(container_root_path)
    mkdir -p "$DEPS_DIR"
    # Another run may be making it.
    exec 8>"$DEPS_DIR/lock"
    flock 8
    container_root_is_there || container_make_root
    exec 8>&-
}

container_make_root() {
    local new="$CONTAINER_ROOT.new" log="$DEPS_DIR/debootstrap.log" timer
    rm -rf --one-file-system -- "$new" "$CONTAINER_ROOT"
    say "making a Debian $CONTAINER_SUITE in $CONTAINER_ROOT"
    # In namespaces, since debootstrap mounts /proc in the new root and leaves it there when it is interrupted.
    if ! unshare --mount --pid --fork --kill-child debootstrap --variant=minbase \
        --include="$CONTAINER_PACKAGES" "$CONTAINER_SUITE" "$new" "$(debian_mirror)" >"$log" 2>&1; then
        die_with_log "debootstrap failed" "$log"
    fi
    rm -rf "$new"/var/cache/apt/archives/*.deb "$new"/var/lib/apt/lists/*
    for timer in apt-daily apt-daily-upgrade dpkg-db-backup e2scrub_all; do
        # Nothing that a test didn't start, and without a network some would fail.
        ln -s /dev/null "$new/etc/systemd/system/$timer.timer"
    done
    printf '%s\n' "$CONTAINER_PACKAGES" >"$new/etc/made-for"
    mv "$new" "$CONTAINER_ROOT"
}

# ---------------------------------------------------------------- its life

container_boot() {
    local shared=$1 log="$1.boot.log"
    CONTAINER_NAME="streamd-test-$BASHPID"
    # A session of its own: an interrupt from the terminal reaches the script, which then ends the container. It ends
    # as well where the script is killed.
    setsid setpriv --pdeathsig KILL unshare "${CONTAINER_NAMESPACES[@]}" -- "$REPO_DIR/scripts/container-init.sh" \
        "$CONTAINER_ROOT" "$shared" "$CONTAINER_NAME" >"$log" 2>&1 </dev/null &
    CONTAINER_UNSHARE_PID=$!
    wait_for "$CONTAINER_BOOT_SECONDS" container_has_systemd || die_with_log "systemd didn't start" "$log"
    wait_for "$CONTAINER_BOOT_SECONDS" container_is_up || die_with_log "systemd didn't come up" "$log"
}

container_has_systemd() {
    CONTAINER_PID=$(cat "/proc/$CONTAINER_UNSHARE_PID/task/$CONTAINER_UNSHARE_PID/children" 2>/dev/null) || return 1
    CONTAINER_PID=${CONTAINER_PID%% *}
    [[ -n $CONTAINER_PID && $(cat "/proc/$CONTAINER_PID/comm") == systemd ]]
}

container_is_up() { [[ $(container systemctl is-system-running 2>/dev/null) =~ ^(running|degraded)$ ]]; }

container() {
    nsenter --target "$CONTAINER_PID" --mount --uts --ipc --net --pid --cgroup --root --wd -- \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
        SYSTEMD_PAGER= DEBIAN_FRONTEND=noninteractive "$@"
}

container_net() { (container_net_exec "$@"); }

# In the background $! is then the command itself, not a shell around it; it ends where the script is killed.
container_net_exec() { exec setpriv --pdeathsig KILL nsenter --target "$CONTAINER_PID" --net -- "$@"; }

# Prints this host's pid of a process of the container.
container_host_pid() {
    local directory ids namespace
    namespace=$(readlink "/proc/$CONTAINER_PID/ns/pid")
    for directory in /proc/[0-9]*; do
        [[ $(readlink "$directory/ns/pid" 2>/dev/null) == "$namespace" ]] || continue
        ids=$(sed -n 's/^NSpid:[[:space:]]*//p' "$directory/status" 2>/dev/null) || continue
        if [[ ${ids##*[[:space:]]} == "$1" ]]; then
            printf '%s' "${directory#/proc/}"
            return 0
        fi
    done
    return 1
}

# The kernel ends every process of a process namespace with its first, and --kill-child ends that one with
# unshare, even where this script is killed before it gets here.
container_stop() {
    local pid=$CONTAINER_UNSHARE_PID
    [[ -n $pid ]] || return 0
    CONTAINER_UNSHARE_PID=
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    wait_for "$CONTAINER_STOP_SECONDS" container_cgroup_removed ||
        warn "the cgroup $CONTAINER_NAME still has processes"
}

# Only an empty cgroup can be removed, so this also tells whether all processes are gone.
# shellcheck disable=SC2016  # expanded by the inner shell
container_cgroup_removed() {
    unshare --mount bash -c '
        mount -t cgroup2 cgroup2 /mnt
        own=$(sed -n "s/^0:://p" /proc/self/cgroup)
        group="/mnt${own%/}/$1"
        if [[ -d $group ]]; then find "$group" -depth -type d -exec rmdir {} + 2>/dev/null; fi
        [[ ! -d $group ]]' _ "$CONTAINER_NAME"
}
