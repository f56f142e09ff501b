//! A log that went back, made anew from what a node has; and nodes that will not return.
//!
//! The new stream begins above every sequence that any node has read, so that no node takes it for the old one, and its
//! metadata say from which place it was made. Who is exactly there goes on behind it; every other node finds that it
//! lacks what came before, and takes a snapshot.

use std::time::{Duration, Instant};

use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, Info};
use async_nats::jetstream::{Context, ErrorCode};

use super::driver::Ask;
use super::{ClusterHandle, ClusterStatus, Condition, RECOVERED, created_at};
use crate::replica::Fault;
use crate::{Chain, Place};

/// What a recovery would do, or has begun to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The node whose state counts from then on.
    pub base: String,
    /// Where the new log begins.
    pub first: u64,
    /// When the stream was made that is replaced, in milliseconds since 1970; none if there is none.
    pub replaces: Option<i64>,
}

/// What a stream was made anew from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MadeAnew {
    /// Where the base was in the log before.
    pub(super) from: Place,
    /// The first sequence of the stream.
    pub(super) first: u64,
}

impl MadeAnew {
    /// What a stream says of itself; none if it was not made anew.
    pub(super) fn read(info: &Info) -> Option<Self> {
        Self::parse(info.config.metadata.get(RECOVERED)?)
    }

    /// Where whoever was at the place of the base is in the new log.
    pub(super) fn place(&self) -> Place {
        Place {
            sequence: self.first - 1,
            chain: self.from.chain.then(&self.first.to_le_bytes()),
        }
    }

    /// The text that [`Self::parse`] reads.
    fn write(&self) -> String {
        let Place { sequence, chain } = self.from;
        format!("{} {sequence} {chain}", self.first)
    }

    /// Reads it.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let first = words.next()?.parse().ok().filter(|first| *first > 0)?;
        let sequence = words.next()?.parse().ok()?;
        let chain = Chain::read(words.next()?)?;
        Some(Self {
            from: Place { sequence, chain },
            first,
        })
    }
}

/// Why there is no recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The log has what the nodes have read.
    #[error("the log has all that the nodes have read")]
    NotNeeded,
    /// The stream is that of another cluster.
    #[error("the stream is that of another cluster: nothing may replace it")]
    Foreign,
    /// The node that was named is not heard.
    #[error("this node is not heard")]
    NoSuchNode,
    /// There is no connection to the servers.
    #[error("the servers cannot be reached")]
    Unreachable,
}

/// Why a node is not forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForgetError {
    /// No node of this name was heard.
    #[error("no node of this name was heard")]
    NoSuchNode,
    /// It is heard now.
    #[error("the node is heard: stop it first")]
    Current,
}

impl ClusterHandle {
    /// What a recovery would do: from the node that has read most, or from this one.
    ///
    /// # Errors
    /// See [`RecoveryError`].
    pub fn plan_recovery(&self, from: Option<&str>) -> Result<Recovery, RecoveryError> {
        plan(&self.status(), from)
    }

    /// Has the log made anew from what a node has. All nodes start again.
    ///
    /// # Errors
    /// See [`RecoveryError`].
    pub fn recover(&self, from: Option<&str>) -> Result<Recovery, RecoveryError> {
        let recovery = self.plan_recovery(from)?;
        if !self.status().is_connected {
            return Err(RecoveryError::Unreachable);
        }
        let sent = self.asks.send(Ask::Recover(recovery.clone()));
        sent.map_err(|_ended| RecoveryError::Unreachable)?;
        Ok(recovery)
    }

    /// Has all nodes forget one that will not return.
    ///
    /// # Errors
    /// See [`ForgetError`].
    pub fn forget(&self, node: &str) -> Result<(), ForgetError> {
        let status = self.status();
        let mut nodes = status.nodes.iter();
        let found = nodes.find(|found| found.node == node);
        if found.ok_or(ForgetError::NoSuchNode)?.is_current.is_some() {
            return Err(ForgetError::Current);
        }
        let _ended = self.asks.send(Ask::Forget(node.to_owned()));
        Ok(())
    }
}

/// What a recovery would do.
fn plan(status: &ClusterStatus, from: Option<&str>) -> Result<Recovery, RecoveryError> {
    let highest = status.nodes.iter().map(|node| node.applied_sequence).max();
    let last = status.stream.as_ref().map(|stream| stream.last_sequence);
    let highest = highest.max(last).unwrap_or(0);
    let mut streams = status.stream.iter();
    if streams.any(|stream| stream.is_foreign) {
        return Err(RecoveryError::Foreign);
    }
    let mut nodes = status.nodes.iter();
    let is_needed = match status.condition {
        Condition::Diverged(Fault::WentBack { .. } | Fault::Rewritten(_) | Fault::Missing(_)) => {
            true
        }
        // It may have been made anew before, by a node that is gone with what it had.
        Condition::Diverged(_) => nodes.all(|node| node.is_current != Some(true)),
        _ => false,
    };
    if !is_needed {
        return Err(RecoveryError::NotNeeded);
    }
    let mut heard = status.nodes.iter().filter(|node| node.is_current.is_some());
    let base = match from {
        Some(from) => heard.find(|node| node.node == from),
        None => heard.max_by_key(|node| node.applied_sequence),
    };
    let base = base.ok_or(RecoveryError::NoSuchNode)?;
    Ok(Recovery {
        base: base.node.clone(),
        // One sequence stands for all that the base has; nobody has read it.
        first: highest + 2,
        replaces: status.stream.as_ref().map(|stream| stream.created_at),
    })
}

/// Makes the stream anew from what a node has that is at this place. Of two that do it at once one loses.
pub(super) async fn make_anew(
    context: &Context,
    mut config: Config,
    recovery: &Recovery,
    from: Place,
) -> Result<Info, String> {
    let found = match context.get_stream(&config.name).await {
        Ok(stream) => Some(created_at(stream.cached_info())),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error)
                if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                None
            }
            _ => return Err(error.to_string()),
        },
    };
    if found != recovery.replaces {
        return Err("the stream is another one than was seen: look again".to_owned());
    }
    if found.is_some() {
        let deleted = context.delete_stream(&config.name).await;
        deleted.map_err(|error| error.to_string())?;
    }
    let first = recovery.first;
    config.first_sequence = Some(first);
    let anew = MadeAnew { from, first };
    config.metadata.insert(RECOVERED.to_owned(), anew.write());
    let begun = Instant::now();
    loop {
        match context.create_stream(config.clone()).await {
            Ok(stream) => return Ok(stream.cached_info().clone()),
            Err(error) => {
                let is_lost = matches!(error.kind(), CreateStreamErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::STREAM_NAME_EXIST);
                if is_lost || begun.elapsed() > MAKE_WAIT {
                    return Err(error.to_string());
                }
            }
        }
        tokio::time::sleep(MAKE_AGAIN).await;
    }
}

/// How long it is tried to make the stream.
const MAKE_WAIT: Duration = Duration::from_secs(20);

/// How often it is tried.
const MAKE_AGAIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_a_stream_was_made_from_is_read_as_it_was_written() {
        let anew = MadeAnew {
            from: Place {
                sequence: 5,
                chain: Chain::start(Uuid::nil()),
            },
            first: 9,
        };
        assert_eq!(MadeAnew::parse(&anew.write()), Some(anew));
        assert_eq!(anew.place().sequence, 8);
        assert_ne!(anew.place().chain, anew.from.chain);
        for text in ["", "8", "0 5 00", "9 5 zz"] {
            assert_eq!(MadeAnew::parse(text), None, "{text}");
        }
    }
}
