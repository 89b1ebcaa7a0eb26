//! Tests of a whole control plane on a port of its own, driven through plain sockets; the test plays the workers.

mod access;
mod connections;
mod harness;
mod status;
mod streams;
