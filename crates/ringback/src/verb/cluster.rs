//! `ringback cluster`: the nodes that share a log.

use clap::{Args, Subcommand};
use ringback_api::{
    Cluster, ClusterNode, ClusterRecovery, ClusterStream, RecoverCluster, RecoveredNode,
};

use super::value::said;
use crate::client::ApiPath;
use crate::exit::Failure;
use crate::output::{Column, SessionArgs, record, table};
use crate::show::{Show, Shown};

/// `ringback cluster`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ClusterArgs {
    /// Server, token, output.
    #[command(flatten)]
    session: SessionArgs,
    /// What to do.
    #[command(subcommand)]
    verb: Verb,
}

/// What can be done.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the nodes, the stream, and whether the servers keep what they acknowledge
    Status,
    /// Make a log that went back anew from what a node has; without --yes show what would happen
    Recover {
        /// The node whose state counts [default: the one that has read most]
        #[arg(long, value_name = "NODE")]
        from: Option<String>,
        /// Begin
        #[arg(long)]
        yes: bool,
    },
    /// Forget a node that will not return
    Forget {
        /// Its name
        node: String,
    },
}

/// Runs `ringback cluster`.
pub(crate) fn run(args: &ClusterArgs) -> Result<(), Failure> {
    let session = args.session.open()?;
    match &args.verb {
        Verb::Status => {
            let answer = session.client.get(&ApiPath::new(["cluster"]))?;
            session.print(&answer, readable)?;
        }
        Verb::Recover { from, yes } => {
            let body = RecoverCluster {
                from: from.clone(),
                confirm: *yes,
            };
            let path = ApiPath::new(["cluster", "recover"]);
            let answer = session.client.post(&path, &body)?;
            session.print(&answer, recovery)?;
        }
        Verb::Forget { node } => {
            let path = ApiPath::new(["cluster", "nodes"]).join(node);
            let answer = session.client.delete(&path)?;
            session.print(&answer, said)?;
        }
    }
    Ok(())
}

/// A recovery, for people.
fn recovery(recovery: &ClusterRecovery) -> String {
    let nodes = table(&recovery.nodes, RECOVERED);
    let (base, first) = (&recovery.base, recovery.first_sequence);
    if recovery.begun {
        format!(
            "{nodes}\nThe log is made anew from what node {base} has, and begins at {first}; see `ringback cluster status`.\n"
        )
    } else {
        format!(
            "{nodes}\nNode {base} would be the base of a new log that begins at {first}. Nothing was changed: say --yes.\n"
        )
    }
}

/// A cluster, for people.
fn readable(cluster: &Cluster) -> String {
    let mut text = record(cluster, FIELDS);
    for problem in &cluster.durability.problems {
        text.push_str(&format!("\nnot durable: {problem}"));
    }
    if !cluster.durability.ok {
        text.push('\n');
    }
    text.push_str(&format!("\n{}", table(&cluster.nodes, NODES)));
    text
}

/// Reads something of the stream off a cluster.
fn of_stream<T: Show>(cluster: &Cluster, read: fn(&ClusterStream) -> T) -> Shown {
    cluster.stream.as_ref().map(read).show()
}

/// The lines of a cluster.
const FIELDS: &[Column<Cluster>] = &[
    ("cluster", |cluster| cluster.name.show()),
    ("asked node", |cluster| cluster.node.show()),
    ("connected", |cluster| cluster.connected.show()),
    ("durable", |cluster| cluster.durability.ok.show()),
    ("nodes agree", |cluster| cluster.agree.show()),
    ("stream", |cluster| {
        of_stream(cluster, |stream| stream.name.clone())
    }),
    ("stream made", |cluster| {
        of_stream(cluster, |stream| stream.created_at)
    }),
    ("leader", |cluster| {
        of_stream(cluster, |stream| stream.leader.clone())
    }),
    ("replicas", |cluster| {
        of_stream(cluster, |stream| stream.replicas as u64)
    }),
    ("first message", |cluster| {
        of_stream(cluster, |stream| stream.first_sequence)
    }),
    ("last message", |cluster| {
        of_stream(cluster, |stream| stream.last_sequence)
    }),
    ("bytes", |cluster| of_stream(cluster, |stream| stream.bytes)),
];

/// The columns of nodes that a recovery finds.
const RECOVERED: &[Column<RecoveredNode>] = &[
    ("NODE", |node| node.node.show()),
    ("HEARD", |node| node.heard.show()),
    ("APPLIED", |node| node.applied_sequence.show()),
    ("BEHIND", |node| node.behind.show()),
    ("LOST", |node| node.lost.show()),
];

/// The columns of nodes.
const NODES: &[Column<ClusterNode>] = &[
    ("NODE", |node| node.node.show()),
    ("STATE", |node| node.state.show()),
    ("APPLIED", |node| node.applied_sequence.show()),
    ("LAG", |node| node.lag.show()),
    ("SEEN", |node| node.seen_at.show()),
    ("VERSION", |node| node.version.show()),
    ("URL", |node| node.url.show()),
];

/// What follows the options in the long help.
const EXAMPLES: &str = "\
Needs the administrator token. Any node may be asked; it tells what it knows.

Examples:
  ringback cluster status
  ringback cluster status --json | jq '.data.nodes[] | {node, lag}'
  ringback cluster recover                 # after `the log went back`: what would happen
  ringback cluster recover --from a --yes
  ringback cluster forget c";
