# The local Consul agent of a streamd host: a single server which listens on loopback only.
# Valid from Consul 1.8 on. scripts/up.sh runs it as
#
#   consul agent -config-file=consul.hcl -data-dir=run/consul -ui
#
# The user interface is switched on by the flag: its key in this file changed in Consul 1.9.
# In a cluster, replace `server` and `bootstrap_expect` by `retry_join` with the addresses of the
# servers, and `bind_addr` by the address at which the other agents reach this host.

server           = true
bootstrap_expect = 1

# Serf and RPC. Nothing outside this host may join.
bind_addr = "127.0.0.1"

# API, user interface and DNS. Whoever reaches the API may register services: keep it on loopback,
# or set up ACLs and hand the scripts a token in CONSUL_HTTP_TOKEN.
client_addr = "127.0.0.1"

ports {
  http = 8500
  dns  = 8600

  # No other data centre: one open port less.
  serf_wan = -1
}

# A single server elects itself; the shortest timing brings the leader within about two seconds.
performance {
  raft_multiplier = 1
}

# The checks of streamd are HTTP and TCP. Commands in registrations stay refused.
enable_script_checks = false
disable_remote_exec  = true

# No calls home.
disable_update_check = true

log_level = "INFO"
