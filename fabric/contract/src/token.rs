//! Wire tokens: what our SIP tags, Via branches and Contact users carry, so that any node can
//! route an in-dialog request or a response without a look-up (`cluster.md` §1).
//!
//! Octets: owner hint (2), lane (2), key of the side (16), random (8, not for contacts), MAC (4);
//! written in lower-case base32hex (RFC 4648 §7), since Via branches compare without case.

use std::hash::Hasher;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use siphasher::sip128::{Hasher128, SipHasher24};
use subtle::ConstantTimeEq;

use crate::{NodeId, SideKey, UtcMillis};

/// What a token is for; a token of one use is never taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenUse {
    /// From or To tag of a dialog.
    Tag,
    /// Via branch of a request we sent.
    Branch,
    /// User part of our Contact.
    Contact,
}

/// What a token of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Node that owned the call when the token was made: a hint only.
    pub hint: NodeId,
    /// Lane that holds the transaction (branches), else 0.
    pub lane: u16,
    /// The side of the call.
    pub side: SideKey,
}

/// What a client of a door keeps to be known again without its password, on any node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionToken {
    /// Who it is.
    pub aor: String,
    /// Which of its devices.
    pub instance: String,
    /// From when on it is worth nothing.
    pub expires: UtcMillis,
}

/// Makes and reads tokens under the cluster's key.
#[derive(Clone)]
pub struct TokenMaker {
    key: [u8; 16],
}

impl std::fmt::Debug for TokenMaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenMaker")
    }
}

/// The magic cookie of RFC 3261 §8.1.1.7.
pub const BRANCH_COOKIE: &str = "z9hG4bK";

const MAC_OCTETS: usize = 4;
const HEAD_OCTETS: usize = 20;
const RANDOM_OCTETS: usize = 8;

impl TokenMaker {
    /// Makes a maker; `key` comes from [`crate::keys::FabricKeys`].
    #[must_use]
    pub const fn new(key: [u8; 16]) -> Self {
        TokenMaker { key }
    }

    /// Writes a token; `random` is drawn by the caller's [`crate::Entropy`].
    #[must_use]
    pub fn write(&self, used: TokenUse, token: Token, random: u64) -> String {
        let mut octets = Vec::with_capacity(HEAD_OCTETS + RANDOM_OCTETS + MAC_OCTETS);
        octets.extend_from_slice(&token.hint.0.to_be_bytes());
        octets.extend_from_slice(&token.lane.to_be_bytes());
        octets.extend_from_slice(&token.side.bits().to_be_bytes());
        if used != TokenUse::Contact {
            octets.extend_from_slice(&random.to_be_bytes());
        }
        let mac = self.mac(used, &octets);
        octets.extend_from_slice(&mac);
        let text = base32(&octets);
        match used {
            TokenUse::Branch => format!("{BRANCH_COOKIE}{text}"),
            TokenUse::Tag | TokenUse::Contact => text,
        }
    }

    /// Reads a token of ours; `None` for anybody else's text and for a forged one.
    #[must_use]
    pub fn read(&self, used: TokenUse, text: &str) -> Option<Token> {
        let text = match used {
            TokenUse::Branch => text.strip_prefix(BRANCH_COOKIE)?,
            TokenUse::Tag | TokenUse::Contact => text,
        };
        let random = if used == TokenUse::Contact {
            0
        } else {
            RANDOM_OCTETS
        };
        let octets = unbase32(text, HEAD_OCTETS + random + MAC_OCTETS)?;
        let (body, mac) = octets.split_at(HEAD_OCTETS + random);
        if !bool::from(self.mac(used, body).ct_eq(mac)) {
            return None;
        }
        let hint = NodeId(u16::from_be_bytes([body[0], body[1]]));
        let lane = u16::from_be_bytes([body[2], body[3]]);
        let key = <[u8; 16]>::try_from(&body[4..HEAD_OCTETS]).ok()?;
        let side = SideKey::from_bits(u128::from_be_bytes(key))?;
        Some(Token { hint, lane, side })
    }

