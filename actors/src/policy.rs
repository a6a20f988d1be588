//! Who may do what: the policy table of `threats.md` as pure functions.
//!
//! In: a method, where it stands, what its sender has proven. Out: a ruling. It parses nothing,
//! checks no digest and sends nothing; lanes do. Denying is the default branch: what no row allows
//! needs proof, and with proof is refused.

use rsip::Method;
use sip::MethodName;

/// Methods that this node answers, for Allow headers.
pub const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, INFO, UPDATE, REFER";

/// Option tags that a REGISTER may require (RFC 3327, RFC 5626).
pub const REGISTER_OPTIONS: &[&str] = &["path", "outbound"];

/// Option tags that other requests may require (RFC 3891, RFC 4028).
pub const REQUEST_OPTIONS: &[&str] = &["timer", "replaces"];

/// Option tags that a side of a call says it knows, besides those of a session timer (RFC 3891 §4).
pub const SUPPORTED: &str = "replaces";

/// The one body that an INVITE may carry.
pub const ACCEPT: &str = "application/sdp";

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// No tag in To: it starts something.
    Outside,
    /// A tag of ours in To.
    Inside,
    /// A tag in To that is not ours.
    Foreign,
}

/// What the sender of a request has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing yet, or something wrong.
    Unproven,
    /// Who it is: a right digest, or a listener that asks for none.
    Proven,
}

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// To the registration of its To.
    Register,
    /// To a new call.
    Call,
    /// To the dialog of its To tag, which checks both tags, Call-ID, and source or digest.
    Dialog,
    /// To the call that its INVITE started, which checks the source.
    Cancel,
    /// To the transaction or dialog it matches; never answered.
    Acknowledge,
    /// 200 without detail.
    Options,
    /// 401 or 407 with challenges.
    Prove {
        /// The status.
        status: u16,
    },
    /// A refusal.
    Refuse {
        /// The status.
        status: u16,
        /// Why, for counters.
        why: &'static str,
    },
}

/// Rules on a request (`threats.md`, first table).
#[must_use]
pub fn rule(method: MethodName<'_>, place: Place, standing: Standing) -> Ruling {
    let MethodName::Known(known) = method else {
        return rule_unknown(place, standing);
    };
    match (known, place) {
        (Method::Ack, _) => Ruling::Acknowledge,
        (Method::Cancel, _) => Ruling::Cancel,
        (Method::Register, _) => after_proof(standing, 401, Ruling::Register),
        (_, Place::Inside) => Ruling::Dialog,
        (_, Place::Foreign) => Ruling::Refuse {
            status: 481,
            why: "no such dialog",
        },
        (Method::Options, Place::Outside) => Ruling::Options,
        (Method::Invite, Place::Outside) => after_proof(standing, 407, Ruling::Call),
        (method, Place::Outside) => after_proof(standing, 407, out_of_place(method)),
    }
}

/// Returns what a method without a service outside dialogs gets once its sender is known.
fn out_of_place(method: Method) -> Ruling {
    match method {
        Method::Subscribe | Method::Publish => Ruling::Refuse {
            status: 489,
            why: "no such event package",
        },
        Method::Message | Method::Refer => Ruling::Refuse {
            status: 405,
            why: "no such service",
        },
        Method::Bye | Method::Info | Method::Notify | Method::PRack | Method::Update => {
            Ruling::Refuse {
                status: 481,
                why: "outside any dialog",
            }
        }
        Method::Ack | Method::Cancel | Method::Invite | Method::Options | Method::Register => {
            Ruling::Refuse {
                status: 403,
                why: "denied by default",
            }
        }
    }
}

fn rule_unknown(place: Place, standing: Standing) -> Ruling {
    match place {
        Place::Inside => Ruling::Dialog,
        Place::Foreign => Ruling::Refuse {
            status: 481,
            why: "no such dialog",
        },
        Place::Outside => {
            let refused = Ruling::Refuse {
                status: 405,
                why: "unknown method",
            };
            after_proof(standing, 407, refused)
        }
    }
}

const fn after_proof(standing: Standing, status: u16, then: Ruling) -> Ruling {
    match standing {
        Standing::Unproven => Ruling::Prove { status },
        Standing::Proven => then,
    }
}

/// Returns the option tags that a request of this method may require.
#[must_use]
pub fn options_of(method: MethodName<'_>) -> &'static [&'static str] {
    if method.is(Method::Register) {
        REGISTER_OPTIONS
    } else {
        REQUEST_OPTIONS
    }
}

/// Returns the required option tags that we do not know, comma-separated; `None` if we know all
/// (RFC 3261 §8.2.2.3).
#[must_use]
pub fn unsupported<'a>(
    required: impl Iterator<Item = &'a str>,
    supported: &[&str],
) -> Option<String> {
    let tags = required.flat_map(|value| value.split(',')).map(str::trim);
    let unknown: Vec<&str> = tags
        .filter(|tag| !tag.is_empty())
        .filter(|tag| {
            !supported
                .iter()
                .any(|known| known.eq_ignore_ascii_case(tag))
        })
        .collect();
    (!unknown.is_empty()).then(|| unknown.join(", "))
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
