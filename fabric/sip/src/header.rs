//! Names of header fields: typed, in every spelling the wire may use (RFC 3261 §7.3.1, §7.3.3).
//!
//! In: a name as written. Out: its type. A name this table does not know is `Other`; such fields
//! are kept and found by `Message::other`.

use std::fmt;

macro_rules! header_names {
    ($($variant:ident, $text:literal, $compact:expr, $single:literal;)*) => {
        /// The name of a header field.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum HeaderName {
            $(#[doc = concat!("`", $text, "`.")] $variant,)*
            /// A name that this table does not know.
            Other,
        }

        impl HeaderName {
            /// Returns the name in its usual long form; `Other` has none.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(HeaderName::$variant => $text,)*
                    HeaderName::Other => "",
                }
            }

            /// Tells whether the field may stand in a message only once.
            #[must_use]
            pub const fn is_single(self) -> bool {
                match self {
                    $(HeaderName::$variant => $single,)*
                    HeaderName::Other => false,
                }
            }
        }

        static NAMES: &[(&str, Option<u8>, HeaderName)] =
            &[$(($text, $compact, HeaderName::$variant),)*];
    };
}

header_names! {
    Via, "Via", Some(b'v'), false;
    From, "From", Some(b'f'), true;
    To, "To", Some(b't'), true;
    CallId, "Call-ID", Some(b'i'), true;
    CSeq, "CSeq", None, true;
    Contact, "Contact", Some(b'm'), false;
    MaxForwards, "Max-Forwards", None, true;
    Route, "Route", None, false;
    RecordRoute, "Record-Route", None, false;
    Path, "Path", None, false;
    ServiceRoute, "Service-Route", None, false;
    Expires, "Expires", None, true;
    ContentLength, "Content-Length", Some(b'l'), true;
    ContentType, "Content-Type", Some(b'c'), true;
    ContentEncoding, "Content-Encoding", Some(b'e'), false;
    ContentDisposition, "Content-Disposition", None, true;
    ContentLanguage, "Content-Language", None, false;
    MimeVersion, "MIME-Version", None, true;
    Authorization, "Authorization", None, false;
    ProxyAuthorization, "Proxy-Authorization", None, false;
    WwwAuthenticate, "WWW-Authenticate", None, false;
    ProxyAuthenticate, "Proxy-Authenticate", None, false;
    AuthenticationInfo, "Authentication-Info", None, false;
    Allow, "Allow", None, false;
    AllowEvents, "Allow-Events", Some(b'u'), false;
    Supported, "Supported", Some(b'k'), false;
    Require, "Require", None, false;
    ProxyRequire, "Proxy-Require", None, false;
    Unsupported, "Unsupported", None, false;
    MinExpires, "Min-Expires", None, true;
    RetryAfter, "Retry-After", None, true;
    UserAgent, "User-Agent", None, true;
    Server, "Server", None, true;
    Accept, "Accept", None, false;
    AcceptEncoding, "Accept-Encoding", None, false;
    AcceptLanguage, "Accept-Language", None, false;
    AlertInfo, "Alert-Info", None, false;
    CallInfo, "Call-Info", None, false;
    Date, "Date", None, true;
    ErrorInfo, "Error-Info", None, false;
    InReplyTo, "In-Reply-To", None, false;
    Organization, "Organization", None, true;
    Priority, "Priority", None, true;
    ReplyTo, "Reply-To", None, true;
    Subject, "Subject", Some(b's'), true;
    Timestamp, "Timestamp", None, true;
    Warning, "Warning", None, false;
    Event, "Event", Some(b'o'), true;
    SubscriptionState, "Subscription-State", None, true;
    SipETag, "SIP-ETag", None, true;
    SipIfMatch, "SIP-If-Match", None, true;
    ReferTo, "Refer-To", Some(b'r'), true;
    ReferredBy, "Referred-By", Some(b'b'), true;
    ReferSub, "Refer-Sub", None, true;
    Replaces, "Replaces", None, true;
    TargetDialog, "Target-Dialog", None, true;
    Join, "Join", None, true;
    SessionExpires, "Session-Expires", Some(b'x'), true;
    MinSe, "Min-SE", None, true;
    RAck, "RAck", None, true;
    RSeq, "RSeq", None, true;
    Reason, "Reason", None, false;
    HistoryInfo, "History-Info", None, false;
    Diversion, "Diversion", None, false;
    Identity, "Identity", Some(b'y'), false;
    PAssertedIdentity, "P-Asserted-Identity", None, false;
    PPreferredIdentity, "P-Preferred-Identity", None, false;
    RemotePartyId, "Remote-Party-ID", None, false;
    Privacy, "Privacy", None, false;
    PChargingVector, "P-Charging-Vector", None, true;
    PAccessNetworkInfo, "P-Access-Network-Info", None, false;
    AcceptContact, "Accept-Contact", Some(b'a'), false;
    RejectContact, "Reject-Contact", Some(b'j'), false;
    RequestDisposition, "Request-Disposition", Some(b'd'), false;
    FlowTimer, "Flow-Timer", None, true;
    InfoPackage, "Info-Package", None, true;
    RecvInfo, "Recv-Info", None, false;
    MaxBreadth, "Max-Breadth", None, true;
    UserToUser, "User-to-User", None, false;
    AnswerMode, "Answer-Mode", None, true;
}