    /// Writes a session token: expiry, lengths and texts, and a MAC of 128 bits over them.
    #[must_use]
    pub fn write_session(&self, token: &SessionToken) -> String {
        let mut octets = token.expires.0.to_be_bytes().to_vec();
        for text in [&token.aor, &token.instance] {
            octets.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            octets.extend_from_slice(text.as_bytes());
        }
        let mac = self.session_mac(&octets);
        octets.extend_from_slice(&mac);
        base32(&octets)
    }

    /// Reads a session token of ours, expired or not; `None` for any other text.
    #[must_use]
    pub fn read_session(&self, text: &str) -> Option<SessionToken> {
        let length = text.len() * 5 / 8;
        if text.len() > SESSION_BYTES_MAX || length < SESSION_MAC_OCTETS {
            return None;
        }
        let octets = unbase32(text, length)?;
        let (body, mac) = octets.split_at(length - SESSION_MAC_OCTETS);
        if !bool::from(self.session_mac(body).ct_eq(mac)) {
            return None;
        }
        let (expires, rest) = body.split_at_checked(8)?;
        let (aor, rest) = read_text(rest)?;
        let (instance, rest) = read_text(rest)?;
        let expires = UtcMillis(u64::from_be_bytes(expires.try_into().ok()?));
        rest.is_empty().then_some(SessionToken {
            aor,
            instance,
            expires,
        })
    }

    fn session_mac(&self, octets: &[u8]) -> [u8; SESSION_MAC_OCTETS] {
        // A purpose and a function of its own: no other token's MAC is ever one of these.
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.key)
            .expect("HMAC takes a key of any length");
        mac.update(b"weft session v1");
        mac.update(octets);
        let whole = mac.finalize().into_bytes();
        let mut cut = [0; SESSION_MAC_OCTETS];
        cut.copy_from_slice(&whole[..SESSION_MAC_OCTETS]);
        cut
    }

    fn mac(&self, used: TokenUse, octets: &[u8]) -> [u8; MAC_OCTETS] {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write_u8(used as u8);
        hasher.write(octets);
        let hash = hasher.finish128().as_u128().to_be_bytes();
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

/// Octets of the MAC of a session token: it is worth a password.
const SESSION_MAC_OCTETS: usize = 16;
/// Octets of the text of a session token: longer ones are none.
const SESSION_BYTES_MAX: usize = 1_024;

fn read_text(octets: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = octets.split_at_checked(2)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let (text, rest) = rest.split_at_checked(length)?;
    Some((String::from_utf8(text.to_vec()).ok()?, rest))
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

fn base32(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().div_ceil(5) * 8);
    let (mut bits, mut count) = (0u32, 0u32);
    for octet in octets {
        bits = (bits << 8) | u32::from(*octet);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(char::from(ALPHABET[((bits >> count) & 31) as usize]));
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        text.push(char::from(ALPHABET[((bits << (5 - count)) & 31) as usize]));
    }
    text
}

fn unbase32(text: &str, wanted: usize) -> Option<Vec<u8>> {
    if text.len() != (wanted * 8).div_ceil(5) {
        return None;
    }
    let mut octets = Vec::with_capacity(wanted);
    let (mut bits, mut count) = (0u32, 0u32);
    for letter in text.bytes() {
        let value = match letter {
            b'0'..=b'9' => letter - b'0',
            b'a'..=b'v' => letter - b'a' + 10,
            b'A'..=b'V' => letter - b'A' + 10,
            _ => return None,
        };
        bits = (bits << 5) | u32::from(value);
        count += 5;
        if count >= 8 {
            count -= 8;
            octets.push(u8::try_from((bits >> count) & 0xff).ok()?);
            bits &= (1 << count) - 1;
        }
    }
    (octets.len() == wanted && bits == 0).then_some(octets)
}
