//! The engines over a kernel of scripts.

mod engines;
mod file;
mod peer;
mod plan;
mod run;
mod script;
mod simulated;
mod simulation;
mod sizes;
mod unchanged;
