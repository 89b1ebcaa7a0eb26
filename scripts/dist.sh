#!/usr/bin/env bash
# Builds what is published: the Debian package, its debug symbols, and a tarball for everywhere else. The same
# commit gives the same bytes, whatever the directory and the day.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/checks.sh"

# The directory where cargo installs programs.
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

usage() {
    cat <<'USAGE'
usage: dist.sh [--verify]

Writes streamd_VERSION-1_ARCH.deb, streamd-dbgsym_VERSION-1_ARCH.ddeb, streamd-VERSION-TARGET.tar.gz and SHA256SUMS to
target/dist.

  --verify  builds the last commit twice, in two directories, and fails where the results differ by a byte; writes
            nothing

environment (default):
  SOURCE_DATE_EPOCH (time of the last commit)  the time of all files
USAGE
}

# Names replace directories that differ from one host to the next.
SOURCE_NAME=/usr/src/streamd
CARGO_NAME=/usr/src/cargo
RUST_NAME=/usr/src/rust
BINARIES=(streamd stream-bench)

BUILD_DIR="$REPO_DIR/target/dist-build"
OUTPUT_DIR="$REPO_DIR/target/dist"
STAGE=

main() {
    case ${1:-} in
        '') build ;;
        --verify) verify ;;
        -h | --help) usage ;;
        *) die_usage "unknown argument \"$1\"" ;;
    esac
}

# ---------------------------------------------------------------- once

build() {
    need_tools cargo cargo-deb dpkg-deb gzip jq sha256sum strings tar
    SOURCE_DATE_EPOCH=$(source_date)
    export SOURCE_DATE_EPOCH
    STAGE=$(mktemp -d)
    trap 'rm -rf -- "$STAGE"' EXIT
    compile
    rm -rf -- "$OUTPUT_DIR"
    mkdir -p "$OUTPUT_DIR"
    make_package
    check_no_paths
    make_tarball
    (cd "$OUTPUT_DIR" && sha256sum -- *.deb *.ddeb *.tar.gz >SHA256SUMS && cat SHA256SUMS)
}

need_tools() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || die "$tool is missing: scripts/install-deps.sh installs what this needs"
    done
}

source_date() {
    if [[ -n ${SOURCE_DATE_EPOCH:-} ]]; then
        printf '%s' "$SOURCE_DATE_EPOCH"
        return 0
    fi
    git -C "$REPO_DIR" log -1 --format=%ct 2>/dev/null ||
        die "$REPO_DIR is no git repository: set SOURCE_DATE_EPOCH to the time of its release"
}

# In a target directory of its own: other flags would make cargo build everything anew for everybody else.
compile() {
    local flags=() separator=$'\x1f' package
    flags=(
        "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=$CARGO_NAME"
        "--remap-path-prefix=$(sysroot)=$RUST_NAME"
        # The last one that fits wins.
        "--remap-path-prefix=$BUILD_DIR=$SOURCE_NAME/target"
        "--remap-path-prefix=$REPO_DIR=$SOURCE_NAME"
    )
    local packages=()
    for package in "${BINARIES[@]}"; do packages+=(-p "$package"); done
    (
        cd "$REPO_DIR"
        CARGO_ENCODED_RUSTFLAGS=$(IFS=$separator && printf '%s' "${flags[*]}") CARGO_TARGET_DIR=$BUILD_DIR \
            CARGO_INCREMENTAL=0 cargo build --release --locked "${packages[@]}"
    )
}

# rustup takes the toolchain of the directory that it is called in.
rustc_here() { (cd "$REPO_DIR" && rustc "$@"); }

sysroot() { rustc_here --print sysroot; }

make_package() {
    (cd "$REPO_DIR" && CARGO_TARGET_DIR=$BUILD_DIR cargo deb -p streamd --no-build --output "$OUTPUT_DIR") >/dev/null
    dpkg-deb -x "$(package_path)" "$STAGE/package"
}

