//! What is known of HTTP/2 exchanges while they last: the tables of their connections, and the fields
//! of their header blocks.

use std::collections::HashMap;

use crate::bpf::abi::ev_head;
use crate::event::RequestKey;
use crate::proto::http2::{RequestFields, ResponseFields, Table};

/// Blocks that matter for their connection's table alone have this number.
const NOBODY: u32 = u32::MAX;

/// The fields of a request and of the answer to it, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    pub request: RequestFields,
    pub response: ResponseFields,
    pub unix_path: Box<[u8]>,
    since: u64,
}

#[derive(Debug, Default)]
struct Connection {
    request: Table,
    response: Table,
    since: u64,
}

/// Connections and exchanges under way.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    connections: HashMap<u64, Connection>,
    open: HashMap<RequestKey, Exchange>,
}

impl Exchanges {
    /// Takes a header block. False: there are more exchanges than are kept.
    pub fn on_block(
        &mut self,
        head: &ev_head,
        response: bool,
        block: &[u8],
        path: &[u8],
        max: usize,
    ) -> bool {
        let connection = self.connections.entry(head.conn).or_default();
        connection.since = head.hdr.ts;
        let table = if response { &mut connection.response } else { &mut connection.request };
        let key = (head.conn, head.stream);
        let known = self.open.contains_key(&key);
        if head.stream == NOBODY || (!known && self.open.len() >= max) {
            let _what_is_whole_counts = table.decode(head.first, block, |_| {});
            return head.stream == NOBODY;
        }
        let exchange = self.open.entry(key).or_default();
        if !known {
            exchange.since = head.hdr.ts;
            exchange.unix_path = path.into();
        }
        // A block that breaks off, or is wrong, still tells what stands before.
        let _what_is_whole_counts = if response {
            table.decode(head.first, block, |field| exchange.response.take(field))
        } else {
            table.decode(head.first, block, |field| exchange.request.take(field))
        };
        true
    }

    /// The connection is over: nothing will refer to its tables.
    pub fn on_end(&mut self, conn: u64) {
        self.connections.remove(&conn);
    }

    /// What is known of a request whose span is due.
    pub fn take(&mut self, key: RequestKey) -> Option<Exchange> {
        if self.open.is_empty() { None } else { self.open.remove(&key) }
    }

    /// Forgets what began, or was heard of last, before. Returns the number of exchanges.
    pub fn forget_before(&mut self, exchanges: u64, connections: u64) -> u64 {
        let had = self.open.len();
        self.open.retain(|_, exchange| exchange.since > exchanges);
        self.connections.retain(|_, connection| connection.since > connections);
        (had - self.open.len()) as u64
    }
}
