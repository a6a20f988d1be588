//! What proves a client: its password, or the token of an earlier session.
//!
//! In: what the client says, the accounts of the site, the time. Out: who it is. A number that
//! nobody has costs what one costs that somebody has, and is told the same (`threats.md` 6).

use contract::{Secret, UtcMillis};
use sip::Aor;
use sip::digest::{Algorithm, ha1};

use crate::Site;
use crate::site::Credential;

/// A client that has proven who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proven {
    pub(super) aor: Aor,
    pub(super) instance: String,
}

/// Hash operations of one check, whatever the number and the password.
#[cfg(test)]
pub(super) const HASHES: usize = 4;

/// Returns the address of record that a number means: `1000` or `1000@domain`.
pub(super) fn aor_of(dn: &str, site: &Site) -> Option<Aor> {
    let plain = dn.strip_prefix("sip:").unwrap_or(dn);
    match plain.rsplit_once('@') {
        Some((user, host)) => site.aor(user, host),
        None => site.aor(plain, &site.domains.first()?.name),
    }
}

/// Tells whether `password` is that of the account, with a count of the hashes that it took.
pub(super) fn check(aor: Option<&Aor>, password: &Secret, site: &Site) -> (bool, usize) {
    let nobody = Credential::Password(Secret::new("nobody has this number"));
    let account = aor.and_then(|aor| site.account(aor));
    let credential = account.map_or(&nobody, |account| &account.credential);
    let user = aor.map_or("", Aor::user);
    let (realm, kept, known) = match credential {
        Credential::Password(kept) => (aor.map_or("", Aor::domain), kept, None),
        Credential::Ha1 { realm, hash } => (realm.as_str(), password, Some(hash)),
    };
    let mut hashes = 0;
    let mut hash = |algorithm, text: &Secret| {
        hashes += 1;
        Secret::new(ha1(algorithm, user, realm, text.expose()))
    };
    // Both hashes of both, so that no kind of account shows by its time.
    let said = (
        hash(Algorithm::Sha256, password),
        hash(Algorithm::Md5, password),
    );
    let kept = (hash(Algorithm::Sha256, kept), hash(Algorithm::Md5, kept));
    let is_same = match known {
        None => said.0.matches(&kept.0),
        Some(known) => said
            .1
            .matches(&Secret::new(known.expose().to_ascii_lowercase())),
    };
    (is_same & account.is_some(), hashes)
}

/// Returns whose session token it is, and why not.
pub(super) fn resumed(token: &str, now: UtcMillis, site: &Site) -> Result<Proven, u16> {
    let token = site.tokens.read_session(token).ok_or(401_u16)?;
    let aor: Aor = token.aor.parse().map_err(|_| 401_u16)?;
    // An account that was taken away is known by its token no longer.
    let account = site.account(&aor);
    if token.expires <= now || account.is_none() {
        return Err(410);
    }
    let instance = token.instance;
    Ok(Proven { aor, instance })
}
