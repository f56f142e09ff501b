//! An engine over a journal in memory, and functions to fill it.

use std::collections::BTreeMap;

use ringback_engine::{CreateAgent, CreateEnvironment, CreateNumber, Engine, PublishAgent};
use ringback_routing::{AgentId, AgentStatus, Direction, E164, EnvironmentId, NumberId, Target};
pub(crate) use ringback_testkit::{MemoryJournal, StillClock};

/// Shuts its engine down when a test ends, also by a panic.
pub(crate) struct Running(pub(crate) Engine);

impl std::ops::Deref for Running {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let engine = self.0.clone();
        std::thread::spawn(move || engine.shut_down())
            .join()
            .expect("the engine shuts down");
    }
}

pub(crate) fn open(memory: &MemoryJournal, clock: &StillClock) -> Running {
    Running(Engine::open(memory.clone(), clock.clone()).expect("memory opens"))
}

pub(crate) const NOW: i64 = 1_800_000_000;

pub(crate) fn e164(digits: u64) -> E164 {
    E164::from_digits(digits).expect("the test writes numbers of the right length")
}

pub(crate) async fn environment(engine: &Engine) -> EnvironmentId {
    let command = CreateEnvironment {
        name: "Acme".to_owned(),
        default_country: None,
        number_form: None,
        recency_window_seconds: None,
        target_template: Some("sip:{agent_id}@agents.example.com".to_owned()),
        fallback_targets: Vec::new(),
        is_misread: false,
    };
    engine
        .submit(command)
        .await
        .expect("an environment is made")
        .id
}

pub(crate) async fn number(engine: &Engine, environment: EnvironmentId, digits: u64) -> NumberId {
    let command = CreateNumber {
        environment,
        number: e164(digits),
        country: None,
    };
    let made = engine.submit(command).await.expect("a number is entered");
    made.number.id
}

/// A published agent.
pub(crate) async fn agent(
    engine: &Engine,
    environment: EnvironmentId,
    name: &str,
    direction: Direction,
    numbers: &[NumberId],
) -> AgentId {
    let command = CreateAgent {
        environment,
        name: name.to_owned(),
        label: name.to_owned(),
        description: None,
        direction,
        phone_number_ids: numbers.iter().copied().map(Some).collect(),
        targets: Vec::<Target>::new(),
        external_ids: BTreeMap::new(),
        is_misread: false,
    };
    let made = engine.submit(command).await.expect("an agent is made");
    let id = made.agent.id;
    let publish = PublishAgent {
        environment,
        id,
        status: AgentStatus::Published,
    };
    let published = engine.submit(publish).await.expect("an agent is published");
    published.agent.id
}
