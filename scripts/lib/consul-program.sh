# shellcheck shell=bash
# Finding a Consul that can be run. Needs environment.sh and values.sh.

# The oldest Consul whose API these scripts were written for.
CONSUL_VERSION_MIN=1.8.0

# Prints the path of a Consul that is new enough; fails when there is none.
consul_path() {
    local candidate
    for candidate in "$(command -v consul || true)" "$DEPS_DIR/consul/usr/bin/consul"; do
        if [[ -x $candidate ]] && consul_is_new_enough "$candidate"; then
            printf '%s' "$candidate"
            return 0
        fi
    done
    return 1
}

# Prints the version as 1.8.7.
consul_version() { "$1" version 2>/dev/null | sed -n '1s/^Consul v\([0-9][0-9.]*\).*/\1/p'; }

consul_is_new_enough() {
    local version
    version=$(consul_version "$1")
    [[ -n $version ]] && version_at_least "$version" "$CONSUL_VERSION_MIN"
}
