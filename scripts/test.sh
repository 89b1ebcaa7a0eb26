#!/usr/bin/env bash
# Installs what the tests need and runs everything: format, lints, scripts, the stack with a real Consul and a
# real NGINX, the service under a real systemd, unit, property and behaviour tests. Ends with one line of totals.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: scripts/test.sh [-h] [--no-stack] [--no-systemd] [--no-install]
  --no-stack    leave out the tests of the whole stack (Consul, NGINX, three replicas)
  --no-systemd  leave out the test of the package and the service under a systemd of its own
  --no-install  install nothing: what is missing is skipped or fails
USAGE
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
stack=yes
systemd=yes
install=yes
while (($#)); do
    case "$1" in
        -h | --help) usage; exit 0 ;;
        --no-stack) stack=no ;;
        --no-systemd) systemd=no ;;
        --no-install) install=no ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

output=$(mktemp)
trap 'end_suites; repeat_failures; rm -f "$output"' EXIT

# Runs a step and says what it is; its output also goes to where the totals are counted from.
step() {
    local name=$1
    shift
    printf '\n== %s\n' "$name"
    "$@" 2>&1 | tee -a "$output"
}

# Prints once more what tests that failed have said: in the middle of thousands of lines nobody finds it.
repeat_failures() {
    awk '
        /^---- .* stdout ----$/ { in_failure = 1; if (!count++) print "\n== what failed, once more" }
        /^failures:$|^test result:/ { in_failure = 0 }
        in_failure
    ' "$output"
}

# together NAME SCRIPT [NAME SCRIPT]...: suites with folders and ports of their own, at the same time: most of what they
# do is waiting. Each is shown when all before it are.
suites=()
together() {
    local logs=() names=() status=0 i
    while (($#)); do
        logs+=("$(mktemp)")
        names+=("$1")
        "$2" >"${logs[-1]}" 2>&1 </dev/null &
        suites+=("$!")
        shift 2
    done
    for i in "${!suites[@]}"; do
        wait "${suites[i]}" || status=1
        step "${names[i]}" cat "${logs[i]}"
        rm -f "${logs[i]}"
    done
    suites=()
    return "$status"
}

# A job in the background gets no interrupt from the terminal.
end_suites() {
    if ((${#suites[@]})); then kill "${suites[@]}" 2>/dev/null || true; fi
    wait
}

if ! command -v cargo >/dev/null; then
    echo "test.sh: cargo is not on PATH: install rustup, or Rust from the rust-version in Cargo.toml on" >&2
    exit 1
fi

# rustup installs these by rust-toolchain.toml; a cargo of a distribution has them in packages of their own.
for tool in fmt clippy; do
    if ! cargo "$tool" --version >/dev/null; then
        echo "test.sh: cargo $tool is missing: install it, or rustup, which installs what rust-toolchain.toml names" >&2
        exit 1
    fi
done

[[ $install == no ]] || step 'installing what the tests need' ./scripts/install-deps.sh
step 'format' cargo fmt --all --check
step 'lints' cargo clippy --workspace --all-targets --locked -- -D warnings
step 'scripts' shellcheck --external-sources --source-path=SCRIPTDIR --source-path=SCRIPTDIR/lib scripts/*.sh scripts/lib/*.sh .ci/run
if command -v cargo-deny >/dev/null; then
    # Advisories need a download and have a job of their own.
    step 'dependencies' cargo deny check bans licenses sources
else
    printf '\n== dependencies\nskipped: cargo-deny is not installed (cargo install cargo-deny)\n'
fi
step 'unit, property and behaviour tests' cargo test --workspace --locked --no-fail-fast --lib --bins --tests
step 'package' ./scripts/test-package.sh
if [[ $stack == yes ]]; then
    step 'release build' cargo build --release --locked -p streamd
    together 'server' ./scripts/test-server.sh 'surroundings' ./scripts/test-surroundings.sh 'followers' ./scripts/test-followers.sh \
        'drain' ./scripts/test-drain.sh
    step 'stack' ./scripts/test-stack.sh
    step 'restarts' ./scripts/test-restart.sh
fi
if [[ $systemd == yes ]]; then
    step 'service under systemd' ./scripts/test-systemd.sh
fi

# cargo test and the scripts each close with `N passed; M failed` or `N passed, M failed`.
awk '
    match($0, /[0-9]+ passed[;,] [0-9]+ failed/) {
        split(substr($0, RSTART, RLENGTH), word, " ")
        passed += word[1]
        failed += word[3]
    }
    END {
        printf "\n%d passed, %d failed\n", passed, failed
        exit failed > 0 || passed == 0
    }
' "$output"
