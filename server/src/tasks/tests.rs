use std::future::pending;

use super::*;
use crate::limits::Budgets;
use crate::mcp::tools::CallToolResult;
use crate::session::{Sessions, generated_ring, random};

/// The memory a shard may take here.
const LIMIT: u64 = 64 << 20;

fn tasks() -> Arc<Tasks> {
    let incarnation = random();
    let sessions = Sessions::new(incarnation, generated_ring()).unwrap();
    Arc::new(Tasks::new(incarnation, sessions.tagger(), Arc::new(Load::within(LIMIT))))
}

fn nobody() -> Principal {
    Principal::anonymous()
}

fn said(bytes: usize) -> CallToolResult {
    CallToolResult { content: vec![crate::mcp::content::ContentBlock::text("x".repeat(bytes))], ..CallToolResult::default() }
}

async fn status(tasks: &Tasks, handle: &Handle) -> Value {
    tasks.get(&nobody(), &handle.sealed).await.unwrap()["status"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_shard_keeps_so_many_tasks_and_takes_the_next_when_one_is_forgotten() {
    let tasks = tasks();
    let first = tasks.create(&nobody(), TTL, None).await.unwrap();
    for _ in 1..MAX_TASKS {
        tasks.create(&nobody(), TTL, None).await.unwrap();
    }
    assert_eq!(tasks.create(&nobody(), TTL, None).await.err(), Some(Fault::OverCapacity(Refused::Tasks)));
    assert_eq!((tasks.load.tasks(), tasks.counts().kept), (MAX_TASKS as u64, MAX_TASKS));
    first.forget();
    assert!(tasks.create(&nobody(), TTL, None).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn results_share_a_budget_and_return_it_whole() {
    let tasks = tasks();
    let budget = usize::try_from(Budgets::of(LIMIT).tasks).unwrap();
    let fitting = budget / MAX_TASK_RESULT;
    let mut handles = Vec::new();
    for _ in 0..=fitting {
        let handle = tasks.create(&nobody(), TTL, None).await.unwrap();
        handle.clone().run(async { Ok(said(MAX_TASK_RESULT - 128)) });
        handles.push(handle);
        tokio::task::yield_now().await;
    }
    let mut over = 0;
    for handle in &handles {
        while status(&tasks, handle).await == "working" {
            tokio::task::yield_now().await;
        }
        over += usize::from(status(&tasks, handle).await == "failed");
    }
    assert_eq!(over, 1, "the one that does not fit says so");
    assert!(tasks.counts().bytes <= budget);
    for handle in handles {
        handle.forget();
    }
    assert_eq!((tasks.counts().kept, tasks.counts().bytes), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn no_ttl_is_longer_than_a_day() {
    let tasks = tasks();
    let handle = tasks.create(&nobody(), Duration::from_hours(1000), None).await.unwrap();
    assert_eq!(handle.seed()["ttlMs"], 86_400_000);
    handle.clone().run(pending());
    tokio::time::sleep(Duration::from_hours(25)).await;
    assert_eq!((tasks.counts().kept, tasks.counts().bytes), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_question_that_nobody_waits_for_is_withdrawn() {
    let tasks = tasks();
    let handle = tasks.create(&nobody(), TTL, None).await.unwrap();
    let client = handle.asker();
    let asks = [("a".to_owned(), Ask::ListRoots)];
    {
        let mut asked = client.ask(&asks);
        assert!(futures::poll!(asked.as_mut()).is_pending());
        assert_eq!(status(&tasks, &handle).await, "input_required");
    }
    assert_eq!(status(&tasks, &handle).await, "working");
}
