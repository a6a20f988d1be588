//! SIP as data and rules: reading and writing messages, transactions, dialogs, digest, next hops.
//!
//! In: octets, addresses and times handed in by a caller. Out: typed values, octets to send and
//! deadlines. It opens no socket, reads no clock, draws no randomness and knows nobody's call.

pub mod aor;
pub mod dialog;
pub mod digest;
pub mod error;
pub mod framing;
pub mod header;
pub mod headers;
pub mod lane;
pub mod locate;
pub mod message;
pub mod method;
pub mod params;
mod reader;
pub mod request;
mod respond;
mod scan;
pub mod start;
pub mod status;
pub mod transaction;
pub mod transport;
pub mod uri;
pub mod via;
pub mod writer;

pub use aor::Aor;
pub use error::{HeaderError, ReadError, SyntaxError};
pub use framing::{Frame, FrameError, Framer};
pub use header::HeaderName;
pub use headers::{CSeq, Contact, Contacts, NameAddr};
pub use lane::{LaneKey, lane_key};
pub use locate::{Hop, next_hop};
pub use message::{Message, Which};
pub use method::{MethodName, MethodOwned};
pub use params::Params;
pub use respond::respond;
pub use start::Start;
pub use status::reason;
pub use transport::{decrement_max_forwards, is_loop, response_target, stamp_via};
pub use uri::{Host, Scheme, Uri};
pub use via::{Via, ViaTransport};
pub use writer::{WriteError, Writer};
