//! What goes over the wire of the HTTP API, as types that are written and read: the server answers with
//! them, and clients send and read them, so that a renamed key does not compile on one side alone.
//!
//! Types bear the names that their schemas have in the API's description (`/api/v1/openapi.json`), and the
//! server's tests hold both against each other. Keys stand in the order in which they are written.
//!
//! Answers are read leniently: a key that is not known is passed over, because a newer server may add some.
//! Requests hold numbers and countries as text, since the server reads them by the rules of the environment.
//!
//! The crate is pure: no runtime, socket, file, clock or entropy. Identifiers and the fixed words of the
//! domain (directions, statuses, outcomes, reasons) are those of `ringback-routing`.

mod agent;
mod audit;
mod call;
mod callback;
mod change;
mod cluster;
mod connector;
mod contact_rights;
mod decision;
mod envelope;
mod environment;
mod erasure;
mod number;
mod problem;
mod session;
mod shown_number;
mod status;
mod target_health;

pub use agent::{
    Agent, AgentBrief, AgentName, AgentNew, AgentPatch, Calling, NumberOfAgent, Target, TargetNew,
};
pub use audit::{AuditActor, AuditEntry, AuditObject};
pub use call::{BatchReport, Call, CallNew, Contact, ContactRow, LineError};
pub use callback::{
    AgentStatistics, CallbackAgent, CallbackAgentCount, CallbackAgentPage, CallbackConfig,
    CallbackRole, CallbackRoleReplaced, CallbackRoleSet, CallbackStatistics, ConstraintCheck,
    Period, SourceCount,
};
pub use change::Change;
pub use cluster::{
    Cluster, ClusterHealth, ClusterNode, ClusterRecovery, ClusterStream, Durability, NodeState,
    RecoverCluster, RecoveredNode,
};
pub use connector::{Connector, ConnectorNew, ConnectorPatch, ConnectorRotation, ConnectorShown};
pub use contact_rights::{
    CallingNumber, ContactExport, Erased, OptOut, OptOutNew, OptOutRow, Reassigned, ReassignedNew,
};
pub use decision::{
    AgentOfDecision, Answered, Attempt, Decision, RouteQuestion, Routed, Step, StepAgent, StepCall,
};
pub use envelope::{Done, ErrorDetails, Meta, Page, Problem, Rows, RowsMeta, Success};
pub use environment::{
    Environment, EnvironmentNew, EnvironmentPatch, EnvironmentSettings, Token, TokenNew, TokenShown,
};
pub use erasure::{Erasure, ErasureLine, ErasuresEnd};
pub use number::{AgentOfNumber, PhoneNumber, PhoneNumberNew, PhoneNumberPatch};
pub use problem::{ObjectKind, ProblemCode, ProblemObject, RoutingProblem, Severity};
pub use session::{EnvironmentName, Session, SessionKind, SessionNew, SessionPatch, TokenName};
pub use shown_number::ShownNumber;
pub use status::{
    Alive, CertificateStatus, Counts, Health, IndexHealth, PeerStatus, Rates, Readiness,
    RefusedCall, Reload, ReloadStatus, Reloaded, SipStatus, Status, StorageHealth, StorageStatus,
    StrangerStatus, StrangersStatus,
};
pub use target_health::{TargetHealth, TargetOverride, TargetStateNew};

#[cfg(test)]
mod tests {
    use ringback_routing::{
        AgentStatus, CallStatus, Direction, NumberForm, Outcome, Reason, TargetState,
    };
    use serde::Serialize;

    use crate::{ClusterHealth, Health, IndexHealth, NodeState, StorageHealth};

    /// Fails unless each is written by its name.
    fn named<T: Serialize + Copy>(all: &[T], name: fn(T) -> &'static str) {
        for value in all {
            let written = serde_json::to_string(value).unwrap();
            assert_eq!(written, format!("\"{}\"", name(*value)));
        }
    }

    #[test]
    fn words_of_the_domain_are_written_by_their_names() {
        named(&Direction::ALL, Direction::name);
        named(&AgentStatus::ALL, AgentStatus::name);
        named(&CallStatus::ALL, CallStatus::name);
        named(&NumberForm::ALL, NumberForm::name);
        named(&Outcome::ALL, Outcome::name);
        named(&Reason::ALL, Reason::name);
        named(&TargetState::ALL, TargetState::name);
        let health = [Health::Ready, Health::Degraded, Health::Draining];
        named(&health, Health::name);
        let storage = [StorageHealth::Available, StorageHealth::Unavailable];
        named(&storage, StorageHealth::name);
        let index = [
            IndexHealth::Whole,
            IndexHealth::Loading,
            IndexHealth::Damaged,
        ];
        named(&index, IndexHealth::name);
        let nodes = [NodeState::Current, NodeState::CatchingUp, NodeState::Gone];
        named(&nodes, NodeState::name);
        let cluster = [
            ClusterHealth::Alone,
            ClusterHealth::Current,
            ClusterHealth::CatchingUp,
            ClusterHealth::Unreachable,
            ClusterHealth::Diverged,
            ClusterHealth::Unsafe,
        ];
        named(&cluster, ClusterHealth::name);
    }
}
