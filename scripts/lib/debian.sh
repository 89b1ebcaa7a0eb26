# shellcheck shell=bash
# The addresses that this host's Debian comes from. Needs nothing.

# The address from which this release of Debian itself comes.
debian_mirror() {
    local id codename mirror
    # shellcheck source=/dev/null
    id=$(source /etc/os-release && printf '%s' "${ID:-}")
    # shellcheck source=/dev/null
    codename=$(source /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    [[ $id == debian && -n $codename ]] || return 1
    # shellcheck disable=SC2016  # apt's variables
    mirror=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        sed -n "s/^$codename main //p" | head -n 1)
    [[ -n $mirror ]] && printf '%s' "$mirror"
}
