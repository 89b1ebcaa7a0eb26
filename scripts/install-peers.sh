#!/usr/bin/env bash
# Installs what stream-bench compares streamd with and draws its pages in: Debian's packages, those that are
# missing. A package that apt doesn't offer is named and left out: the bench then reports that peer as absent.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"

usage() {
    cat <<'USAGE'
usage: install-peers.sh [--check]

  --check  only say what is there and what is missing; ends with 1 if anything is missing

Missing packages are installed with apt-get, as root or through sudo. Services that a newly installed
package starts are stopped and disabled: the bench runs servers of its own.
USAGE
}

# Programs; each has the name of its package.
PEERS=(nginx h2o lighttpd caddy)
TOOLS=(wrk chromium)

AS_ROOT=()

main() {
    local missing=() offered=()
    case ${1:-} in
        '' | --check) ;;
        -h | --help) usage && exit 0 ;;
        *) die_usage "unknown argument \"$1\"" ;;
    esac
    mapfile -t missing < <(missing_programs)
    show_present "${missing[@]}"
    ((${#missing[@]})) || return 0
    [[ ${1:-} != --check ]] || die "missing: ${missing[*]}"
    choose_as_root "${missing[@]}"
    refresh_lists
    mapfile -t offered < <(offered_packages "${missing[@]}")
    ((${#offered[@]})) || die "apt offers none of: ${missing[*]}"
    install_packages "${offered[@]}"
}

missing_programs() {
    local program
    for program in "${PEERS[@]}" "${TOOLS[@]}"; do
        command -v "$program" >/dev/null || say "$program"
    done
}

show_present() {
    local program
    for program in "${PEERS[@]}" "${TOOLS[@]}"; do
        [[ " $* " == *" $program "* ]] || say "$program: $(command -v "$program")"
    done
}

choose_as_root() {
    command -v apt-get >/dev/null ||
        die "missing: $*; this system has no apt-get: install them yourself, the bench does without those it doesn't find"
    ((EUID != 0)) || return 0
    can_sudo || die "missing: $*; run as root: apt-get install $*"
    AS_ROOT=(sudo)
}

can_sudo() {
    command -v sudo >/dev/null || return 1
    # Asks for a password only where somebody can type it.
    sudo -n true 2>/dev/null || [[ -t 0 ]]
}

# The lists may be old or absent; packages whose versions have changed can't be fetched by old ones.
refresh_lists() {
    "${AS_ROOT[@]}" apt-get -q update >/dev/null || warn "apt-get update failed: going on with the lists that are there"
}

# Prints those of the packages that apt can install and names the others.
offered_packages() {
    local package candidate
    for package in "$@"; do
        candidate=$(apt-cache policy "$package" 2>/dev/null | sed -n 's/^  Candidate: //p')
        if [[ -n $candidate && $candidate != '(none)' ]]; then
            say "$package"
        else
            warn "$package: apt doesn't offer it; left out"
        fi
    done
}

# One after the other, so that one that can't be installed doesn't keep the others out.
install_packages() {
    local package failed=()
    for package in "$@"; do
        say "installing $package"
        if "${AS_ROOT[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends \
            "$package" && command -v "$package" >/dev/null; then
            stop_service "$package"
        else
            failed+=("$package")
        fi
    done
    ((${#failed[@]} == 0)) || die "apt-get could not install: ${failed[*]}; see its messages above"
}

# Called only for packages that this run has installed, so that nobody's server is stopped.
stop_service() {
    local service=$1
    [[ -e /etc/init.d/$service || -e /lib/systemd/system/$service.service ]] || return 0
    if [[ -d /run/systemd/system ]]; then
        quietly systemctl disable --now "$service"
    else
        quietly service "$service" stop
        quietly update-rc.d "$service" disable
        # For the day on which systemd runs here.
        quietly systemctl disable "$service"
    fi
    say "$service: its package's service is stopped and disabled"
}

# Not every system has each of these programs, and not every service what they look for.
quietly() { "${AS_ROOT[@]}" "$@" >/dev/null 2>&1 || true; }

main "$@"
