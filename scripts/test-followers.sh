#!/usr/bin/env bash
# nginx-upstreams.sh against whatever may meet it: odd answers in Consul's place (odd-consul.py), entries that nobody
# proved, entries that NGINX refuses, more than fit, a full disk, a Consul that hangs, processes that are killed. With a real
# Consul agent and a real NGINX; has a state folder and ports of its own.
set -euo pipefail
unset REPLICAS ROOT_DIR HTTP_PORT HTTPS_PORT TCP_PORT DATA_PORT CONTROL_PORT STACK_TAG REGISTRATION_KEY_FILE CREDENTIALS_DIRECTORY
unset CONSUL_HTTP_PORT CONSUL_DNS_PORT CONSUL_SERVER_PORT CONSUL_SERF_PORT CONSUL_HTTP_ADDR CONSUL_HTTP_TOKEN
RUN_DIR=$(mktemp -d "${TMPDIR:-/tmp}/streamd-test-followers.XXXXXX")
export RUN_DIR
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/checks.sh"
source "$LIB_DIR/values.sh"
source "$LIB_DIR/settings.sh"
source "$LIB_DIR/waiting.sh"
source "$LIB_DIR/network.sh"
source "$LIB_DIR/processes.sh"
source "$LIB_DIR/consul.sh"
source "$LIB_DIR/consul-program.sh"
source "$LIB_DIR/proof.sh"
source "$LIB_DIR/lists.sh"
source "$LIB_DIR/alarm.sh"
source "$LIB_DIR/suite.sh"
source "$LIB_DIR/suite-stack.sh"
source "$LIB_DIR/suite-faults.sh"

usage() {
    cat <<'USAGE'
usage: test-followers.sh

Prints one line per check and ends with "N passed, M failed". Exit code 0 when none failed. When one
failed, the logs are kept and their folder is named.
USAGE
}

# A follower that backs off asks again within 10 s; a busy machine takes longer.
FOLLOWS_SECONDS=30
# A TTL of 30 s, and Consul's own round.
ALARM_SECONDS=60
UPSTREAMS_DIR="$NGINX_DIR/upstreams"
LOG="$LOG_DIR/followers.log"

ODD_PID=
DISK_PID=

main() {
    no_arguments "$@"
    clean_up_at_the_end
    choose_ports
    begin_odd_answers
    test_parsers
    test_told
    begin_consul_and_nginx
    begin_silent_follower
    test_keys
    test_lists
    test_strange_keys
    test_refused_by_nginx
    test_broken_configuration
    test_many_servers
    test_killed
    test_full_disk
    test_hung_consul
    test_silence
    test_end
    test_odd_answers
    finish
}

clean_up() {
    local status=$? name
    count_unfinished
    if [[ -n $ODD_PID ]]; then kill "$ODD_PID" 2>/dev/null || true; fi
    for name in followers silent; do
        if process_lives "$name"; then signal_session CONT "$name"; fi
    done
    # shellcheck disable=SC2046  # names have no blanks
    stop_processes TERM 15 $(process_names '*')
    if [[ -n $DISK_PID ]]; then wait "$DISK_PID" 2>/dev/null || true; fi
    remove_or_keep "$status" "logs are"
}

# ---------------------------------------------------------------- what is needed

begin_consul_and_nginx() {
    local consul flags=()
    mkdir -p "$LOG_DIR" "$PID_DIR" "$UPSTREAMS_DIR" "$RUN_DIR/shim"
    consul=$(consul_path) || die "consul $CONSUL_VERSION_MIN or newer is missing: run scripts/install-deps.sh"
    if version_at_least "$(consul_version "$consul")" 1.14; then flags=(-grpc-tls-port=-1); fi
    start_process consul "$consul" agent "-config-file=$REPO_DIR/consul.hcl" "-data-dir=$RUN_DIR/consul" \
        "-http-port=$CONSUL_HTTP_PORT" "-dns-port=$CONSUL_DNS_PORT" \
        "-server-port=$CONSUL_SERVER_PORT" "-serf-lan-port=$CONSUL_SERF_PORT" "${flags[@]}"
    wait_for "$FOLLOWS_SECONDS" consul_ready || die_with_log "consul doesn't answer" "$LOG_DIR/consul.log"
    registration_key_load || die "$KEY_ERROR"
    write_shim
    write_nginx_conf "$(zone_size)"
    register control 127.0.0.1 1001
    register data 127.0.0.1 1002
    quiet "$SCRIPTS_DIR/nginx-upstreams.sh" --once || die_with_log "the lists could not be written" "$RUN_DIR/quiet.log"
    start_process nginx "$(command -v nginx)" -p "$NGINX_DIR" -c "$NGINX_DIR/nginx.conf" -g 'daemon off;'
    wait_for "$FOLLOWS_SECONDS" port_answers 127.0.0.1 "$HTTP_PORT" || die_with_log "nginx doesn't start" "$LOG_DIR/nginx.log"
    start_process followers "$SCRIPTS_DIR/keep.sh" "$SCRIPTS_DIR/nginx-upstreams.sh"
}

