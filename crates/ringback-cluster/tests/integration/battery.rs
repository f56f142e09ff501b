//! The battery that every journal passes, on a real server.

use ringback_testkit::battery::Rig;
use ringback_testkit::{NatsServers, journal_battery};

use crate::support::{Node, NodeJournal};

/// A node alone on a server of its own.
struct Alone {
    /// The node.
    node: Node,
    /// The server.
    _server: NatsServers,
}

impl Alone {
    /// A node on a new stream.
    fn new() -> Self {
        let server = NatsServers::start(1);
        Self {
            node: Node::new(&server, "a", 1),
            _server: server,
        }
    }
}

impl Rig for Alone {
    type Journal = NodeJournal;

    fn open(&mut self) -> NodeJournal {
        self.node.start()
    }

    fn crash(&mut self, journal: NodeJournal) {
        self.node.crash(journal);
    }
}

journal_battery!(Alone::new());