package_path() { printf '%s' "$OUTPUT_DIR"/streamd_*.deb; }

check_no_paths() {
    local path name
    for name in "${BINARIES[@]}"; do
        for path in "$REPO_DIR" "$BUILD_DIR" "${CARGO_HOME:-$HOME/.cargo}" "$(sysroot)"; do
            if strings -a "$STAGE/package/usr/bin/$name" | grep -F -m 1 -- "$path"; then
                die "$name has the line above in it, which differs from one host to the next: remap $path"
            fi
        done
    done
}

# The archive has the very binaries of the package, which are stripped.
make_tarball() {
    local version target name directory
    version=$(cd "$REPO_DIR" && cargo metadata --no-deps --format-version 1 |
        jq -r '.packages[] | select(.name == "streamd") | .version')
    target=$(rustc_here -vV | sed -n 's/^host: \([^-]*\)-.*-linux-/\1-linux-/p')
    name="streamd-$version-$target"
    directory="$STAGE/$name"
    fill "$directory"
    tar --directory "$STAGE" --create --sort=name --format=gnu --owner=0 --group=0 --numeric-owner \
        --mode='u=rwX,go=rX' --mtime="@$SOURCE_DATE_EPOCH" "$name" | gzip -n -9 >"$OUTPUT_DIR/$name.tar.gz"
}

fill() {
    local directory=$1 binary
    mkdir -p "$directory"/{bin,systemd,scripts,man,examples,docs}
    for binary in "${BINARIES[@]}"; do cp "$STAGE/package/usr/bin/$binary" "$directory/bin/"; done
    cp "$REPO_DIR"/systemd/* "$directory/systemd/"
    cp -r "$STAGE"/package/usr/lib/streamd/* "$directory/scripts/"
    cp "$REPO_DIR"/packaging/generated/man/* "$directory/man/"
    cp -r "$REPO_DIR/packaging/generated/completions" "$directory/"
    cp "$REPO_DIR"/{consul.hcl,nginx.conf,packaging/generated/streamd.toml} "$directory/examples/"
    cp "$REPO_DIR"/docs/*.{md,svg} "$directory/docs/"
    cp "$REPO_DIR"/{README.md,CHANGELOG.md,SECURITY.md,LICENSE-APACHE,LICENSE-MIT} "$directory/"
}

# ---------------------------------------------------------------- twice

# The last commit, since what isn't committed nobody else can build.
verify() {
    local copy commit log="$REPO_DIR/target/dist-verify.log"
    need_tools git
    commit=$(git -C "$REPO_DIR" rev-parse HEAD) || die "$REPO_DIR is no git repository: nothing says what to build"
    STAGE=$(mktemp -d)
    trap 'rm -rf -- "$STAGE"' EXIT
    SOURCE_DATE_EPOCH=$(source_date)
    export SOURCE_DATE_EPOCH
    # The two have different lengths, so that a path in a binary would also move what follows it.
    for copy in first/streamd second/another-directory; do
        mkdir -p "$STAGE/$copy"
        git -C "$REPO_DIR" archive "$commit" | tar -x -C "$STAGE/$copy"
        say "building $commit in $STAGE/$copy"
        "$STAGE/$copy/scripts/dist.sh" >"$log" 2>&1 || die_with_log "the build failed" "$log"
    done
    compare "$STAGE/first/streamd/target/dist" "$STAGE/second/another-directory/target/dist"
}

compare() {
    local path
    for path in "$1"/*; do
        check "two builds give the same bytes: $(basename "$path")" same "$path" "$2/$(basename "$path")"
    done
    cat "$1/SHA256SUMS"
    check_summary
}

same() {
    CHECK_DETAIL="$(sha256sum "$1" "$2" | cut -c 1-64 | paste -s -d ' ')"
    cmp --silent "$1" "$2"
}

main "$@"
