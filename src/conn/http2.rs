//! What is known of HTTP/2 exchanges while they last: the tables of their connections, and the fields
//! of their header blocks.

use std::collections::HashMap;

use crate::bpf::abi::ev_head;
use crate::event::{BlockOf, RequestKey};
use crate::proto::http2::{RequestFields, ResponseFields, Table};

/// Blocks that matter for their connection's table alone have this number.
const NOBODY: u32 = u32::MAX;

/// More than the kernel side follows.
const CONNECTIONS_MAX: usize = 20_000;
/// Which of them are forgotten first.
const IDLE_NS: u64 = 60_000_000_000;

/// The fields of a request and of the answer to it, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    pub request: RequestFields,
    pub response: ResponseFields,
    pub unix_path: Box<[u8]>,
    /// Fields of the request went by unseen, its content type perhaps among them.
    hidden: bool,
    /// The answer had trailers.
    trailers: bool,
    /// Another call of the connection was gRPC.
    among_grpc: bool,
    since: u64,
}

impl Exchange {
    /// A call of gRPC. Where the content type is in a table that nobody saw, trailers and the form of the path tell,
    /// or that the connection is known to be for gRPC.
    pub fn is_grpc(&self) -> bool {
        if self.request.content_type.is_some() || !self.hidden {
            return self.request.is_grpc();
        }
        let is_method = self.request.path.as_deref().is_some_and(|path| {
            path.strip_prefix('/').and_then(|path| path.split_once('/')).is_some_and(|(service, method)| {
                !service.is_empty() && !method.is_empty() && !method.contains('/')
            })
        });
        let posted = self.request.method.as_deref().is_none_or(|method| method == "POST");
        is_method && posted && (self.trailers || self.among_grpc)
    }
}

#[derive(Debug, Default)]
struct Connection {
    request: Table,
    response: Table,
    grpc: bool,
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
    pub fn on_block(&mut self, head: &ev_head, of: BlockOf, block: &[u8], path: &[u8], max: usize) -> bool {
        if self.connections.len() >= CONNECTIONS_MAX && !self.connections.contains_key(&head.conn) {
            // The end of many went by unseen: what is forgotten leaves holes, and nothing else.
            let limit = head.hdr.ts.saturating_sub(IDLE_NS);
            self.connections.retain(|_, connection| connection.since > limit);
            if self.connections.len() >= CONNECTIONS_MAX {
                self.connections.clear();
            }
        }
        let connection = self.connections.entry(head.conn).or_default();
        connection.since = head.hdr.ts;
        let table = match of {
            BlockOf::Request => &mut connection.request,
            BlockOf::Response | BlockOf::Trailers => &mut connection.response,
        };
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
        exchange.trailers |= of == BlockOf::Trailers;
        // A block that breaks off, or is wrong, still tells what stands before.
        let _what_is_whole_counts = if of == BlockOf::Request {
            table.decode(head.first, block, |field| {
                exchange.hidden |= field.name.is_none() || field.value.is_none();
                exchange.request.take(field);
            })
        } else {
            table.decode(head.first, block, |field| exchange.response.take(field))
        };
        exchange.among_grpc |= connection.grpc;
        connection.grpc |= exchange.is_grpc();
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
