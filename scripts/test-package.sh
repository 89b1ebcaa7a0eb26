#!/usr/bin/env bash
# The test of the units and of the Debian package as far as nothing has to be booted: lints, contents, man pages,
# completions, the program with the shipped configuration, and install, upgrade, removal and purge in a root of its own.
# test-systemd.sh does the rest. Nothing of this host is changed; what was built stays in target/debian.
set -euo pipefail
RUN_DIR=$(mktemp -d "${TMPDIR:-/tmp}/streamd-test-package.XXXXXX")
export RUN_DIR
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/checks.sh"
source "$LIB_DIR/suite.sh"

# The directory where cargo installs programs.
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

usage() {
    cat <<'USAGE'
usage: test-package.sh

Builds the package from the release build, prints one line per check and ends with "N passed, M failed". Exit code 0 when
none failed. What isn't installed here is printed as skipped.
USAGE
}

# Ten times the exposure 1.5. It isn't 0: the service has a network, which alone is half of what is left.
EXPOSURE_MAX=15
CONTENTS="$REPO_DIR/packaging/contents"
TREE="$RUN_DIR/tree"
ROOT="$RUN_DIR/root"

main() {
    no_arguments "$@"
    clean_up_at_the_end
    test_exposure
    if has "the package" cargo-deb dpkg-deb; then
        build_package
        test_package
    fi
    finish
}

clean_up() {
    local status=$?
    count_unfinished
    remove_or_keep "$status" "what was looked at is"
}

# has WHAT TOOL...: whether all tools are there; says what is left out where they are not.
has() {
    local what=$1 tool
    shift
    for tool in "$@"; do
        command -v "$tool" >/dev/null && continue
        say "skipped: $what, since $tool is not installed (scripts/install-deps.sh)"
        return 1
    done
}

# ---------------------------------------------------------------- the unit alone

test_exposure() {
    has "exposure of the unit" systemd-analyze || return 0
    check "unit: exposure is at most $((EXPOSURE_MAX / 10)).$((EXPOSURE_MAX % 10))" quiet systemd-analyze security \
        --no-pager --offline=yes --threshold="$EXPOSURE_MAX" "$REPO_DIR/systemd/streamd.service"
    check "unit: it can look names up beneath the root" allows_openat2
}

# For RestrictSUIDSGID=, which DynamicUser= implies, systemd answers openat2(2) with ENOSYS; no linter says so.
allows_openat2() {
    CHECK_DETAIL="DynamicUser= or RestrictSUIDSGID=yes takes openat2(2) away"
    ! grep -q -E '^(DynamicUser|RestrictSUIDSGID)=(yes|true|on|1)' "$REPO_DIR/systemd/streamd.service"
}

# ---------------------------------------------------------------- the package

build_package() {
    cd "$REPO_DIR"
    # One by one, as the other scripts do it: together their dependencies get other features, and all is built anew.
    cargo build --quiet --release --locked -p streamd
    cargo build --quiet --release --locked -p stream-bench
    rm -f -- "${CARGO_TARGET_DIR:-target}"/debian/streamd*_*deb
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0) cargo deb --quiet -p streamd --no-build
    PACKAGE=$(echo "${CARGO_TARGET_DIR:-$REPO_DIR/target}"/debian/streamd_*.deb)
    dpkg-deb -x "$PACKAGE" "$TREE"
}

test_package() {
    test_contents
    test_lintian
    test_units
    test_program
    test_manuals
    test_completions
    test_scripts
    test_life
}

