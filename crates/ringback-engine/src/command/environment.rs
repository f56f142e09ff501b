//! Environments and their settings.

use ringback_routing::{Country, Environment, EnvironmentId, HeldTarget, NumberForm, Target};

use super::{Command, Override};
use crate::error::check_fields;
use crate::{Change, CommandError, Draft};

/// Creates an environment.
#[derive(Clone, Debug)]
pub struct CreateEnvironment {
    /// Its name.
    pub name: String,
    /// The country in which its numbers without plus are read.
    pub default_country: Option<Country>,
    /// How its numbers without plus are read; `None`: nationally.
    pub number_form: Option<NumberForm>,
    /// Its recency window, in seconds; `None`: 30 days.
    pub recency_window_seconds: Option<u64>,
    /// Its target template.
    pub target_template: Option<String>,
    /// Its fallback targets.
    pub fallback_targets: Vec<Target>,
    /// Whether fields could not be read: then nothing is changed.
    pub is_misread: bool,
}

impl Command for CreateEnvironment {
    type Output = Environment;

    fn run(&self, draft: &mut Draft<'_>) -> Result<Environment, CommandError> {
        check_fields(Vec::new(), self.is_misread)?;
        if !draft.directory().has_room_for_environment() {
            return Err(CommandError::TooManyEnvironments);
        }
        let environment = Environment {
            id: EnvironmentId(draft.new_id(0)),
            name: self.name.clone(),
            default_country: self.default_country,
            number_form: self.number_form.unwrap_or_default(),
            recency_window_seconds: self
                .recency_window_seconds
                .unwrap_or(Environment::DEFAULT_RECENCY_WINDOW_SECONDS),
            target_template: self.target_template.clone(),
            fallback_targets: self.fallback_targets.clone(),
            held_targets: Vec::new(),
            created_at: draft.now(),
        };
        draft.change(Change::EnvironmentPut(environment.clone()));
        Ok(environment)
    }
}

/// Changes an environment's settings.
#[derive(Clone, Debug)]
pub struct UpdateEnvironment {
    /// The environment to change.
    pub id: EnvironmentId,
    /// The new name.
    pub name: Option<String>,
    /// The new country.
    pub default_country: Override<Country>,
    /// How its numbers without plus are read; cleared: nationally.
    pub number_form: Override<NumberForm>,
    /// The new recency window, in seconds; cleared: 30 days.
    pub recency_window_seconds: Override<u64>,
    /// The new target template.
    pub target_template: Override<String>,
    /// The new fallback targets.
    pub fallback_targets: Option<Vec<Target>>,
    /// What an operator has said of targets; `None`: it stays.
    pub held_targets: Option<Vec<HeldTarget>>,
    /// Whether fields could not be read: then nothing is changed.
    pub is_misread: bool,
}

impl Command for UpdateEnvironment {
    type Output = Environment;

    fn run(&self, draft: &mut Draft<'_>) -> Result<Environment, CommandError> {
        let mut environment = draft
            .directory()
            .environment_by_id(self.id)
            .ok_or(CommandError::EnvironmentNotFound)?
            .record
            .clone();
        check_fields(Vec::new(), self.is_misread)?;
        environment.name = self.name.clone().unwrap_or(environment.name);
        environment.default_country = self.default_country.apply(environment.default_country);
        environment.number_form = self
            .number_form
            .apply(Some(environment.number_form))
            .unwrap_or_default();
        environment.recency_window_seconds = self
            .recency_window_seconds
            .apply(Some(environment.recency_window_seconds))
            .unwrap_or(Environment::DEFAULT_RECENCY_WINDOW_SECONDS);
        environment.target_template = self.target_template.apply(environment.target_template);
        environment.fallback_targets = self
            .fallback_targets
            .clone()
            .unwrap_or(environment.fallback_targets);
        environment.held_targets = self
            .held_targets
            .clone()
            .unwrap_or(environment.held_targets);
        draft.change(Change::EnvironmentPut(environment.clone()));
        Ok(environment)
    }
}

/// Says how a target is, whatever else is known of it, or takes that back.
#[derive(Clone, Debug)]
pub struct HoldTarget {
    /// The environment for which it is so.
    pub environment: EnvironmentId,
    /// Scheme, host, port and transport of the target, as a URI.
    pub destination: String,
    /// Whether it is up; `None`: nothing is said of it any more.
    pub is_up: Option<bool>,
}

impl Command for HoldTarget {
    type Output = Option<HeldTarget>;

    fn run(&self, draft: &mut Draft<'_>) -> Result<Self::Output, CommandError> {
        let environment = draft.directory().environment_by_id(self.environment);
        let environment = environment.ok_or(CommandError::EnvironmentNotFound)?;
        let mut record = environment.record.clone();
        let is_it = |held: &HeldTarget| held.destination == self.destination;
        let before = record.held_targets.iter().find(|held| is_it(held));
        if before.map(|held| held.is_up) == self.is_up {
            return Ok(before.cloned());
        }
        let held = self.is_up.map(|is_up| HeldTarget {
            destination: self.destination.clone(),
            is_up,
            since: draft.now(),
        });
        record.held_targets.retain(|held| !is_it(held));
        record.held_targets.extend(held.clone());
        draft.change(Change::EnvironmentPut(record));
        Ok(held)
    }
}

/// Deletes an environment that has neither agents nor numbers, with its tokens.
#[derive(Clone, Copy, Debug)]
pub struct DeleteEnvironment {
    /// The environment to delete.
    pub id: EnvironmentId,
}

impl Command for DeleteEnvironment {
    type Output = ();

    fn run(&self, draft: &mut Draft<'_>) -> Result<(), CommandError> {
        let environment = draft
            .directory()
            .environment_by_id(self.id)
            .ok_or(CommandError::EnvironmentNotFound)?;
        if environment.agent_count() + environment.number_count() > 0 {
            return Err(CommandError::EnvironmentNotEmpty);
        }
        draft.change(Change::EnvironmentRemoved(self.id));
        Ok(())
    }
}
