//! What the fabric says happened, as log lines and counters.
//!
//! In: `Emitted`. Out: one log line each, and `weft_…` metrics with bounded labels. Numbers, addresses
//! and contacts are masked above `debug` (`style.md` §9). It decides nothing.

use std::time::Duration;

use contract::{ActorId, CallRecord, Emitted, Kind, Private, SchemaVersion};

/// Logs and counts what an actor says.
pub(crate) fn emit(origin: &ActorId, emitted: Emitted) {
    match emitted {
        Emitted::CallEnded(record) => call_ended(&record),
        Emitted::Registration { aor, news, contact } => {
            let what = news.word();
            metrics::counter!("weft_registrations_total", "what" => what).increment(1);
            tracing::info!(user = %Private(user_of(&aor)), what, "registration");
            tracing::debug!(aor, contact, what, "registration contact");
        }
        Emitted::CallState { call, news } => {
            let what = news.word();
            metrics::counter!("weft_call_states_total", "state" => what).increment(1);
            tracing::info!(%call, state = what, "call state");
            tracing::debug!(%call, ?news, "call state detail");
        }
        Emitted::Refused {
            method,
            status,
            why,
        } => {
            metrics::counter!("weft_requests_refused_total", "status" => status.to_string())
                .increment(1);
            tracing::debug!(actor = %origin, method, status, why, "request refused");
        }
        Emitted::NodeDown {
            instance,
            is_proven,
        } => tracing::warn!(life = %instance, is_proven, "a node is down"),
        Emitted::Heir { of, node } => {
            tracing::debug!(life = %of, %node, "its calls go where its addresses go");
        }
        Emitted::Address { address, order } => {
            tracing::debug!(%address, ?order, "floating address");
        }
        Emitted::Rejoined => tracing::warn!("others took this node for dead; it is back"),
        Emitted::Superseded { by } => {
            tracing::error!(%by, "this node was started again elsewhere; this one ends");
        }
        Emitted::View(members) => {
            tracing::debug!(nodes = members.len(), "the cluster as gossip sees it");
        }
        Emitted::Digit { call, side, digit } => {
            metrics::counter!("weft_digits_total").increment(1);
            tracing::debug!(%call, side, %digit, "digit");
        }
    }
}

/// Returns the user part of an AoR or URI: what is left of it when masked must tell two callers
/// apart, and the end of a domain does not.
fn user_of(address: &str) -> &str {
    let bare = address.split_once(':').map_or(address, |(_, rest)| rest);
    bare.split_once('@').map_or(bare, |(user, _)| user)
}

/// The call's record: one line a call (`architecture.md` §7).
fn call_ended(record: &CallRecord) {
    let cause = record.cause.clone();
    metrics::counter!("weft_calls_ended_total", "cause" => cause).increment(1);
    let talked = record
        .answered
        .map(|answered| record.ended.0.saturating_sub(answered.0));
    if let Some(talked) = talked {
        metrics::histogram!("weft_call_talk_s").record(talked as f64 / 1_000.0);
    }
    tracing::info!(
        target: "weft::cdr",
        call = %record.call,
        from = %Private(user_of(&record.from)),
        to = %Private(user_of(&record.to)),
        sip_call_id = record.sip_call_id,
        started_ms = record.started.0,
        answered_ms = record.answered.map(|answered| answered.0),
        ended_ms = record.ended.0,
        talked_ms = talked,
        cause = record.cause,
        status = record.status,
        ended_by = record.ended_by,
        "call ended"
    );
}

/// Tells how late this node's timer was, how many events wait in its lanes, and whether it sheds.
pub(crate) fn load(late: Duration, waiting: usize, is_over: bool) {
    metrics::histogram!("weft_scheduler_lag_us").record(late.as_secs_f64() * 1e6);
    metrics::gauge!("weft_lane_events_waiting").set(waiting as f64);
    metrics::gauge!("weft_overloaded").set(f64::from(u8::from(is_over)));
}

/// Sets the gauges that are read rather than told.
pub(crate) fn gauges(live: &[(Kind, usize)], free_bytes: u64, schema: SchemaVersion) {
    metrics::gauge!("weft_schema_written").set(f64::from(schema.0));
    for (kind, count) in live {
        metrics::gauge!("weft_actors_live", "kind" => kind.word()).set(*count as f64);
        if *kind == Kind::Call {
            metrics::gauge!("weft_calls_active").set(*count as f64);
        }
    }
    metrics::gauge!("weft_store_free_bytes").set(free_bytes as f64);
}

#[cfg(test)]
#[path = "telemetry_tests.rs"]
mod tests;
