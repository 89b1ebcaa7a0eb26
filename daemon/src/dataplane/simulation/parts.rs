//! Sockets, connections, their registry, what is received of them and how they end, each by a script.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::super::clock::Deadline;
use super::super::connection::{Phase, Via};
use super::super::error::TransferError;
use super::super::input::{Input, ReadDeadline};
use super::super::lingering_close::{LINGER_BYTES_MAX, linger, wait_until_acknowledged};
use super::super::platform::simulated::{Host, Seeded, Wire};
use super::super::platform::{self, Stream};
use super::super::registry::Registered;
use super::super::socket::Socket;
use super::world::World;
use crate::limits::{PaceMinimum, TICK, TICK_MS};

/// A connection of a worker on which a script plays.
struct Scene {
    world: World,
    wire: Arc<Wire>,
    connection: Rc<Registered>,
}

/// The result of a task, once there is one.
type Ended<T> = Rc<RefCell<Option<T>>>;

impl Scene {
    fn new() -> Scene {
        let world = World::quiet();
        let (wire, connection) = connect(&world);
        Scene { world, wire, connection: Rc::new(connection) }
    }

    fn host(&self) -> Rc<Host> {
        Host::current().unwrap()
    }

    /// Begins what waits.
    fn begin<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> Ended<T> {
        let ended = Ended::<T>::default();
        let result = Rc::clone(&ended);
        platform::spawn(async move { *result.borrow_mut() = Some(task.await) });
        self.go_on();
        ended
    }

    /// Lets all tasks go on that were woken.
    fn go_on(&self) {
        self.wire.end_waits(false);
        while self.host().go_on(|_| 0) {
            self.wire.end_waits(false);
        }
    }

    /// So many ticks pass, each with its sweep.
    fn pass(&self, ticks: u64) {
        for _ in 0..ticks {
            self.host().advance(TICK);
            self.go_on();
        }
    }

    fn wait(&self, phase: Phase, ticks: u64) -> Ended<Result<(), TransferError>> {
        let (connection, worker) = (Rc::clone(&self.connection), self.world.worker());
        let deadline = worker.clock.deadline((ticks - 1) * TICK_MS);
        self.begin(async move {
            match phase {
                Phase::Sending => connection.writable(deadline).await,
                phase => connection.readable(phase, deadline).await,
            }
        })
    }
}

fn connect(world: &World) -> (Arc<Wire>, Registered) {
    let wire = Wire::new(Seeded::quiet(), 1_000, 0, 0);
    let peer: SocketAddr = "192.0.2.1:1".parse().unwrap();
    let socket = Socket::over(Stream::Simulated(Arc::clone(&wire)), peer.into());
    (wire, world.worker().registry.add(socket, Via::default()))
}

fn is_timed_out(ended: &Ended<Result<(), TransferError>>) -> bool {
    matches!(*ended.borrow(), Some(Err(TransferError::TimedOut)))
}

#[test]
fn a_receive_that_leaves_bytes_behind_is_followed_by_another_without_an_event() {
    let scene = Scene::new();
    let worker = scene.world.worker();
    worker.readiness.watch(&scene.connection);
    scene.wire.arrive(b"four");
    let (token, is_end) = scene.wire.take_event().unwrap();
    worker.registry.notify_readable(token, is_end);
    scene.begin_receive(2, Some(2));
    scene.begin_receive(2, Some(2));
    scene.begin_receive(2, None);
    let waits = scene.wait(Phase::Receiving, 100);
    assert!(waits.borrow().is_none(), "nothing is there");
    scene.wire.half_close();
    let (token, is_end) = scene.wire.take_event().unwrap();
    worker.registry.notify_readable(token, is_end);
    scene.go_on();
    assert!(matches!(*waits.borrow(), Some(Ok(()))) && is_end);
    // The end is there now and always.
    for _ in 0..2 {
        assert!(matches!(*scene.wait(Phase::Receiving, 100).borrow(), Some(Ok(()))));
        scene.begin_receive(2, Some(0));
    }
}

