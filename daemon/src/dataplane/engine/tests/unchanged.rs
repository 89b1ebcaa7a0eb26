//! Files that change while it is looked whether they did.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use super::super::super::error::TransferError;
use super::super::check;
use super::super::transfer::Transfer;
use super::file::{Change, Content, ScriptedFile};
use super::peer::Peer;
use super::plan::{Call, HOT, Outcome, Plan, Step};
use super::run::Tasks;
use super::script::{Host, Script, TIMEOUT_MS};
use crate::config::EngineChoice;

const BYTES: u64 = 100_000;

/// Looks at a file that has grown, and changes so after each look before that is told.
fn look(changes: &[Option<Change>]) -> Result<(), TransferError> {
    let content = Content::new(0, BYTES);
    let steps: VecDeque<_> = changes.iter().map(|_| Step::Of(Call::Disk, Outcome::Whole)).collect();
    let plan = Plan::Exact { steps, facts: HOT, content: Arc::clone(&content) };
    let plan = Arc::new(Mutex::new(plan));
    let (host, peer) = (Rc::new(Host::new(EngineChoice::Auto)), Rc::new(Peer::new(Vec::new())));
    let script = Script { host: Rc::clone(&host), peer, plan: Arc::clone(&plan) };
    let file = ScriptedFile::new(Arc::clone(&content), Arc::clone(&plan), false);
    let mut result = None;
    let mut tasks = Tasks::default();
    tasks.spawn(async {
        let mut transfer = Transfer::on(script, TIMEOUT_MS);
        transfer.look(&file, 0, BYTES);
        content.change(Change::Grows(1));
        result = Some(check(&transfer, &file).await);
    });
    for change in changes {
        tasks.poll(0);
        host.events.happen(0);
        change.iter().for_each(|change| content.change(*change));
        host.events.happen(0);
    }
    tasks.poll(0);
    drop(tasks);
    assert_eq!(plan.lock().unwrap().left(), 0);
    result.unwrap()
}

#[test]
fn what_was_written_over_after_the_last_look_is_seen_before_the_last_bytes_go() {
    assert!(matches!(look(&[Some(Change::IsOther), None]), Err(TransferError::SourceChanged)));
}

#[test]
fn what_only_grows_is_looked_at_until_it_holds_still_for_a_look() {
    let grows = Some(Change::Grows(1));
    look(&[None]).unwrap();
    look(&[grows, grows, None]).unwrap();
    assert!(matches!(look(&[grows; 16]), Err(TransferError::SourceChanged)));
}
