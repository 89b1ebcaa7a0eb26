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

mod command_line;
mod frames;
mod harness;
mod http_bad_input;
mod http_bodies;
mod http_changes;
mod http_conditional;
mod http_files;
mod http_kept;
mod http_like_nginx;
mod http_listing;
mod http_names;
mod http_ranges;
mod life;
mod life_drain;
mod life_refused;
mod limits;
mod logs;
mod real_clients;
mod sandbox;
mod smoke;
mod start_refused;
mod streams;
mod streams_refused;
mod systemd_notify;
mod systemd_sockets;
mod uploads;
mod uploads_broken;
mod uploads_clients;
mod uploads_counted;
mod uploads_crash;
mod uploads_digests;
mod uploads_direct;
mod uploads_directories;
mod uploads_disk;
mod uploads_faults;
mod uploads_killed;
mod uploads_names;
mod uploads_races;
mod uploads_ranged;
mod uploads_refused;
mod uploads_refused_bodies;
mod uploads_resumable;
mod uploads_writers;