impl Scene {
    /// Waits, and receives so many of `room` bytes.
    fn begin_receive(&self, room: usize, count: Option<usize>) {
        assert!(matches!(*self.wait(Phase::Receiving, 100).borrow(), Some(Ok(()))));
        assert_eq!(self.connection.socket.try_receive(&mut vec![0; room]), Ok(count));
    }
}

#[test]
fn a_wait_is_over_at_its_deadline_and_no_tick_earlier() {
    for phase in [Phase::Idle, Phase::Receiving] {
        let scene = Scene::new();
        let ended = scene.wait(phase, 5);
        scene.pass(4);
        assert!(ended.borrow().is_none(), "{phase:?}");
        scene.pass(1);
        assert!(is_timed_out(&ended), "{phase:?}");
        assert!(
            scene.connection.has_deadline(scene.wire.is_waited_for()),
            "{phase:?}: it waits for nothing now"
        );
    }
}

#[test]
fn what_a_peer_acknowledges_prolongs_the_wait_for_it_and_nothing_else_does() {
    let scene = Scene::new();
    assert_eq!(scene.connection.socket.try_send(&[0; 1_000], false), Ok(Some(1_000)));
    let ended = scene.wait(Phase::Sending, 5);
    for _ in 0..4 {
        scene.pass(4);
        assert_eq!(scene.wire.take(1).len(), 1);
        scene.wire.arrive(b"x");
    }
    scene.pass(1);
    assert!(ended.borrow().is_none(), "it takes a byte now and then");
    scene.pass(5);
    assert!(is_timed_out(&ended));
}

#[test]
fn what_arrives_in_the_turn_of_an_interrupt_wins_and_a_late_interrupt_concerns_nobody() {
    let scene = Scene::new();
    let ended = scene.wait(Phase::Receiving, 1_000);
    scene.connection.evict();
    scene.wire.arrive(b"x");
    scene.go_on();
    assert!(matches!(*ended.borrow(), Some(Ok(()))));
    assert!(scene.connection.is_evicted());
    scene.connection.socket.try_receive(&mut [0; 9]).unwrap();
    let ended = scene.wait(Phase::Receiving, 1_000);
    assert!(ended.borrow().is_none(), "the interrupt was that of the wait before");
    scene.connection.evict();
    scene.go_on();
    assert!(matches!(*ended.borrow(), Some(Err(TransferError::Evicted))));
}

#[test]
fn a_drain_ends_who_is_idle_and_breaks_off_whom_it_has_waited_for_too_long() {
    let scene = Scene::new();
    let (registry, clock) = (&scene.world.worker().registry, &scene.world.worker().clock);
    let ended = scene.wait(Phase::Receiving, 1_000);
    registry.close_idle(clock.now(), 0);
    scene.go_on();
    assert!(ended.borrow().is_none(), "it has begun something");
    registry.abort_all();
    scene.go_on();
    // Its socket is broken, which is known first; who did that is told.
    let error = ended.take().unwrap().err().unwrap_or(TransferError::PeerGone);
    assert!(matches!(scene.connection.blame(error), TransferError::Drained));
}

#[test]
fn a_token_of_a_connection_that_is_gone_reaches_nobody_who_has_its_place() {
    let scene = Scene::new();
    let Scene { world, connection, .. } = scene;
    let (registry, token) = (Rc::clone(&world.worker().registry), connection.token());
    drop(connection);
    assert_eq!(registry.len(), 0);
    let (_wire, next) = connect(&world);
    assert_ne!(next.token(), token);
    assert_eq!(next.token() & u64::from(u32::MAX), token & u64::from(u32::MAX), "it has the place");
    registry.evict(token);
    registry.notify_readable(token, true);
    assert!(!next.is_evicted());
    registry.evict(next.token());
    assert!(next.is_evicted());
}

#[test]
fn a_sweep_gives_up_who_moves_less_than_the_minimum_and_counts_it() {
    let scene = Scene::new();
    let worker = scene.world.worker();
    let mut settings = worker.live().settings.clone();
    (settings.progress_bytes_min, settings.progress_interval_ms) = (100, 2_000);
    let minimum = PaceMinimum::of(&settings);
    let ended = scene.wait(Phase::Receiving, 10_000);
    let swept: u64 = (0..100).map(|_| worker.registry.sweep(worker.clock.now(), &minimum)).sum();
    scene.go_on();
    assert!(swept >= 1);
    assert!(matches!(*ended.borrow(), Some(Err(TransferError::TooSlow))));
}

