//! Who sent a request: challenges, credentials, and failures of a source (RFC 7616, RFC 8760).
//!
//! In: requests, the accounts of the site, time. Out: what a request proves, and challenges. The
//! policy decides what follows. An unknown user costs what a known one costs and is told the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use contract::limits::{AUTH_FAILURES_PER_ADDRESS_MAX, AUTH_SOURCES_MAX};
use contract::{FlowRef, Now, Time};
use rsip::Method;
use sip::digest::{
    Algorithm, Challenge, CountError, Credentials, NonceCounts, NonceInfo, NonceMaker, Secret,
    verify, verify_unknown,
};
use sip::{Aor, HeaderName, Message, NameAddr, Uri, Which};

use super::NonceVerdict;
use super::core::Context;
use super::refusal::Refusal;
use crate::Site;
use crate::site::{Account, Credential, Domain};

/// What a lane knows of nonces and failures.
#[derive(Debug)]
pub(super) struct Auth {
    maker: NonceMaker,
    /// Made with the first event: nonces of an earlier life may have been used.
    counts: Option<NonceCounts>,
    failures: Failures,
}

/// One use of a nonce: to be counted where it was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    pub info: NonceInfo,
    pub count: u32,
}

/// What a request proves.
#[derive(Debug)]
pub(super) enum Proof {
    /// No credentials for this realm.
    Absent,
    /// Wrong credentials.
    Wrong,
    /// Right ones, with a nonce that is no longer good.
    Stale,
    /// The source has failed too often: not looked at.
    Limited,
    /// Right ones, if the nonce was not used before.
    Right { identity: Aor, nonce: Use },
}

impl Auth {
    pub(super) fn new(site: &Site) -> Self {
        let maker = NonceMaker::new(key_of(site.nonce_key.expose()));
        Auth {
            maker,
            counts: None,
            failures: Failures::default(),
        }
    }

    /// Notes when this life of the lane began.
    pub(super) fn wake(&mut self, now: Now) {
        self.counts.get_or_insert_with(|| NonceCounts::new(now.utc));
    }

    /// Looks at the credentials of a request.
    pub(super) fn examine(&mut self, request: &Message, flow: FlowRef, ctx: &Context<'_>) -> Proof {
        let (site, now) = (ctx.site(), ctx.now());
        let domain = realm_of(request, site);
        let values = request.credential_values(which(request));
        let mut read = values.filter_map(|value| Credentials::read(value).ok());
        let Some(credentials) = read.find(|one| one.realm == domain.name) else {
            return Proof::Absent;
        };
        let source = source_of(flow.remote().ip());
        if self.failures.count(source, now.mono) >= failures_max(site) {
            return Proof::Limited;
        }
        let nonce = match self
            .maker
            .check(&credentials.nonce, &flow.to_string(), now.utc)
        {
            Ok(info) => Some(info),
            Err(error) if error.is_stale() => None,
            Err(_) => return Proof::Absent,
        };
        let Some(identity) = proven(&credentials, request, domain, site) else {
            self.failures.add(source, now.mono);
            return Proof::Wrong;
        };
        match nonce {
            None => Proof::Stale,
            Some(info) => Proof::Right {
                identity,
                nonce: Use {
                    info,
                    count: credentials.count,
                },
            },
        }
    }

    /// Counts the use of a nonce that this lane made.
    pub(super) fn count(&mut self, nonce: &NonceInfo, count: u32, now: Now) -> NonceVerdict {
        let counts = self.counts.get_or_insert_with(|| NonceCounts::new(now.utc));
        match counts.accept(nonce, count, now.utc) {
            Ok(()) => NonceVerdict::Fresh,
            Err(CountError::Replay) => NonceVerdict::Replayed,
            Err(CountError::Forgotten) => NonceVerdict::Forgotten,
        }
    }

    /// Returns how many sources have failed within the last minute.
    pub(super) fn failing_sources(&self) -> usize {
        self.failures.windows.len()
    }

    /// Makes a 401 or 407 with a fresh nonce, in the algorithms that the listener offers.
    pub(super) fn challenge(
        &self,
        request: &Message,
        flow: FlowRef,
        lane: u16,
        stale: bool,
        ctx: &mut Context<'_>,
    ) -> Refusal {
        let random = ctx.rng().next_u64();
        let site = ctx.site();
        let source = flow.to_string();
        let nonce = self
            .maker
            .make(ctx.now().utc, &source, lane, site.node.0, random);
        let (status, header) = match which(request) {
            Which::Www => (401, HeaderName::WwwAuthenticate),
            Which::Proxy => (407, HeaderName::ProxyAuthenticate),
        };
        let domain = realm_of(request, site);
        let mut refusal = Refusal::new(status, if stale { "stale nonce" } else { "no proof" });
        for algorithm in offered(request, flow, domain, site) {
            let challenge = Challenge {
                realm: domain.name.clone(),
                algorithm,
                nonce: nonce.clone(),
                stale,
                opaque: None,
            };
            refusal.headers.push((header, challenge.to_string()));
        }
        refusal
    }
}

/// Returns the AoR of the account whose password the credentials prove.
fn proven(
    credentials: &Credentials,
    request: &Message,
    domain: &Domain,
    site: &Site,
) -> Option<Aor> {
    let name = &credentials.username;
    let user = name
        .rsplit_once('@')
        .filter(|(_, host)| host.eq_ignore_ascii_case(&domain.name))
        .map_or(name.as_str(), |(user, _)| user);
    let method = request.method();
    let secret = domain
        .users
        .get(user)
        .and_then(|account| secret_of(account, domain));
    let verdict = match &secret {
        Some(secret) => verify(credentials, &domain.name, method.as_str(), secret),
        None => verify_unknown(credentials, &domain.name, method.as_str()),
    };
    verdict.ok()?;
    site.aor(user, &domain.name)
}

