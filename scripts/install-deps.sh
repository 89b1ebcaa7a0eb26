#!/usr/bin/env bash
# Installs what the stack and the tests need and is not there yet: Debian packages through apt, cargo-deb, and
# Consul from the PATH, from apt, or from Debian's bullseye suite unpacked into .deps/ (no root needed,
# nothing else of that suite is touched). Run again, it finds everything and does nothing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/values.sh"
source "$LIB_DIR/consul-program.sh"
source "$LIB_DIR/debian.sh"

usage() {
    cat <<'USAGE'
usage: install-deps.sh [--run-only]

  --run-only  what up.sh needs, without the tools of the tests

Missing packages are installed with apt-get, as root or through sudo.
USAGE
}

# PROGRAM:PACKAGE
RUN_TOOLS=(nginx:nginx curl:curl jq:jq openssl:openssl flock:util-linux)
BUILD_TOOLS=(cc:build-essential)
TEST_TOOLS=(aria2c:aria2 haproxy:haproxy zsync:zsync promtool:prometheus mkfs.btrfs:btrfs-progs wget:wget lftp:lftp axel:axel git:git pip3:python3-pip rclone:rclone chromium:chromium chromedriver:chromium-driver nc:netcat-openbsd python3:python3 shellcheck:shellcheck dig:dnsutils ss:iproute2 fincore:util-linux-extra ccache:ccache debootstrap:debootstrap mkfs.xfs:xfsprogs mkfs.vfat:dosfstools)
STREAM_MODULE_PACKAGE=libnginx-mod-stream

# The last Debian suite that has Consul.
CONSUL_SUITE=bullseye
CONSUL_VENDOR_PAGE=https://developer.hashicorp.com/consul/install
ARCHIVE_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# The programs by which test-package.sh checks the package and its units.
PACKAGE_TOOLS=(lintian:lintian systemd-analyze:systemd man:man-db zsh:zsh fish:fish)
CARGO_DEB_VERSION=3.6.0
# Twenty seconds where two cores have nothing else to do.
CARGO_DEB_SECONDS_MAX=240

RUN_ONLY=0

main() {
    case ${1:-} in
        '') ;;
        -h | --help) usage && exit 0 ;;
        --run-only) RUN_ONLY=1 ;;
        *) die_usage "unknown argument \"$1\"" ;;
    esac
    install_packages
    install_consul
    ((RUN_ONLY)) || install_cargo_deb
}

# ---------------------------------------------------------------- Debian packages