# Documents come and go; all others are as packaging/contents has them.
test_contents() {
    local document
    list_contents | grep -v -E '/doc/streamd/[^/]*\.md$' >"$RUN_DIR/contents"
    CHECK_DETAIL=$(diff "$CONTENTS" "$RUN_DIR/contents" 2>&1 || true)
    check "contents: as packaging/contents lists them" test -z "$CHECK_DETAIL"
    for document in README.md docs/*.md; do
        check "contents: $document" test -s "$TREE/usr/share/doc/streamd/$(basename "$document")"
    done
}

# Mode, owner and name of each file; directories are the same everywhere.
# cargo-deb writes names with ./ before them from 3.8 on.
list_contents() { dpkg-deb -c "$PACKAGE" | awk '!/^d/ { sub(/^\.\//, "", $6); print $1, $2, $6 }' | LC_ALL=C sort -k 3; }

test_lintian() {
    has "lintian" lintian || return 0
    check "lintian: neither errors nor warnings" quiet lintian --allow-root --fail-on error,warning "$PACKAGE"
}

# Installed, the programs and man pages that the units name are there.
test_units() {
    has "systemd-analyze verify" systemd-analyze man || return 0
    local unit units="$RUN_DIR/units"
    mkdir "$units"
    for unit in "$TREE"/lib/systemd/system/*; do
        sed "s#=/usr/#=$TREE/usr/#" "$unit" >"$units/$(basename "$unit")"
    done
    check "units: systemd-analyze verify has nothing to say" silent env MANPATH="$TREE/usr/share/man" \
        systemd-analyze verify "$units/streamd.service" "$units/streamd.socket" "$units/streamd-consul@127.0.0.1.service" \
        "$units/streamd-upstreams.service"
    check "units: the programs that they start are in the package" starts_what_there_is
}

starts_what_there_is() {
    local program
    while read -r program; do
        CHECK_DETAIL="$program is missing"
        [[ -x $TREE$program ]] || return 1
    done < <(sed -n 's#^ExecStart=\([^ ]*\).*#\1#p' "$TREE"/lib/systemd/system/*.service)
}

test_program() {
    local program="$TREE/usr/bin/streamd" config="$TREE/etc/streamd/streamd.toml"
    check "program: --check with the shipped configuration" quiet env -i "$program" --config "$config" --check
    check "program: the shipped configuration changes nothing" test \
        "$(env -i "$program" --config "$config" --print-config)" = \
        "$(env -i "$program" --config /dev/null --print-config)"
    check "program: the bench runs" quiet env -i "$TREE/usr/bin/stream-bench" --version
}

test_manuals() {
    has "man pages" man || return 0
    local page
    for page in "$TREE"/usr/share/man/man*/*; do
        check "man page: $(basename "$page") is rendered without a warning" renders "$page"
    done
}

renders() {
    CHECK_DETAIL=$(man --warnings --local-file "$1" 2>&1 >"$RUN_DIR/page" || true)
    [[ -z $CHECK_DETAIL && -s $RUN_DIR/page ]]
}

# ---------------------------------------------------------------- completions

test_completions() {
    local shell file
    check "completion: bash completes streamd --drai" completes bash streamd --drai --drain-timeout-ms
    check "completion: bash completes the values of --sink" completes bash streamd '--sink sto' store
    check "completion: bash completes stream-bench comp" completes bash stream-bench comp compare
    for shell in zsh fish; do
        has "the completions of $shell" "$shell" || continue
        for file in "$TREE"/usr/share/"$shell"/vendor[-_]completions*/*; do
            check "completion: $shell reads $(basename "$file")" quiet "$shell" -n "$file"
        done
    done
    command -v fish >/dev/null || return 0
    check "completion: fish completes streamd --drai" fish_completes streamd '--drai' --drain-timeout-ms
    check "completion: fish completes stream-bench comp" fish_completes stream-bench comp compare
}

# completes SHELL PROGRAM WORDS EXPECTED: as the shell does when the tabulator is pressed behind WORDS.
# shellcheck disable=SC2016  # expanded by the inner shell
completes() {
    CHECK_DETAIL=$("$1" --norc -c '
        source "$1"
        read -ra COMP_WORDS <<<"$2 $3"
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        function=$(complete -p "$2" | sed "s/.* -F \([^ ]*\) .*/\1/")
        "$function" "$2" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf "%s " "${COMPREPLY[@]}"' _ "$TREE/usr/share/$1-completion/completions/$2" "$2" "$3" 2>&1) || true
    [[ " $CHECK_DETAIL " == *" $4 "* ]]
}