/// Receives until the input has so many bytes, or nothing more comes.
async fn receive(
    scene: (Rc<Registered>, Rc<super::super::context::Worker>),
    bytes: usize,
) -> (usize, bool, bool) {
    let (connection, worker) = scene;
    let (mut input, mut deadline) = (Input::default(), ReadDeadline::new(&worker, 1_000));
    loop {
        match deadline.receive(&worker, &connection, &mut input).await {
            Ok(true) if input.bytes().len() < bytes => {}
            result => return (input.bytes().len(), matches!(result, Ok(true)), result.is_err()),
        }
    }
}

#[test]
fn what_has_begun_has_to_be_whole_in_time_however_it_trickles_in() {
    let scene = Scene::new();
    let received = scene.begin(receive((Rc::clone(&scene.connection), scene.world.worker()), 100));
    scene.pass(30);
    assert!(received.borrow().is_none(), "nothing has come, which may take idle_timeout_ms");
    for _ in 0..10 {
        scene.wire.arrive(b"x");
        scene.pass(1);
    }
    assert!(received.borrow().is_none());
    scene.pass(2);
    assert_eq!(*received.borrow(), Some((10, false, true)));
}

#[test]
fn an_input_has_all_that_came_in_its_order_and_says_when_the_peer_has_ended() {
    let scene = Scene::new();
    let received = scene.begin(receive((Rc::clone(&scene.connection), scene.world.worker()), 100));
    scene.wire.arrive(b"abc");
    scene.go_on();
    scene.wire.half_close();
    scene.go_on();
    assert_eq!(*received.borrow(), Some((3, false, false)));
    let mut input = Input::default();
    input.put_back(b"abcdef".to_vec());
    input.consume(2);
    assert_eq!((input.bytes(), input.is_empty()), (&b"cdef"[..], false));
    assert_eq!(input.take(), b"cdef");
    assert!(input.is_empty());
}

#[test]
fn a_lingering_close_takes_so_much_and_no_more_and_ends_with_the_peer_or_in_two_seconds() {
    for leaves in [true, false] {
        let scene = Scene::new();
        let (connection, worker) = (Rc::clone(&scene.connection), scene.world.worker());
        let ended = scene.begin(async move { linger(&worker, &connection, u64::MAX).await });
        for _ in 0..5 {
            scene.wire.arrive(&[0; 20_000]);
            scene.go_on();
        }
        assert_eq!(scene.wire.received_bytes(), LINGER_BYTES_MAX);
        scene.pass(10);
        assert!(ended.borrow().is_none());
        if leaves {
            scene.wire.half_close();
        } else {
            scene.pass(10);
        }
        scene.pass(2);
        assert!(ended.borrow().is_some(), "leaves: {leaves}");
    }
}

#[test]
fn the_last_answer_is_waited_for_as_long_as_the_peer_takes_of_it() {
    let scene = Scene::new();
    assert_eq!(scene.connection.socket.try_send(&[0; 100], false), Ok(Some(100)));
    let (connection, worker) = (Rc::clone(&scene.connection), scene.world.worker());
    let ended = scene.begin(async move { wait_until_acknowledged(&worker, &connection).await });
    for _ in 0..5 {
        scene.pass(15);
        scene.wire.take(10);
    }
    scene.pass(15);
    assert!(ended.borrow().is_none(), "it takes a part every 1.5 s");
    scene.pass(10);
    assert!(ended.borrow().is_some(), "it takes nothing for 2 s");
}

#[test]
fn what_is_not_waited_for_has_no_deadline() {
    assert!(Scene::new().connection.has_deadline(false));
    assert!(!Scene::new().connection.has_deadline(true), "somebody waits past Connection");
    let scene = Scene::new();
    let connection = Rc::clone(&scene.connection);
    let ended = scene.begin(async move { connection.readable(Phase::Idle, Deadline::NONE).await });
    assert!(ended.borrow().is_none() && !scene.connection.has_deadline(true));
}