install_packages() {
    local packages
    mapfile -t packages < <(missing_packages)
    ((${#packages[@]})) || return 0
    command -v apt-get >/dev/null ||
        die "missing: ${packages[*]} (names of Debian's packages); this system has no apt-get: install them yourself"
    local as_root=()
    if ((EUID != 0)); then
        can_sudo || die "missing: ${packages[*]}; run as root: apt-get install ${packages[*]}"
        as_root=(sudo)
    fi
    say "installing ${packages[*]}"
    apt_install "${packages[@]}"
    local service
    for service in nginx prometheus haproxy; do
        if [[ " ${packages[*]} " == *" $service "* ]]; then stop_packaged "$service"; fi
    done
    mapfile -t packages < <(missing_packages)
    ((${#packages[@]} == 0)) || die "apt-get ended well, but these are still missing: ${packages[*]}"
}

missing_packages() {
    local tool tools=("${RUN_TOOLS[@]}")
    [[ -n ${STREAMD_BIN:-} ]] || tools+=("${BUILD_TOOLS[@]}")
    ((RUN_ONLY)) || tools+=("${TEST_TOOLS[@]}")
    ((RUN_ONLY)) || tools+=("${PACKAGE_TOOLS[@]}")
    for tool in "${tools[@]}"; do
        command -v "${tool%%:*}" >/dev/null || say "${tool#*:}"
    done
    has_stream_module || say "$STREAM_MODULE_PACKAGE"
}

has_stream_module() {
    local module arguments
    for module in /usr/lib/nginx/modules /usr/lib64/nginx/modules; do
        if [[ -f $module/ngx_stream_module.so ]]; then return 0; fi
    done
    arguments=$(nginx -V 2>&1) || return 1
    [[ $arguments == *' --with-stream '* ]]
}

can_sudo() {
    command -v sudo >/dev/null || return 1
    # Asks for a password only where somebody can type it.
    sudo -n true 2>/dev/null || [[ -t 0 ]]
}

# Uses as_root of install_packages.
apt_install() {
    local command=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y)
    "${command[@]}" install --no-install-recommends "$@" && return 0
    # The lists may be old or absent.
    "${command[@]}" update || die "apt-get update failed: see its messages above"
    "${command[@]}" install --no-install-recommends "$@" || die "apt-get could not install $*: see its messages above"
}

# Debian starts NGINX on port 80 and Prometheus on port 9090 when they are installed. The stack runs its own NGINX
# there, and of Prometheus the tests use promtool alone.
stop_packaged() {
    local service=$1
    if [[ -d /run/systemd/system ]]; then
        "${as_root[@]}" systemctl disable --now "$service" >/dev/null 2>&1 || true
    else
        "${as_root[@]}" service "$service" stop >/dev/null 2>&1 || true
    fi
    say "the $service service, which the package starts, is stopped and disabled: nothing here uses it"
}

# ---------------------------------------------------------------- Consul

install_consul() {
    if consul_path >/dev/null; then return 0; fi
    if consul_from_apt || consul_from_suite; then
        consul_path >/dev/null || die "Consul was installed but does not run here: $(consul_remedy)"
        say "consul $(consul_version "$(consul_path)") in $(consul_path)"
        return 0
    fi
    die "Consul $CONSUL_VERSION_MIN or newer is missing and Debian's mirror does not offer it: $(consul_remedy)"
}

consul_remedy() { printf 'install it from %s so that "consul" is on the PATH' "$CONSUL_VENDOR_PAGE"; }

# Debian 11 and older, and machines with a source that has it.
consul_from_apt() {
    local candidate
    command -v apt-get >/dev/null || return 1
    candidate=$(apt-cache policy consul 2>/dev/null | sed -n 's/^  Candidate: //p')
    [[ -n $candidate && $candidate != '(none)' ]] || return 1
    version_at_least "${candidate#*:}" "$CONSUL_VERSION_MIN" || return 1
    fetch_consul
}

# The machine's own Debian mirror with the suite's name swapped, in a source and lists of our own. apt
# checks the signature of the suite against Debian's archive keyring and refuses the suite without it.
consul_from_suite() {
    local mirror apt_dir="$DEPS_DIR/apt"
    command -v apt-get >/dev/null || return 1
    mirror=$(debian_mirror) || return 1
    if [[ ! -r $ARCHIVE_KEYRING ]]; then
        warn "$ARCHIVE_KEYRING is missing: install debian-archive-keyring"
        return 1
    fi
    mkdir -p "$apt_dir/lists/partial" "$apt_dir/cache/archives/partial"
    printf 'deb [signed-by=%s] %s %s main\n' "$ARCHIVE_KEYRING" "$mirror" "$CONSUL_SUITE" >"$apt_dir/sources.list"
    local options=(-o "Dir::Etc::SourceList=$apt_dir/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$apt_dir/lists" -o "Dir::Cache=$apt_dir/cache"
        -o Acquire::AllowInsecureRepositories=false -o Acquire::AllowDowngradeToInsecureRepositories=false
        -o Acquire::Languages=none -o APT::Get::AllowUnauthenticated=false
        -o APT::Update::Error-Mode=any)
    say "consul: from Debian's $CONSUL_SUITE suite"
    if ! apt-get -q "${options[@]}" update >"$apt_dir/log" 2>&1; then
        warn "$(grep -m 1 '^E:' "$apt_dir/log" || echo 'apt-get update failed') (log: $apt_dir/log)"
        return 1
    fi
    fetch_consul "${options[@]}" && rm -rf "$apt_dir"
}

# fetch_consul [APT_OPTION...]: downloads the package and unpacks it, without installing it.
fetch_consul() {
    local new="$DEPS_DIR/consul.new"
    rm -rf "$new"
    mkdir -p "$new/download"
    # When it runs as root, apt drops to an account of its own, which may not write here: it says so and goes on.
    if ! (cd "$new/download" && apt-get -q "$@" download consul) >"$new/log" 2>&1; then
        warn "$(grep -m 1 '^E:' "$new/log" || echo 'apt-get download failed') (log: $new/log)"
        return 1
    fi
    dpkg -x "$new"/download/consul_*.deb "$new" || return 1
    rm -rf "$DEPS_DIR/consul" "$new/download"
    mv "$new" "$DEPS_DIR/consul"
}

# ---------------------------------------------------------------- cargo-deb

# Unoptimised and with the system's xz: it packs two binaries, and optimising it would take longer than that. Without it
# the tests of the package are skipped.
install_cargo_deb() {
    local directory=${CARGO_HOME:-$HOME/.cargo}/bin
    if PATH="$PATH:$directory" command -v cargo-deb >/dev/null; then return 0; fi
    if ! command -v cargo >/dev/null; then
        warn "cargo-deb is missing and there is no cargo to build it: the package isn't tested"
        return 0
    fi
    say "installing cargo-deb $CARGO_DEB_VERSION in $directory"
    timeout "$CARGO_DEB_SECONDS_MAX" cargo install --quiet --debug --locked --version "$CARGO_DEB_VERSION" \
        --no-default-features --features debug-id cargo-deb ||
        warn "cargo-deb could not be installed within $CARGO_DEB_SECONDS_MAX s: the package isn't tested"
}

main "$@"
