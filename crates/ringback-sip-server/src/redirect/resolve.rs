//! Finds the dialed number's entry, and reads the caller by its environment's rules.

use ringback_routing::Contacts;

use crate::identity;
use crate::redirect::{Call, Snapshot};

/// Resolves the numbers of INVITEs that were read together: all dialed numbers first, so that their entries arrive
/// from memory together.
pub(crate) fn resolve<'r, C: Contacts>(calls: &mut [Call<'_, 'r>], snapshot: Snapshot<'r, C>) {
    let directory = snapshot.directory;
    for call in &mut *calls {
        call.number = call.dialed.and_then(|dialed| directory.dialed(dialed));
        if let Some(number) = &call.number {
            number.prefetch();
        }
    }
    for call in calls {
        let peer = call.source.peer;
        if call.number.is_none() && call.dialed.is_some() {
            let ours = identity::further_dialed(&call.invite, peer, directory);
            if let Some((dialed, number)) = ours {
                (call.dialed, call.number) = (Some(dialed), Some(number));
            }
        }
        let environment = call.number.map(|number| &number.environment.record);
        call.caller = identity::caller(call.invite.message(), peer, environment);
        if let (Some(number), Some(contact)) = (call.number, call.caller.number()) {
            let environment = number.number.environment;
            snapshot.contacts.prefetch(environment, contact);
            number.prefetch_owners();
        }
    }
}