/// Slots of the look-up table; about three times the names, so that a search rarely goes on.
const SLOTS: usize = 256;

/// Marks a slot without a name.
const EMPTY: u8 = u8::MAX;

/// Returns the slot at which the search for a name begins: a mix of its length and outer letters.
const fn slot(name: &[u8]) -> usize {
    let [first, ..] = name else { return 0 };
    let last = name[name.len() - 1];
    let letters = ((*first | 0x20) as usize) * 31 + ((last | 0x20) as usize) * 5;
    (letters + name.len() * 3) % SLOTS
}

/// Indexes into `NAMES` by slot; built at compile time, so that a look-up compares about one name.
static TABLE: [u8; SLOTS] = {
    let mut table = [EMPTY; SLOTS];
    let mut at = 0;
    while at < NAMES.len() {
        let mut place = slot(NAMES[at].0.as_bytes());
        while table[place] != EMPTY {
            place = (place + 1) % SLOTS;
        }
        table[place] = at as u8;
        at += 1;
    }
    assert!(NAMES.len() < SLOTS / 2, "the table is too full");
    table
};

/// The long names by their compact letter.
static COMPACT: [HeaderName; 26] = {
    let mut compact = [HeaderName::Other; 26];
    let mut at = 0;
    while at < NAMES.len() {
        if let Some(letter) = NAMES[at].1 {
            compact[(letter - b'a') as usize] = NAMES[at].2;
        }
        at += 1;
    }
    compact
};

impl HeaderName {
    /// Returns the type of a name as written: any case, long or compact form.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        if let [letter] = name {
            let slot = letter.to_ascii_lowercase().wrapping_sub(b'a');
            return COMPACT
                .get(usize::from(slot))
                .copied()
                .unwrap_or(HeaderName::Other);
        }
        let mut place = slot(name);
        while let Some((text, _, header)) = NAMES.get(usize::from(TABLE[place])) {
            let text = text.as_bytes();
            // Most peers write the usual form, which is compared many octets at a time.
            if name == text || name.eq_ignore_ascii_case(text) {
                return *header;
            }
            place = (place + 1) % SLOTS;
        }
        HeaderName::Other
    }

    /// Returns the compact form, if the field has one (RFC 3261 §7.3.3).
    #[must_use]
    pub fn compact(self) -> Option<char> {
        NAMES
            .iter()
            .find(|(.., name)| *name == self)?
            .1
            .map(char::from)
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
