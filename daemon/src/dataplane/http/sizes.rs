//! Ten thousand connections at once are mostly their futures.

use std::rc::Rc;

use super::super::context::Worker;
use super::super::input::{Input, ReadDeadline};
use super::super::platform::simulated::CHOICE_BYTES;
use super::super::registry::Registered;
use super::response::Response;
use super::states::{self, State};
use super::upload::WrittenShare;
use super::{send, serve, upload};
use crate::protocol::http1::request::Request;

/// The bytes of the future that `_call` gives.
fn of_call<F: Future>(_call: impl FnOnce() -> F) -> usize {
    size_of::<F>()
}

/// A parameter of a call that isn't made.
fn any<T>() -> T {
    unreachable!("only the future's type is wanted")
}

#[test]
fn a_connection_and_its_requests_take_no_more_memory_than_they_did() {
    let worker = any::<&'static Rc<Worker>>;
    let connection = any::<&'static Registered>;
    let input = any::<&'static mut Input>;
    for (what, bytes, bytes_max) in [
        (
            "a connection between requests",
            of_call(|| serve(worker(), connection(), input(), any::<&'static mut ReadDeadline>())),
            432,
        ),
        (
            "a request that waits",
            of_call(|| {
                states::finish(worker(), connection(), input(), any::<ReadDeadline>(), any::<State>())
            }),
            2104,
        ),
        (
            "an answer",
            of_call(|| send::send(worker(), any::<&'static Registered>(), any::<Response>())),
            1576,
        ),
        (
            "an upload",
            of_call(|| {
                upload::serve(
                    worker(),
                    connection(),
                    any::<Box<Request>>(),
                    input(),
                    any::<Box<WrittenShare>>(),
                )
            }),
            2152,
        ),
        ("a state", size_of::<State>(), 40),
    ] {
        let choice_bytes = if what == "a state" { 0 } else { CHOICE_BYTES };
        assert!(bytes <= bytes_max + choice_bytes, "{what}: {bytes} bytes instead of {bytes_max}");
    }
}
