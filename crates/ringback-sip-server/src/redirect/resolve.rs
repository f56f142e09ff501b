//! Finds the dialed number's entry, and reads the caller by its environment's rules.

use ringback_routing::Directory;

use crate::identity;
use crate::redirect::Call;

/// Resolves the numbers of INVITEs that were read together: all dialed numbers first, so that the reads from
/// memory overlap.
pub(crate) fn resolve<'r>(calls: &mut [Call<'_, 'r>], directory: &'r Directory) {
    for call in &mut *calls {
        call.number = call.dialed.and_then(|dialed| directory.dialed(dialed));
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
    }
}
