//! How targets are: what the program tells of each, beside what stands in the directory.

use std::collections::BTreeMap;

use ringback_api::TargetHealth;
use ringback_routing::{
    Direction, Directory, DirectoryAgent, DirectoryEnvironment, EnvironmentId, HeldTarget,
    TargetState,
};
use ringback_sip_proto::destination;

use crate::wire;

/// The part of the program that sends calls to targets.
pub trait TargetSource: Send + Sync + 'static {
    /// Adds what was found out of a target: its state, and how the calls of an environment went there. `uri` and
    /// `agents` stand there already.
    fn write_health(&self, environment: EnvironmentId, health: &mut TargetHealth);
}

/// The targets of an environment, by destination, as the directory has them: with their agents, and with the state that
/// an operator has given them.
pub(crate) fn targets(
    directory: &Directory,
    home: &DirectoryEnvironment,
    source: Option<&dyn TargetSource>,
) -> BTreeMap<String, TargetHealth> {
    let mut found = BTreeMap::new();
    let agents = directory.agents_of(home.record.id);
    for agent in agents.filter(|agent| agent.record.direction == Direction::Inbound) {
        for target in directory.targets(agent) {
            add(&mut found, destination(&target.uri), Some(agent));
        }
    }
    for target in &home.record.fallback_targets {
        add(&mut found, destination(&target.uri), None);
    }
    for held in &home.record.held_targets {
        add(&mut found, Some(held.destination.clone()), None);
    }
    for health in found.values_mut() {
        let mut held = home.record.held_targets.iter();
        let held = held.find(|held| held.destination == health.uri);
        tell(source, home.record.id, health, held);
    }
    found
}

/// Says how a target is: as an operator has said, or else as it was found out.
pub(crate) fn tell(
    source: Option<&dyn TargetSource>,
    environment: EnvironmentId,
    health: &mut TargetHealth,
    held: Option<&HeldTarget>,
) {
    health.state = TargetState::Unknown;
    health.since = None;
    if let Some(source) = source {
        source.write_health(environment, health);
    }
    if let Some(held) = held {
        health.state = wire::held_state(held);
        health.since = Some(held.since);
    }
}

/// Adds a target, and an agent whose calls go there.
fn add(
    found: &mut BTreeMap<String, TargetHealth>,
    uri: Option<String>,
    agent: Option<&DirectoryAgent>,
) {
    let Some(uri) = uri else { return };
    let health = found.entry(uri).or_insert_with_key(|uri| TargetHealth {
        uri: uri.clone(),
        agents: Vec::new(),
        state: TargetState::Unknown,
        since: None,
        rtt_ms: None,
        last_status: None,
        calls: 0,
        failures: 0,
    });
    let known = health.agents.last().map(|last| last.id);
    health.agents.extend(
        agent
            .filter(|agent| known != Some(agent.record.id))
            .map(wire::agent_name),
    );
}
