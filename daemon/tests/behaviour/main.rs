//! Behaviour, seen from outside: real sockets against a daemon in this process or in one of its own.
//!
//! One binary, so that it links once; each module is a subject.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "as clippy.toml has it for test functions: what cannot go on has failed"
)]

mod access;
mod access_lines;
mod both_planes;
mod command_line;
mod frames;
mod half_close;
mod harness;
mod hosts_files;
mod hosts_limits;
mod hosts_log;
mod hosts_ports;
mod hosts_root;
mod http_archive;
mod http_bad_input;
mod http_bodies;
mod http_changes;
mod http_cold;
mod http_conditional;
mod http_cors;
mod http_files;
mod http_identity;
mod http_kept;
mod http_like_nginx;
mod http_listing;
mod http_names;
mod http_ranges;
mod http_web;
mod lanes;
mod life;
mod life_drain;
mod life_refused;
mod life_reload;
mod limits;
mod limits_addresses;
mod limits_memory;
mod limits_progress;
mod limits_room;
mod links;
mod listeners;
mod listeners_bound;
mod listeners_proxied;
mod listing_clients;
mod logs;
mod metrics;
mod proxies;
mod proxies_headers;
mod real_clients;
mod repositories;
mod sandbox;
mod shares;
mod smoke;
mod space;
mod spool;
mod start_refused;
mod start_together;
mod streams;
mod streams_kept;
mod streams_killed;
mod streams_refused;
mod systemd_notify;
mod systemd_sockets;
mod uploads;
mod uploads_broken;
mod uploads_clients;
mod uploads_complete;
mod uploads_counted;
mod uploads_crash;
mod uploads_daemons;
mod uploads_digests;
mod uploads_direct;
mod uploads_directories;
mod uploads_disk;
mod uploads_faults;
mod uploads_killed;
mod uploads_membership;
mod uploads_names;
mod uploads_proof;
mod uploads_races;
mod uploads_ranged;
mod uploads_readme;
mod uploads_refused;
mod uploads_refused_bodies;
mod uploads_resumable;
mod uploads_short;
mod uploads_words;
mod uploads_writers;
mod ways_out;
