//! What a datagram of DTLS records may be shown to a handshake (RFC 6347 §4): the library keeps what it
//! cannot use yet, and one forged message in its cache would end a handshake that is well.
//!
//! In: a datagram, our role. Out: whether it is a ClientHello and whose, or the rest of a handshake,
//! or nothing that a peer of the other role sends.

use contract::DtlsRole;

/// Record types of RFC 5246 §6.2.1.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
/// Octets of a record's header (RFC 6347 §4.1).
const RECORD_HEADER_BYTES: usize = 13;
/// Octets of a message's header (RFC 6347 §4.2.2).
const MESSAGE_HEADER_BYTES: usize = 12;

/// Types of messages (RFC 5246 §7.4, RFC 6347 §4.2.2), as each side sends them in the clear.
const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;
/// Certificate, CertificateVerify, ClientKeyExchange; hellos come apart.
const OF_CLIENT: [u8; 3] = [11, 15, 16];
/// ServerHello, HelloVerifyRequest, NewSessionTicket, Certificate, ServerKeyExchange,
/// CertificateRequest, ServerHelloDone, CertificateStatus.
const OF_SERVER: [u8; 8] = [2, HELLO_VERIFY_REQUEST, 4, 11, 12, 13, 14, 22];

/// A ClientHello (RFC 6347 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello<'a> {
    /// Number of the message: 0 is the first, any other answers a HelloVerifyRequest.
    pub(super) number: u16,
    pub(super) random: [u8; 32],
    /// Empty in the first.
    pub(super) cookie: &'a [u8],
}

/// What a datagram brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown<'a> {
    Hello(Hello<'a>),
    /// Later fragments of a ClientHello.
    MoreOfHello,
    /// Any other flight.
    Flight,
}

/// One message, or a fragment of it.
struct Message<'a> {
    kind: u8,
    number: u16,
    offset: [u8; 3],
    body: &'a [u8],
}

/// Reads a datagram as one of a handshake in which our role is `role`: whole records of DTLS 1.0 or
/// 1.2 of kinds and messages that the other role sends, ClientHellos by themselves. Alerts in the
/// clear are nobody's word, and any of them would end the handshake; unprotected data and heartbeats
/// too.
pub(super) fn read(datagram: &[u8], role: DtlsRole) -> Option<Shown<'_>> {
    let (mut rest, mut shown) = (datagram, None);
    while !rest.is_empty() {
        let (header, behind) = rest.split_first_chunk::<RECORD_HEADER_BYTES>()?;
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let is_version = header[1] == 0xfe && (header[2] == 0xff || header[2] == 0xfd);
        if !is_version || length == 0 || length > behind.len() {
            return None;
        }
        let (body, after) = behind.split_at(length);
        let is_clear = header[3..5] == [0, 0];
        let now = match header[0] {
            HANDSHAKE if is_clear => messages(body, role)?,
            CHANGE_CIPHER_SPEC if is_clear && body != [1] => return None,
            HANDSHAKE | CHANGE_CIPHER_SPEC => Shown::Flight,
            ALERT if !is_clear => Shown::Flight,
            _ => return None,
        };
        shown = joined(shown, now)?;
        rest = after;
    }
    shown
}

/// What the messages of one record in the clear are.
fn messages(body: &[u8], role: DtlsRole) -> Option<Shown<'_>> {
    let (mut rest, mut shown) = (body, None);
    while !rest.is_empty() {
        let (message, after) = message(rest)?;
        let now = match role {
            DtlsRole::Passive if message.kind == CLIENT_HELLO => hello(&message)?,
            DtlsRole::Passive if OF_CLIENT.contains(&message.kind) => Shown::Flight,
            DtlsRole::Active if OF_SERVER.contains(&message.kind) => Shown::Flight,
            DtlsRole::Passive | DtlsRole::Active => return None,
        };
        shown = joined(shown, now)?;
        rest = after;
    }
    shown
}

/// Hellos and flights do not share a datagram; a hello is known by its first fragment.
fn joined<'a>(before: Option<Shown<'a>>, now: Shown<'a>) -> Option<Option<Shown<'a>>> {
    match (before, now) {
        (None, now) => Some(Some(now)),
        (Some(Shown::Flight), Shown::Flight) => Some(Some(Shown::Flight)),
        (Some(first @ (Shown::Hello(_) | Shown::MoreOfHello)), Shown::MoreOfHello) => {
            Some(Some(first))
        }
        (Some(_), _) => None,
    }
}

fn hello<'a>(message: &Message<'a>) -> Option<Shown<'a>> {
    if message.offset != [0; 3] {
        return Some(Shown::MoreOfHello);
    }
    let body = message.body;
    let random = *body.get(2..)?.first_chunk()?;
    let (session, behind) = body.get(34..)?.split_first()?;
    let (length, behind) = behind.get(usize::from(*session)..)?.split_first()?;
    Some(Shown::Hello(Hello {
        number: message.number,
        random,
        cookie: behind.get(..usize::from(*length))?,
    }))
}

/// Returns the cookie of the HelloVerifyRequest that a datagram of ours is, if it is one
/// (RFC 6347 §4.2.1).
pub(super) fn verify_request(datagram: &[u8]) -> Option<&[u8]> {
    let (header, behind) = datagram.split_first_chunk::<RECORD_HEADER_BYTES>()?;
    let (message, _) = message(behind)?;
    let is_one = header[0] == HANDSHAKE && message.kind == HELLO_VERIFY_REQUEST;
    let (length, behind) = message.body.get(2..)?.split_first()?;
    behind.get(..usize::from(*length)).filter(|_| is_one)
}

