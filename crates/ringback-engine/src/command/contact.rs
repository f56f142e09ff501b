//! What contacts ask for: to be forgotten, not to be called, or that calls to an earlier holder of their number do not
//! count.

use std::sync::Arc;

use ringback_routing::{ContactHash, Directory, E164, EnvironmentId, OptOut, Timestamp};

use super::Command;
use crate::error::check_fields;
use crate::{Change, CommandError, Draft, Fault, Field, FieldProblem, Tombstone};

/// Forgets a contact: every call to it. A hash is left, by which a later restore of an older backup forgets it again.
#[derive(Clone, Copy, Debug)]
pub struct ForgetContact {
    /// The environment of the contact.
    pub environment: EnvironmentId,
    /// The contact to forget, in either spelling of its number.
    pub contact: E164,
    /// Whether it is noted, too, that the contact does not want to be called. An opt-out that holds stays as it is.
    pub opt_out: bool,
}

impl Command for ForgetContact {
    /// When it was forgotten.
    type Output = Timestamp;

    fn run(&self, draft: &mut Draft<'_>) -> Result<Timestamp, CommandError> {
        let secret = draft.erasure_secret()?;
        draft.change(Change::ContactForgotten(self.environment, self.contact));
        draft.change(Change::Erased(Tombstone {
            hash: secret.hash(self.environment, self.contact),
            at: draft.now(),
        }));
        if self.opt_out {
            let contact = hash(draft, self.environment, self.contact)?;
            if opt_out_of(draft, &contact).is_none() {
                let opt_out = OptOut {
                    reason: None,
                    until: None,
                    created_at: draft.now(),
                };
                draft.change(Change::OptedOut(self.environment, contact, opt_out));
            }
        }
        Ok(draft.now())
    }
}

/// Notes that contacts do not want to be called, each separately: a refused one does not affect the others. What was
/// noted of a contact before is replaced.
#[derive(Clone, Debug)]
pub struct OptOutContacts {
    /// The environment of the contacts.
    pub environment: EnvironmentId,
    /// The contacts.
    pub contacts: Vec<NewOptOut>,
}

/// One contact that does not want to be called.
#[derive(Clone, Debug)]
pub struct NewOptOut {
    /// The contact, in either spelling of its number.
    pub contact: E164,
    /// Why.
    pub reason: Option<Arc<str>>,
    /// Until when; `None`: for good.
    pub until: Option<Timestamp>,
}

impl Command for OptOutContacts {
    type Output = Vec<Result<OptOut, CommandError>>;

    fn run(&self, draft: &mut Draft<'_>) -> Result<Self::Output, CommandError> {
        let mut results = Vec::with_capacity(self.contacts.len());
        for new in &self.contacts {
            results.push(opt_out(draft, self.environment, new));
        }
        Ok(results)
    }
}

/// Notes that a contact does not want to be called; see [`OptOutContacts`].
#[derive(Clone, Debug)]
pub struct OptOutContact {
    /// The environment of the contact.
    pub environment: EnvironmentId,
    /// The contact.
    pub new: NewOptOut,
    /// Fields of the request could not be read: change nothing, but check the others.
    pub is_misread: bool,
}

impl Command for OptOutContact {
    type Output = OptOut;

    fn run(&self, draft: &mut Draft<'_>) -> Result<OptOut, CommandError> {
        if self.is_misread {
            check_until(draft, &self.new, true)?;
        }
        opt_out(draft, self.environment, &self.new)
    }
}

/// Notes that a contact may be called again; one that has never asked for anything else, too.
#[derive(Clone, Copy, Debug)]
pub struct EndOptOut {
    /// The environment of the contact.
    pub environment: EnvironmentId,
    /// The contact, in either spelling of its number.
    pub contact: E164,
}

impl Command for EndOptOut {
    type Output = ();

    fn run(&self, draft: &mut Draft<'_>) -> Result<(), CommandError> {
        let contact = hash(draft, self.environment, self.contact)?;
        if stored_opt_out(draft, &contact).is_some() {
            draft.change(Change::OptOutEnded(self.environment, contact));
        }
        Ok(())
    }
}

/// Notes that numbers were given to somebody else, each separately: a refused one does not affect the others.
#[derive(Clone, Debug)]
pub struct ReassignContacts {
    /// The environment of the contacts.
    pub environment: EnvironmentId,
    /// The numbers.
    pub contacts: Vec<Reassignment>,
}

