#!/usr/bin/env bash
# Turns a directory with Debian into a container and becomes its systemd. Run by lib/container.sh as the first
# process of new mount, process, network, host name and IPC namespaces; adds the cgroup namespace itself.
# All mounts are made in the mount namespace alone: when its last process ends, they are gone.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: container-init.sh ROOT SHARED NAME

  ROOT    a Debian root file system; it isn't written to
  SHARED  a directory that the container sees as /srv
  NAME    its cgroup below the caller's
USAGE
}

ROOT=${1:-} SHARED=${2:-} NAME=${3:-}

main() {
    if [[ ${1:-} == -h || ${1:-} == --help ]]; then usage && exit 0; fi
    if (($# != 3)) || [[ $$ != 1 ]]; then usage >&2 && exit 2; fi
    if [[ -z ${CONTAINER_HAS_CGROUP:-} ]]; then
        enter_cgroup
        # The namespace's root is the cgroup in which its first process is.
        CONTAINER_HAS_CGROUP=1 exec unshare --cgroup -- "$0" "$@"
    fi
    mount_root
    mount_kernel_views
    make_devices
    pivot_root . .
    umount --lazy .
    # Outside of containers systemd does this itself. Credentials (LoadCredential=) come to a service through mounts
    # that are propagated.
    mount --make-rshared /
    # From here on the path of this file is that of the container; bash has read all of it (exec is in a function).
    exec env -i container=lxc PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --log-target=journal --show-status=no
}

# A cgroup of its own below that of the caller: systemd makes its slices in it, not beside those of the host.
enter_cgroup() {
    local own
    own=$(sed -n 's/^0:://p' /proc/self/cgroup)
    mount -t cgroup2 cgroup2 /mnt
    mkdir "/mnt${own%/}/$NAME"
    echo 0 >"/mnt${own%/}/$NAME/cgroup.procs"
    umount /mnt
}

# Everything written goes to memory and is gone with the namespace, so that the root stays as it was made.
mount_root() {
    mount -t tmpfs -o mode=0755 tmpfs /mnt
    mkdir /mnt/upper /mnt/work /mnt/root
    mount -t overlay -o "lowerdir=$ROOT,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
    mount --bind "$SHARED" /mnt/root/srv
    cd /mnt/root
}

# /proc/sys and /sys belong to the host as well: systemd sets sysctls and starts udev only where they can be
# written (ConditionPathIsReadWrite= in its units).
mount_kernel_views() {
    mount -t proc proc proc
    mount --bind proc/sys proc/sys
    mount -o remount,bind,ro proc/sys
    mount -t sysfs -o ro sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount -t tmpfs -o mode=0755 tmpfs run
    mount -t tmpfs -o mode=1777 tmpfs tmp
}

# Not the host's /dev: systemd-tmpfiles sets the modes of what it finds there.
make_devices() {
    local name
    mount -t tmpfs -o mode=0755 tmpfs dev
    for name in null zero full random urandom tty; do
        touch "dev/$name"
        mount --bind "/dev/$name" "dev/$name"
    done
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
    mount -t tmpfs -o mode=1777 tmpfs dev/shm
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
}

main "$@"
