//! Shrinking: the smallest plan found that still breaks the same promise.
//!
//! In: a plan that fails. Out: the same with fewer faults, then fewer phones. Each try is a whole
//! run, so the number of tries is bounded.

use crate::plan::Plan;
use crate::run::{Outcome, run};

const TRIES_MAX: usize = 60;

/// Shrinks a failing plan; gives the smaller plan and its outcome.
#[must_use]
pub fn shrink(plan: &Plan, outcome: &Outcome) -> (Plan, Outcome) {
    let promise = outcome.broken.as_ref().map(|broken| broken.promise);
    let (mut best, mut best_outcome) = (plan.clone(), outcome.clone());
    let mut tries = 0;
    let mut still_fails = |candidate: &Plan| {
        tries += 1;
        if tries > TRIES_MAX {
            return None;
        }
        let outcome = run(candidate, None);
        let same = outcome.broken.as_ref().map(|broken| broken.promise) == promise;
        same.then_some(outcome)
    };
    let mut size = best.faults.len();
    while size > 0 {
        let mut at = 0;
        while at < best.faults.len() {
            let mut candidate = best.clone();
            let end = (at + size).min(candidate.faults.len());
            candidate.faults.drain(at..end);
            match still_fails(&candidate) {
                Some(outcome) => (best, best_outcome) = (candidate, outcome),
                None => at += size,
            }
        }
        size /= 2;
    }
    for phones in [1, 2, 3, 4, 6, 8] {
        if phones >= best.phones {
            break;
        }
        let candidate = Plan {
            phones,
            ..best.clone()
        };
        if let Some(outcome) = still_fails(&candidate) {
            (best, best_outcome) = (candidate, outcome);
            break;
        }
    }
    (best, best_outcome)
}