# fish_completes PROGRAM WORDS EXPECTED
# shellcheck disable=SC2016  # expanded by the inner shell
fish_completes() {
    CHECK_DETAIL=$(HOME=$RUN_DIR fish --no-config -c 'source $argv[1]; complete -C "$argv[2]"' \
        "$TREE/usr/share/fish/vendor_completions.d/$1.fish" "$1 $2" 2>&1) || true
    grep -q -E -- "^$3(\s|$)" <<<"$CHECK_DETAIL"
}

# Away from the repository they must find each other.
test_scripts() {
    local script
    for script in "$TREE"/usr/lib/streamd/*; do
        [[ -f $script && -x $script ]] || continue
        check "script: $(basename "$script") works from /usr/lib/streamd" quiet env -i PATH="$PATH" "$script" --help
    done
}

# ---------------------------------------------------------------- install, upgrade, removal, purge

# The maintainer scripts run as chrootless ones, with the root in DPKG_ROOT, and so touch nothing outside it.
test_life() {
    local config="$ROOT/etc/streamd/streamd.toml" newer="$RUN_DIR/newer.deb"
    if ((EUID != 0)); then say "skipped: installation, which needs root" && return 0; fi
    has "installation" dpkg deb-systemd-helper systemd-sysusers || return 0
    make_root
    find "$ROOT" -path "$ROOT/var/lib/dpkg" -prune -o -print | sort >"$RUN_DIR/before"
    check "install: dpkg installs the package" root_dpkg --install "$PACKAGE"
    check "install: the service's user is there" quiet grep '^streamd:' "$ROOT/etc/passwd"
    check "install: the service is enabled" test -L "$ROOT/etc/systemd/system/multi-user.target.wants/streamd.service"
    check "install: the socket is not" test ! -e "$ROOT/etc/systemd/system/sockets.target.wants"
    leave_traces "$config"
    make_newer "$newer"
    check "upgrade: dpkg installs a newer version" root_dpkg --install "$newer"
    check "upgrade: the configuration is the administrator's" quiet grep -x 'root = "/srv"' "$config"
    check "upgrade: a service that was disabled stays so" test ! -e "$ROOT/etc/systemd/system/multi-user.target.wants/streamd.service"
    check "remove: dpkg removes it" root_dpkg --remove streamd
    check "remove: the configuration stays" test -s "$config"
    check "purge: dpkg purges it" root_dpkg --purge streamd
    check "purge: nothing is left but the user" left_is_only_the_user
    test_purge_leaves
}

# The package must leave what it never made: mounts, and whatever the administrator has put in the place of its own directory.
test_purge_leaves() {
    local what
    if ! unshare --mount true 2>/dev/null; then say "skipped: purge with mounts, since namespaces are not allowed here" && return 0; fi
    mkdir -p "$RUN_DIR/elsewhere"
    for what in mounted mounted-below link; do
        quiet root_dpkg --install "$PACKAGE" || die_with_log "dpkg can't install the package again" "$RUN_DIR/quiet.log"
        echo secret >"$ROOT/etc/streamd/token"
        echo kept >"$RUN_DIR/elsewhere/kept"
        check "purge, /var/lib/streamd $what: it ends with 0" purge_with "$what"
        check "purge, /var/lib/streamd $what: it says that it is left" quiet grep 'var/lib/streamd is left' "$RUN_DIR/purge.log"
        check "purge, /var/lib/streamd $what: what is in there is left" test -s "$RUN_DIR/elsewhere/kept"
        check "purge, /var/lib/streamd $what: the token is gone" test ! -e "$ROOT/etc/streamd/token"
        rm -rf -- "$ROOT/var/lib/streamd"
        check "purge, /var/lib/streamd $what: nothing else is left but the user" left_is_only_the_user
    done
    quiet root_dpkg --install "$PACKAGE" || true
    echo secret >"$ROOT/etc/streamd/token"
    check "purge, the token itself a mount: it ends with 0" purge_with mounted-token
    rm -rf -- "$ROOT/etc/streamd"
}

# purge_with WHAT: in a mount namespace, with which the mounts go.
# shellcheck disable=SC2016  # expanded by the inner shell
purge_with() {
    local state="$ROOT/var/lib/streamd" elsewhere="$RUN_DIR/elsewhere" mounted=
    case $1 in
        mounted) mkdir -p "$state" && mounted=$state ;;
        mounted-below) mkdir -p "$state/spool/a b" && mounted="$state/spool/a b" ;;
        mounted-token) mounted="$ROOT/etc/streamd/token" elsewhere="$elsewhere/kept" ;;
        link) ln -s "$elsewhere" "$state" ;;
    esac
    CHECK_DETAIL="see $RUN_DIR/purge.log"
    unshare --mount bash -c '
        [[ -z $1 ]] || mount --bind "$2" "$1"
        shift 2
        "$@"' _ "$mounted" "$elsewhere" "${ROOT_DPKG[@]}" --purge streamd >"$RUN_DIR/purge.log" 2>&1
}

# The least that dpkg needs, and the file that tells systemd-sysusers of users.
make_root() {
    mkdir -p "$ROOT"/{etc/systemd/system,usr/bin,var/lib/systemd,var/lib/dpkg/info,var/lib/dpkg/updates,var/log}
    touch "$ROOT/var/lib/dpkg/status" "$ROOT/etc/passwd" "$ROOT/etc/group" "$ROOT/etc/shadow" "$ROOT/etc/gshadow"
    ln -s /usr/bin/deb-systemd-helper "$ROOT/usr/bin/deb-systemd-helper"
}

ROOT_DPKG=(dpkg "--root=$ROOT" --force-script-chrootless --force-depends --force-confold "--log=$RUN_DIR/dpkg.log")

root_dpkg() { quiet "${ROOT_DPKG[@]}" "$@"; }

# Makes the files of administrator and service in the life of an installation.
leave_traces() {
    echo 'root = "/srv"' >>"$1"
    echo secret >"$ROOT/etc/streamd/token"
    mkdir -p "$ROOT/var/lib/streamd"
    touch "$ROOT/var/lib/streamd/5_0123456789abcdef0123456789abcdef"
    DPKG_ROOT=$ROOT DPKG_MAINTSCRIPT_PACKAGE=streamd deb-systemd-helper disable streamd.service >/dev/null
    mkdir -p "$ROOT/etc/systemd/system/streamd.service.wants"
    ln -s /lib/systemd/system/streamd-consul@.service \
        "$ROOT/etc/systemd/system/streamd.service.wants/streamd-consul@192.0.2.10.service"
}

# Builds the package with another version and another default configuration.
make_newer() {
    local tree="$RUN_DIR/newer"
    dpkg-deb --raw-extract "$PACKAGE" "$tree"
    sed -i 's/^Version: .*/&+newer/' "$tree/DEBIAN/control"
    echo '# New.' >>"$tree/etc/streamd/streamd.toml"
    dpkg-deb --root-owner-group --build "$tree" "$1" >/dev/null
}

left_is_only_the_user() {
    CHECK_DETAIL=$(find "$ROOT" -path "$ROOT/var/lib/dpkg" -prune -o -print | sort |
        diff "$RUN_DIR/before" - | grep -v -E '^[0-9]|/etc/(passwd|group|shadow|gshadow)-$|/etc/\.pwd\.lock$' || true)
    [[ -z $CHECK_DETAIL ]]
}

main "$@"