/// Takes the first message, or fragment of one, off a record (RFC 6347 §4.2.2).
fn message(record: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let (header, behind) = record.split_first_chunk::<MESSAGE_HEADER_BYTES>()?;
    let length = u32::from_be_bytes([0, header[9], header[10], header[11]]);
    let length = usize::try_from(length).ok()?;
    let body = behind.get(..length)?;
    let message = Message {
        kind: header[0],
        number: u16::from_be_bytes([header[4], header[5]]),
        offset: [header[6], header[7], header[8]],
        body,
    };
    Some((message, &behind[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let length = u8::try_from(body.len()).expect("short");
        let header = [kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 0, 0, length];
        [&header[..], body].concat()
    }

    fn message(kind: u8, number: u8, offset: u8, body: &[u8]) -> Vec<u8> {
        let length = u8::try_from(body.len()).expect("short");
        let whole = offset + length;
        let header = [kind, 0, 0, whole, 0, number, 0, 0, offset, 0, 0, length];
        [&header[..], body].concat()
    }

    fn hello(number: u8, cookie: &[u8]) -> Vec<u8> {
        let length = u8::try_from(cookie.len()).expect("short");
        let parts: [&[u8]; 4] = [&[0xfe, 0xfd], &[9; 32], &[0, length], cookie];
        message(
            1,
            number,
            0,
            &[&parts.concat()[..], &[0, 2, 0, 0, 1, 0]].concat(),
        )
    }

    #[test]
    fn records_that_end_handshakes_are_not_shown_to_them() {
        let certificate = record(22, 0, &message(11, 2, 0, &[1; 20]));
        for (datagram, is_shown) in [
            (certificate.clone(), true),
            (record(22, 1, &[1; 20]), true),
            (record(20, 0, &[1]), true),
            (
                [record(20, 0, &[1]), record(22, 1, &[9; 40])].concat(),
                true,
            ),
            (record(21, 1, &[9; 26]), true),
            (record(21, 0, &[2, 40]), false),
            (
                [certificate.clone(), record(21, 0, &[2, 40])].concat(),
                false,
            ),
            (record(20, 0, &[2]), false),
            (record(23, 1, &[9; 40]), false),
            (record(24, 0, &[1, 0, 0]), false),
            (record(22, 0, &[]), false),
            (record(22, 0, &[1; 20]), false),
            (certificate[..30].to_vec(), false),
            (vec![22], false),
            (Vec::new(), false),
        ] {
            for role in [DtlsRole::Active, DtlsRole::Passive] {
                let read = read(&datagram, role);
                assert_eq!(read == Some(Shown::Flight), is_shown, "{datagram:?}");
            }
        }
    }

    #[test]
    fn each_role_is_shown_what_the_other_sends() {
        for (kind, of_client, of_server) in [
            (0, false, false),
            (2, false, true),
            (3, false, true),
            (11, true, true),
            (12, false, true),
            (13, false, true),
            (14, false, true),
            (15, true, false),
            (16, true, false),
            (20, false, false),
        ] {
            let datagram = record(22, 0, &message(kind, 2, 0, &[7; 8]));
            let is_shown = |role| read(&datagram, role).is_some();
            assert_eq!(is_shown(DtlsRole::Passive), of_client, "{kind}");
            assert_eq!(is_shown(DtlsRole::Active), of_server, "{kind}");
        }
    }

    #[test]
    fn a_hello_is_read_and_stands_alone() {
        let cookie = [7; 20];
        for (number, cookie) in [(0, &[][..]), (1, &cookie[..])] {
            let datagram = record(22, 0, &hello(number, cookie));
            let read_as = |role| read(&datagram, role);
            let expected = Hello {
                number: number.into(),
                random: [9; 32],
                cookie,
            };
            assert_eq!(read_as(DtlsRole::Passive), Some(Shown::Hello(expected)));
            assert_eq!(read_as(DtlsRole::Active), None);
            let flight = record(22, 0, &message(16, 3, 0, &[1; 9]));
            let both = [&datagram[..], &flight[..]].concat();
            assert_eq!(read(&both, DtlsRole::Passive), None);
            let twice = [&datagram[..], &datagram[..]].concat();
            assert_eq!(read(&twice, DtlsRole::Passive), None);
        }
        let rest = record(22, 0, &message(1, 0, 60, &[1; 9]));
        assert_eq!(read(&rest, DtlsRole::Passive), Some(Shown::MoreOfHello));
        let cut = record(22, 0, &message(1, 0, 0, &[1; 9]));
        assert_eq!(read(&cut, DtlsRole::Passive), None);
    }

    #[test]
    fn the_cookie_of_a_verify_request_is_found() {
        let body = [&[0xfe, 0xfd, 4][..], &[1, 2, 3, 4]].concat();
        let asked = record(22, 0, &message(3, 0, 0, &body));
        assert_eq!(verify_request(&asked), Some(&[1, 2, 3, 4][..]));
        let short = record(22, 0, &message(3, 0, 0, &body[..5]));
        assert_eq!(verify_request(&short), None);
        assert_eq!(
            verify_request(&record(22, 0, &message(2, 0, 0, &body))),
            None
        );
    }
}