fn secret_of(account: &Account, domain: &Domain) -> Option<Secret> {
    match &account.credential {
        Credential::Password(password) => Some(Secret::Password(password.clone())),
        Credential::Ha1 { realm, hash } => (*realm == domain.name).then(|| Secret::Ha1 {
            algorithm: Algorithm::Md5,
            ha1: hash.clone(),
        }),
    }
}

/// Returns the algorithms to offer, in order: an account with an MD5 hash can use no other.
/// A name without an account is treated as the account next to it, so that nobody learns from the
/// offer which names exist (`threats.md` 6).
fn offered(request: &Message, flow: FlowRef, domain: &Domain, site: &Site) -> Vec<Algorithm> {
    let name = claimant(request)
        .and_then(|claimant| claimant.uri.user())
        .unwrap_or_default();
    let next = domain
        .users
        .range(name..)
        .next()
        .or_else(|| domain.users.iter().next());
    let configured = site.listener(flow.listener()).map(|one| one.digest.clone());
    match next.map(|(_, account)| &account.credential) {
        Some(Credential::Ha1 { .. }) => vec![Algorithm::Md5],
        Some(Credential::Password(_)) | None => configured.unwrap_or_default(),
    }
}

/// Returns whose name a request claims: To for REGISTER, else From.
fn claimant(request: &Message) -> Option<NameAddr> {
    let claimant = if request.method().is(Method::Register) {
        request.to()
    } else {
        request.from()
    };
    claimant.ok()
}

/// Returns the AoR that a request claims.
pub(super) fn claimed(request: &Message, site: &Site) -> Option<Aor> {
    site.aor_of(&claimant(request)?.uri)
}

/// Tells whether every name that a request speaks in is the identity's (`threats.md` 3).
pub(super) fn speaks_as(request: &Message, identity: Option<&Aor>, site: &Site) -> bool {
    let Some(identity) = identity else {
        return false;
    };
    let is_own = |uri: &Uri| site.aor_of(uri).as_ref() == Some(identity);
    if request.method().is(Method::Register) && !request.to().is_ok_and(|to| is_own(&to.uri)) {
        return false;
    }
    let is_nobody = |uri: &Uri| {
        // RFC 3323 §4.1.1.3: claims no identity.
        uri.host()
            .is_some_and(|host| host.to_string() == "anonymous.invalid")
    };
    let from_is_fit = request
        .from()
        .is_ok_and(|from| is_own(&from.uri) || is_nobody(&from.uri));
    let names = [
        HeaderName::PAssertedIdentity,
        HeaderName::PPreferredIdentity,
    ];
    from_is_fit
        && names.iter().all(|name| {
            request
                .name_addrs(*name)
                .is_ok_and(|list| list.iter().all(|one| is_own(&one.uri)))
        })
}

/// Returns the domain whose account a request would use: its name is the realm.
fn realm_of<'a>(request: &Message, site: &'a Site) -> &'a Domain {
    let host = claimant(request).and_then(|one| one.uri.host().map(ToString::to_string));
    site.domain_of(&host.unwrap_or_default())
}

fn which(request: &Message) -> Which {
    if request.method().is(Method::Register) {
        Which::Www
    } else {
        Which::Proxy
    }
}

/// Returns the key of nonces: 64 hexadecimal digits, or any other text folded to 32 octets.
fn key_of(text: &str) -> [u8; 32] {
    let mut key = [0_u8; 32];
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|letter| {
            letter
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        })
        .collect();
    match digits.filter(|digits| digits.len() == 64) {
        Some(digits) => {
            for (octet, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
                *octet = pair[0] << 4 | pair[1];
            }
        }
        None => {
            for (at, octet) in text.bytes().enumerate() {
                key[at % 32] = key[at % 32].rotate_left(3) ^ octet;
            }
        }
    }
    key
}

/// Returns what counts as one source: an IPv4 address, or the /64 of an IPv6 address.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(address.to_bits() >> 64 << 64)),
    }
}

/// Returns a lane's share of the failures that a source may have.
fn failures_max(site: &Site) -> u32 {
    AUTH_FAILURES_PER_ADDRESS_MAX.div_ceil(u32::from(site.lanes.max(1)))
}

/// Failures of sources, each in a window of a minute. Bound: `AUTH_SOURCES_MAX`; the oldest go.
#[derive(Debug, Default)]
struct Failures {
    windows: BTreeMap<IpAddr, (Time, u32)>,
    order: BTreeSet<(Time, IpAddr)>,
}

const WINDOW: Duration = Duration::from_secs(60);

impl Failures {
    fn count(&mut self, source: IpAddr, now: Time) -> u32 {
        while let Some((began, oldest)) = self.order.first().copied()
            && began + WINDOW <= now
        {
            self.order.pop_first();
            self.windows.remove(&oldest);
        }
        self.windows.get(&source).map_or(0, |(_, count)| *count)
    }

    fn add(&mut self, source: IpAddr, now: Time) {
        if let Some((_, count)) = self.windows.get_mut(&source) {
            *count += 1;
            return;
        }
        if self.windows.len() >= AUTH_SOURCES_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.windows.remove(&oldest);
        }
        self.windows.insert(source, (now, 1));
        self.order.insert((now, source));
    }
}
