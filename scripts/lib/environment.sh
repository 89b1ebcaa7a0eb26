# shellcheck shell=bash disable=SC2034  # much of what is set here is read by the scripts
# The place where a script of streamd runs: its own folder, the repository or a server, and the folders of the stack.
# The first that each script sources; none of lib/ is ever run. Every other file of this folder says in its head which
# ones it needs before it. consul-register.sh, nginx-upstreams.sh, rolling-restart.sh and tls-cert.sh also work away
# from the repository, with the files of this folder that they source in a lib/ beside them.

# The caller's surroundings don't decide what the scripts do: a locale may be missing here (ssh hands over that of the
# other host), cd prints where it went with CDPATH, and each of the others changes what bash, nginx or openssl do.
export LC_ALL=C
unset CDPATH BASH_ENV ENV POSIXLY_CORRECT GREP_OPTIONS NGINX OPENSSL_CONF
# Whoever could write to the records of processes or to NGINX's configuration would be obeyed: nobody but the user
# himself ever may. What is stricter stays, except against himself.
umask "$(printf '%03o' $(((8#$(umask) | 8#022) & 8#077)))"
# env -i leaves none, and bash doesn't export the one that it makes up. Debian keeps nginx in /usr/sbin, which is not on
# an ordinary user's PATH.
[[ :$PATH: == *:/usr/sbin:* ]] || PATH+=:/usr/local/sbin:/usr/sbin:/sbin
export PATH
# Nor a HOME, in which cargo's programs are looked for.
if [[ -z ${HOME:-} ]]; then
    HOME=$(getent passwd "$EUID" 2>/dev/null | cut -d : -f 6) || true
    export HOME="${HOME:-/}"
fi
# cargo takes it as relative to where it is run, which isn't the same place in all scripts.
if [[ -n ${CARGO_TARGET_DIR:-} ]]; then
    CARGO_TARGET_DIR=$(realpath -m "$CARGO_TARGET_DIR")
    export CARGO_TARGET_DIR
fi

LIB_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
SCRIPTS_DIR=$(dirname "$LIB_DIR")
REPO_DIR=$(dirname "$SCRIPTS_DIR")
SCRIPT_NAME=$(basename "$0")
DEPS_DIR="$REPO_DIR/.deps"
if [[ -f $REPO_DIR/consul.hcl ]]; then
    IS_INSTALLED=0
    RUN_DIR=$(realpath -m "${RUN_DIR:-$REPO_DIR/run}")
    NGINX_DIR="$RUN_DIR/nginx"
else
    # Installed on a server: there is no stack, and NGINX is the distribution's.
    IS_INSTALLED=1
    RUN_DIR=$(realpath -m "${RUN_DIR:-/run/streamd}")
    NGINX_DIR=/etc/nginx
fi
LOG_DIR="$RUN_DIR/log"
PID_DIR="$RUN_DIR/pids"
STATE_FILE="$RUN_DIR/stack.env"

# Without the caller's ~/.jq, which would become part of every program.
jq() { HOME=/dev/null command jq "$@"; }