/// A number that was given to somebody else.
#[derive(Clone, Copy, Debug)]
pub struct Reassignment {
    /// The number, in either spelling.
    pub contact: E164,
    /// The beginning of the day: calls from before it do not count.
    pub before: Timestamp,
}

impl Command for ReassignContacts {
    /// The instant that holds for each: of two days the later one.
    type Output = Vec<Result<Timestamp, CommandError>>;

    fn run(&self, draft: &mut Draft<'_>) -> Result<Self::Output, CommandError> {
        let mut results = Vec::with_capacity(self.contacts.len());
        for new in &self.contacts {
            results.push(reassign(draft, self.environment, new));
        }
        Ok(results)
    }
}

/// Notes that a number was given to somebody else; see [`ReassignContacts`].
#[derive(Clone, Copy, Debug)]
pub struct ReassignContact {
    /// The environment of the contact.
    pub environment: EnvironmentId,
    /// The number.
    pub new: Reassignment,
}

impl Command for ReassignContact {
    /// The instant that holds: of two days the later one.
    type Output = Timestamp;

    fn run(&self, draft: &mut Draft<'_>) -> Result<Timestamp, CommandError> {
        reassign(draft, self.environment, &self.new)
    }
}

/// Whether a contact does not want to be called at this instant.
pub(crate) fn is_opted_out(
    directory: &Directory,
    environment: EnvironmentId,
    contact: E164,
    now: Timestamp,
) -> bool {
    let rights = directory.contact_rights(environment, contact);
    rights.is_some_and(|rights| rights.opt_out_at(now).is_some())
}

/// Notes one contact that does not want to be called.
fn opt_out(
    draft: &mut Draft<'_>,
    environment: EnvironmentId,
    new: &NewOptOut,
) -> Result<OptOut, CommandError> {
    check_until(draft, new, false)?;
    let contact = hash(draft, environment, new.contact)?;
    let known = opt_out_of(draft, &contact);
    let opt_out = OptOut {
        reason: new.reason.clone(),
        until: new.until,
        created_at: known
            .as_ref()
            .map_or_else(|| draft.now(), |known| known.created_at),
    };
    if known.as_ref() != Some(&opt_out) {
        draft.change(Change::OptedOut(environment, contact, opt_out.clone()));
    }
    Ok(opt_out)
}

/// Refuses an end that has passed.
fn check_until(draft: &Draft<'_>, new: &NewOptOut, is_misread: bool) -> Result<(), CommandError> {
    let is_over = new.until.is_some_and(|until| until <= draft.now());
    let problems = is_over.then_some(FieldProblem {
        field: Field::Until,
        fault: Fault::NotAhead,
    });
    check_fields(problems.into_iter().collect(), is_misread)
}

/// Notes one number that was given to somebody else; returns the instant that holds for it.
fn reassign(
    draft: &mut Draft<'_>,
    environment: EnvironmentId,
    new: &Reassignment,
) -> Result<Timestamp, CommandError> {
    // The day after tomorrow, UTC, is the first that is too late.
    if i64::from(new.before.day()) > i64::from(draft.now().day()) + 1 {
        return Err(CommandError::Invalid(vec![FieldProblem {
            field: Field::Before,
            fault: Fault::AfterTomorrow,
        }]));
    }
    let contact = hash(draft, environment, new.contact)?;
    let rights = draft.directory().rights_by_hash(&contact);
    let known = rights.and_then(|rights| rights.counts_from);
    match known {
        Some(known) if known >= new.before => Ok(known),
        _ => {
            draft.change(Change::Reassigned(environment, contact, new.before));
            Ok(new.before)
        }
    }
}

/// The hash of a contact, with the secret that the first command makes which needs it.
fn hash(
    draft: &mut Draft<'_>,
    environment: EnvironmentId,
    contact: E164,
) -> Result<ContactHash, CommandError> {
    let key = match draft.directory().contact_key() {
        Some(key) => key,
        None => draft.erasure_secret()?.contact_key(),
    };
    Ok(key.hash(environment, contact))
}

/// The opt-out of a contact, if it holds.
fn opt_out_of(draft: &Draft<'_>, contact: &ContactHash) -> Option<OptOut> {
    stored_opt_out(draft, contact).filter(|opt_out| opt_out.holds(draft.now()))
}

/// The opt-out of a contact, which may be over.
fn stored_opt_out(draft: &Draft<'_>, contact: &ContactHash) -> Option<OptOut> {
    draft.directory().rights_by_hash(contact)?.opt_out.clone()
}