# In NGINX's place: refuses a configuration whose lists match what is in the file refuse, as NGINX would.
write_shim() {
    cat >"$RUN_DIR/shim/nginx" <<SHIM
#!/usr/bin/env bash
if [[ " \$* " == *' -t '* && -f "$RUN_DIR/refuse" ]] && grep -qFf "$RUN_DIR/refuse" "$UPSTREAMS_DIR"/*.conf; then
    echo 'nginx: [crit] made to say so' >&2
    echo "nginx: [emerg] refused by the shim in $UPSTREAMS_DIR/control.conf:1" >&2
    exit 1
fi
exec "$(command -v nginx)" "\$@"
SHIM
    chmod +x "$RUN_DIR/shim/nginx"
    PATH="$RUN_DIR/shim:$PATH"
}

# The values of the shipped configuration.
zone_size() { sed -n 's/^ *zone streamd_control \([0-9]*[km]\);$/\1/p' "$REPO_DIR/nginx.conf"; }

# write_nginx_conf ZONE_SIZE
write_nginx_conf() {
    cat >"$NGINX_DIR/nginx.conf" <<CONF
pid "$NGINX_DIR/nginx.pid";
error_log "$LOG_DIR/nginx-error.log" notice;
worker_processes 1;
events {}
http {
    access_log off;
    $(for kind in client_body proxy fastcgi uwsgi scgi; do printf '%s_temp_path "%s/temp-%s"; ' $kind "$NGINX_DIR" $kind; done)
    upstream streamd_control { zone streamd_control $1; include upstreams/control.conf; keepalive 32; }
    upstream streamd_data { zone streamd_data $1; least_conn; include upstreams/data.conf; }
    server {
        listen 127.0.0.1:$HTTP_PORT;
        location /control { proxy_pass http://streamd_control; }
        location /data { proxy_pass http://streamd_data; }
    }
}
CONF
}

service_of() { if [[ $1 == control ]]; then printf file-server-http; else printf file-server-tcp; fi; }

# register PLANE ADDRESS PORT [PROOF]: without a check, so that it passes.
register() {
    local name proof
    name=$(service_of "$1")
    proof=${4-$(registration_proof "$name" "$2" "$3")}
    consul_api PUT /v1/agent/service/register "$(jq -n --arg name "$name" --arg address "$2" --argjson port "$3" --arg proof "$proof" \
        '{ID: "\($name)-\($address)-\($port)", Name: $name, Address: $address, Port: $port, Tags: ["streamd"],
          Meta: {"streamd-proof": $proof}}')" || die "not registered: $(api_error)"
}

deregister() { consul_api PUT "/v1/agent/service/deregister/$(service_of "$1")-$2-$3" || die "not deregistered: $(api_error)"; }

# list_is PLANE SERVER...: what NGINX works with.
list_is() {
    local got
    got=$(servers_of "$1")
    CHECK_DETAIL="expected \"${*:2}\", got \"$got\""
    [[ $got == "${*:2}" ]]
}

servers_of() { sed -n 's/^server \([^ ;]*\).*/\1/p' "$(list_in_force "$1")" 2>/dev/null | paste -s -d ' '; }

becomes() { wait_for "$FOLLOWS_SECONDS" list_is "$@"; }

# The next change: another server beside 127.0.0.1:1001, or it goes again.
HAS_OTHER=0
follows() {
    HAS_OTHER=$((!HAS_OTHER))
    if ((HAS_OTHER)); then
        register control 127.0.0.2 1001
        becomes control 127.0.0.1:1001 127.0.0.2:1001
    else
        deregister control 127.0.0.2 1001
        becomes control 127.0.0.1:1001
    fi
}

short_again() { ((!HAS_OTHER)) || follows; }

says() { grep -qsF -- "$1" "$LOG"; }

stands() { lists_stand_still "$UPSTREAMS_DIR" >"$RUN_DIR/stands"; }

stands_for() {
    stands || return 1
    CHECK_DETAIL="it says $(<"$RUN_DIR/stands")"
    grep -qE -- "$1" "$RUN_DIR/stands"
}

follow_again() { ! lists_stand_still "$UPSTREAMS_DIR" >"$RUN_DIR/stands"; }

# ---------------------------------------------------------------- parts alone

# RFC 4231, sections 4.2 to 4.7.
test_parsers() {
    check "HMAC: RFC 4231, case 1" equal b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7 \
        "$(hmac_of "$(bytes 0b 20)" 'Hi There')"
    check "HMAC: RFC 4231, case 2" equal 5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843 \
        "$(hmac_of 4a656665 'what do ya want for nothing?')"
    check "HMAC: RFC 4231, case 3" equal 773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe \
        "$(hmac_of "$(bytes aa 20)" "$(print_bytes "$(bytes dd 50)")")"
    check "HMAC: RFC 4231, case 4" equal 82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b \
        "$(hmac_of 0102030405060708090a0b0c0d0e0f10111213141516171819 "$(print_bytes "$(bytes cd 50)")")"
    check "HMAC: RFC 4231, case 6" equal 60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54 \
        "$(hmac_of "$(bytes aa 131)" 'Test Using Larger Than Block-Size Key - Hash Key First')"
    check "HMAC: RFC 4231, case 7" equal 9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2 \
        "$(hmac_of "$(bytes aa 131)" 'This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.')"
    check "addresses: as Python's ipaddress has them" quiet python3 "$SCRIPTS_DIR/test-addresses.py"
}

hmac_of() { hmac_take_key "$1" && hmac_sha256 "$2"; }

# bytes HEX COUNT
bytes() { for ((i = 0; i < $2; i++)); do printf '%s' "$1"; done; }

# In the background: most of it is waiting.
begin_odd_answers() {
    mkdir -p "$RUN_DIR/odd" "$PID_DIR" "$LOG_DIR"
    registration_key_load || die "$KEY_ERROR"
    "$SCRIPTS_DIR/odd-consul.py" "$RUN_DIR/odd" "$RUN_DIR/registration.key" >"$RUN_DIR/odd.txt" 2>&1 </dev/null &
    ODD_PID=$!
}

test_odd_answers() {
    local line
    wait "$ODD_PID" 2>/dev/null || true
    ODD_PID=
    check "odd answers: all were tried" grep -q '^40 of 40 cases' "$RUN_DIR/odd.txt"
    while IFS= read -r line; do
        CHECK_DETAIL=${line#*: }
        check "lives through ${line#* }" test "${line%% *}" == ok
    done < <(grep -E '^(ok|FAILED) ' "$RUN_DIR/odd.txt" | sed 's/^\([a-zA-Z]*\)  */\1 /')
}

# ---------------------------------------------------------------- told to end

TOLD_RUNS=20

# A trap that runs while bash reads a $( ) is lost, and often the script with it: six of forty without signals.sh.
test_told() {
    local i pids=()
    write_busy
    for ((i = 0; i < TOLD_RUNS; i++)); do
        bash "$RUN_DIR/busy" >"$RUN_DIR/busy.$i" 2>&1 &
        pids+=("$!")
    done
    check "told to end at any moment: $TOLD_RUNS begin" wait_for "$FOLLOWS_SECONDS" all_busy_say begun
    for i in "${pids[@]}"; do
        sleep "0.0$((RANDOM % 9))$((RANDOM % 10))"
        kill "$i"
    done
    check "told to end at any moment: all of them withdraw" wait_for "$FOLLOWS_SECONDS" all_busy_say withdrawn
    wait "${pids[@]}" || true
}

all_busy_say() {
    CHECK_DETAIL="$(cat "$RUN_DIR"/busy.* | sort | uniq -c)"
    [[ $(cat "$RUN_DIR"/busy.* | grep -cx "$1") == "$TOLD_RUNS" ]]
}

# What is told only waits, and what works with many a $( ) is told where it waits.
write_busy() {
    cat >"$RUN_DIR/busy" <<BUSY
source "$LIB_DIR/signals.sh"
work() {
    heed_signals
    echo begun
    while is_wanted "\$\$"; do
        x="\$(printf a)\$(printf b)" y="\$(printf '%s' "\$x\$(printf c)")"
        pause_or_told 0.01
    done
    echo withdrawn
    exit 0
}
trap 'IS_STOPPING=1' TERM
work &
while ((!IS_STOPPING)); do wait "\$!"; done
trap '' TERM
tell_to_end 20 "\$!"
BUSY
}

# ---------------------------------------------------------------- keys

# The scripts alone, as on a server.
test_keys() {
    local scripts="$RUN_DIR/installed/usr/lib/streamd" key="$RUN_DIR/installed/key"
    mkdir -p "$scripts"
    cp -r "$SCRIPTS_DIR/nginx-upstreams.sh" "$LIB_DIR" "$scripts/"
    check "on a server without a key: ends with 78" ends_with_key 78 "$key"
    install -m 0644 "$RUN_DIR/registration.key" "$key"
    check "with a key that others may read: ends with 78" ends_with_key 78 "$key"
    chmod 0600 "$key"
    check "with the key: takes what has a proof" ends_with_key 0 "$key"
    printf 'short\n' >"$key"
    check "with what is no key: ends with 78" ends_with_key 78 "$key"
    ln -s "$RUN_DIR/registration.key" "$key.link"
    check "with a link in its place: ends with 78" ends_with_key 78 "$key.link"
    check "with REGISTRATION_KEY_FILE=none: asks for no proof" ends_with_key 0 none
    check "and says what that means" grep -q 'whoever may register' "$RUN_DIR/quiet.log"
    check "with a tag that is none: usage" ends_with_key 2 none STACK_TAG='a b'
    check "no process shows the key" equal "" "$(key_on_command_lines)"
    write_reload
    test_hidden_nginx
}

# A service manager may give less than NGINX has: then nobody can tell whether it takes the lists.
test_hidden_nginx() {
    if ! setpriv --bounding-set -sys_ptrace,-sys_admin true 2>/dev/null; then
        say "skipped an NGINX that can't be looked at: only root can give up capabilities here"
        return 0
    fi
    check "an NGINX that can't be looked at is a fault, not absent" equal "NGINX (pid $(process_pid nginx)) can't be looked at" \
        "$(setpriv --bounding-set -sys_ptrace,-sys_admin bash "$RUN_DIR/installed/reload" | cut -d : -f 1)"
    check "one that can be is reloaded" equal "reloaded" "$(bash "$RUN_DIR/installed/reload")"
}

write_reload() {
    cat >"$RUN_DIR/installed/reload" <<RELOAD
source "$RUN_DIR/installed/usr/lib/streamd/lib/environment.sh"
for part in messages waiting processes nginx; do source "\$LIB_DIR/\$part.sh"; done
if reload_nginx "$NGINX_DIR/nginx.conf" "$NGINX_DIR"; then echo reloaded; else echo "\$NGINX_FAULT"; fi
RELOAD
}

# ends_with_key STATUS FILE [VARIABLE...]
ends_with_key() {
    local status=0
    env REGISTRATION_KEY_FILE="$2" "${@:3}" "$RUN_DIR/installed/usr/lib/streamd/nginx-upstreams.sh" --once \
        --dir "$RUN_DIR/installed/upstreams" --conf "$RUN_DIR/installed/none.conf" >"$RUN_DIR/quiet.log" 2>&1 || status=$?
    CHECK_DETAIL="it ended with $status, see $RUN_DIR/quiet.log"
    ((status == $1))
}

# While proofs are made as fast as can be.
key_on_command_lines() {
    local key i
    key=$(<"$RUN_DIR/registration.key")
    (for ((i = 0; i < 50; i++)); do registration_proof a 192.0.2.1 "$i" >/dev/null; done) &
    for ((i = 0; i < 10; i++)); do grep -slF -- "${key:0:32}" /proc/[0-9]*/cmdline || true; done
    wait "$!"
}

# ---------------------------------------------------------------- lists

# has_checks ID: both followers of the alarm have registered theirs. The catalog lists the alarm of another NGINX too.
has_checks() {
    consul_api GET "/v1/health/service/$ALARM_SERVICE" &&
        jq -e --arg id "$1" '[.[] | select(.Service.ID == $id) | .Checks[] | select(.ServiceID == $id).CheckID] | sort
            == ["\($id)-control", "\($id)-data"]' <<<"$API_BODY" >/dev/null
}

test_lists() {
    check "the lists follow" wait_for "$FOLLOWS_SECONDS" follow_again
    check "they are what Consul has" list_is control 127.0.0.1:1001
    check "a change comes through" follows
    check "Consul shows that they follow" wait_for "$FOLLOWS_SECONDS" status_is passing "$(alarm_id)"
    check "by a check for each list" wait_for "$FOLLOWS_SECONDS" has_checks "$(alarm_id)"
    check "nothing is refused" equal "" "$(find "$UPSTREAMS_DIR" -name '*.refused')"
}

# Somebody who can't know the key, and a stack that has another.
test_strange_keys() {
    local proof
    proof=$(key_of_another_stack && registration_proof file-server-http 192.0.2.5 80)
    register control 192.0.2.5 80 "$proof"
    register control 192.0.2.6 80 ''
    check "another stack's entry is refused" wait_for "$FOLLOWS_SECONDS" refused control file-server-http-192.0.2.5-80 'not by this'
    check "one without a proof is refused" wait_for "$FOLLOWS_SECONDS" refused control file-server-http-192.0.2.6-80 'no proof'
    check "each is said once" equal "1 1" "$(grep -c 'refused .*192.0.2.5-80' "$LOG") $(grep -c 'refused .*192.0.2.6-80' "$LOG")"
    check "the list goes on beside them" follows
    check "and they are still said once" equal "1 1" "$(grep -c 'refused .*192.0.2.5-80' "$LOG") $(grep -c 'refused .*192.0.2.6-80' "$LOG")"
    deregister control 192.0.2.5 80
    deregister control 192.0.2.6 80
    check "gone, the file of refused ones goes" wait_for "$FOLLOWS_SECONDS" test ! -e "$UPSTREAMS_DIR/control.refused"
}

key_of_another_stack() { hmac_take_key "$(bytes 11 32)"; }

# refused PLANE ID REASON
refused() { grep -sF -- "$2"$'\t' "$UPSTREAMS_DIR/$1.refused" | grep -qF -- "$3"; }

# ---------------------------------------------------------------- NGINX refuses

test_refused_by_nginx() {
    local i
    check "the list gets short" short_again
    printf '192.0.2.3:\n' >"$RUN_DIR/refuse"
    for i in 1 2 3 4 5; do register control "192.0.2.$i" 80; done
    check "NGINX refuses one: the others are in the list" \
        becomes control 127.0.0.1:1001 192.0.2.1:80 192.0.2.2:80 192.0.2.4:80 192.0.2.5:80
    check "NGINX refuses one: it is named with what NGINX says" wait_for "$FOLLOWS_SECONDS" grep -qs '192.0.2.3:80.*\[crit\].*\[emerg\]' "$LOG"
    check "NGINX refuses one: it is in the file" wait_for "$FOLLOWS_SECONDS" refused control 'file-server-http at 192.0.2.3:80' 'refused by the shim'
    check "NGINX refuses one: the lists still follow" wait_for "$FOLLOWS_SECONDS" follow_again
    rm "$RUN_DIR/refuse"
    deregister control 192.0.2.5 80
    check "NGINX accepts it: it is in the list" becomes control 127.0.0.1:1001 192.0.2.1:80 192.0.2.2:80 192.0.2.3:80 192.0.2.4:80
    for i in 1 2 3 4; do deregister control "192.0.2.$i" 80; done
    check "and the list gets short again" becomes control 127.0.0.1:1001
}

test_broken_configuration() {
    printf 'server\n' >"$RUN_DIR/refuse"
    register control 127.0.0.2 1001
    HAS_OTHER=1
    check "NGINX refuses any list: whoever asks is told" wait_for "$FOLLOWS_SECONDS" stands
    check "NGINX refuses any list: with the reason" grep -q 'control.conf: .*whatever is in the list.*\[emerg\]' "$RUN_DIR/stands"
    check "NGINX refuses any list: the log has it" says 'whatever is in the list'
    check "NGINX refuses any list: Consul calls it critical" wait_for "$FOLLOWS_SECONDS" status_is critical "$(alarm_id)"
    check "NGINX refuses any list: the old one stays" list_is control 127.0.0.1:1001
    rm "$RUN_DIR/refuse"
    check "mended: the list follows" becomes control 127.0.0.1:1001 127.0.0.2:1001
    check "mended: whoever asks is told" wait_for "$FOLLOWS_SECONDS" follow_again
    check "mended: Consul calls it passing" wait_for "$FOLLOWS_SECONDS" status_is passing "$(alarm_id)"
}

# 300 of the longest addresses, on a node of their own: the agent's own would be cleared of what it doesn't know.
test_many_servers() {
    register_many set
    check "300 servers: NGINX works with 256" wait_for "$FOLLOWS_SECONDS" list_has 256
    check "300 servers: the others are refused" wait_for "$FOLLOWS_SECONDS" refused_count 46
    write_nginx_conf 128k
    deregister_first
    check "a zone too small: as many as fit" wait_for "$FOLLOWS_SECONDS" list_has_fewer 256
    check "a zone too small: NGINX's words are in the log" wait_for "$FOLLOWS_SECONDS" grep -qsE 'nginx -t: .*\[(crit|emerg)\].*(no memory|zone)' "$LOG"
    write_nginx_conf "$(zone_size)"
    register_many delete
    check "and the list gets short again" becomes control 127.0.0.1:1001 127.0.0.2:1001
}

list_has() { [[ $(servers_of control | wc -w) == "$1" ]]; }

list_has_fewer() {
    local count
    count=$(servers_of control | wc -w)
    CHECK_DETAIL="$count servers"
    ((count > 50 && count < $1))
}

refused_count() { [[ $(wc -l <"$UPSTREAMS_DIR/control.refused") == "$1" ]]; } 2>/dev/null

# register_many set|delete
register_many() {
    python3 - "$1" "$STACK_CONSUL_URL" "$RUN_DIR/registration.key" <<'PYTHON'
import hashlib, hmac, json, sys, urllib.request
verb, url, key_file = sys.argv[1:]
key = bytes.fromhex(open(key_file, encoding="ascii").read().strip())
ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

def operation(number):
    address, name = f"2001:db8:1111:2222:3333:4444:5555:{number:x}", "file-server-http"
    proof = hmac.new(key, f"{name} {address} 65535 streamd".encode(), hashlib.sha256).hexdigest()
    service = {"ID": f"{name}-{address}-65535", "Service": name, "Address": address, "Port": 65535, "Tags": ["streamd"],
               "Meta": {"streamd-proof": proof}}
    return {"Service": {"Verb": verb, "Node": "elsewhere", "Service": service}}

def put(path, value):
    ask(urllib.request.Request(url + path, json.dumps(value).encode(), method="PUT"), timeout=20).read()

numbers = list(range(0x1000, 0x1000 + 300))
if verb == "set":
    put("/v1/catalog/register", {"Node": "elsewhere", "Address": "192.0.2.99"})
    for begin in range(0, len(numbers), 60):
        put("/v1/txn", [operation(number) for number in numbers[begin:begin + 60]])
else:
    put("/v1/catalog/deregister", {"Node": "elsewhere"})
PYTHON
}

# A list that differs, so that it is put in place anew.
deregister_first() {
    consul_api PUT /v1/catalog/deregister '{"Node": "elsewhere", "ServiceID": "file-server-http-2001:db8:1111:2222:3333:4444:5555:1000-65535"}'
}

test_end() {
    local id
    stop_processes TERM 15 silent followers
    for id in "$(alarm_id)" "$(silent_alarm)"; do
        check "told to end: Consul has no alarm $id any more" equal false \
            "$(consul_api GET /v1/agent/services && jq --arg id "$id" 'has($id)' <<<"$API_BODY")"
    done
    check "told to end: no balancer is told of" wait_for "$FOLLOWS_SECONDS" no_balancer
    check "told to end: whoever asks is told" stands
    check "told to end: nothing is left beside the lists" equal "" "$(find "$UPSTREAMS_DIR" -name '*.answer.*' -o -name '*.last' -o -name '*.next' -o -name '*.new')"
}

# An agent that was too slow to be told takes the sessions away itself.
no_balancer() { ! consul_api GET '/v1/kv/streamd/balancers?keys' && [[ $API_STATUS == 404 ]]; }

main "$@"
