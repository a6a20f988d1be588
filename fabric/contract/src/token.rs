//! Wire tokens: what our SIP tags, Via branches and Contact users carry, so that any node can
//! route an in-dialog request or a response without a look-up (`cluster.md` §1).
//!
//! Octets: owner hint (2), lane (2), key of the side (16), random (8, not for contacts), MAC (4);
//! written in lower-case base32hex (RFC 4648 §7), since Via branches compare without case.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};
use subtle::ConstantTimeEq;

use crate::{NodeId, SideKey};

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

    fn mac(&self, used: TokenUse, octets: &[u8]) -> [u8; MAC_OCTETS] {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write_u8(used as u8);
        hasher.write(octets);
        let hash = hasher.finish128().as_u128().to_be_bytes();
        [hash[0], hash[1], hash[2], hash[3]]
    }
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
