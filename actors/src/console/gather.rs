//! What several nodes answer to one question, and how it becomes one answer.
//!
//! In: the nodes asked, their answers one by one. Out: merged rows, the first actor found, who has
//! not answered. A node that says nothing is named, never waited for longer than the question allows.

use contract::{ActorRow, ActorView, Answer, NodeId, TraceLine};

use super::Page;

/// One node asked.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Which.
    pub(super) node: NodeId,
    /// Its name.
    pub(super) name: String,
    /// What it said; `None` while it has not, or if it cannot be reached.
    pub(super) answer: Option<Answer>,
    /// It will not answer.
    pub(super) is_lost: bool,
}

impl Part {
    pub(super) const fn new(node: NodeId, name: String) -> Self {
        Part {
            node,
            name,
            answer: None,
            is_lost: false,
        }
    }

    /// Tells whether nothing more is to come of it.
    pub(super) const fn is_done(&self) -> bool {
        self.is_lost || self.answer.is_some()
    }
}

/// Returns the names of nodes that did not answer, each once.
pub(super) fn missing(parts: &[Part]) -> Vec<String> {
    let silent = parts.iter().filter(|part| part.answer.is_none());
    let mut names: Vec<String> = silent.map(|part| part.name.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// A row, and the node it is of.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) row: ActorRow,
    pub(super) node: NodeId,
    pub(super) name: String,
}

/// Merges the rows of all nodes in the order of their IDs and cuts the page out; and the count of all.
pub(super) fn rows(parts: Vec<Part>, page: Page) -> (Vec<Row>, usize) {
    let mut merged = Vec::new();
    let mut all = 0;
    for part in parts {
        if let Some(Answer::Actors { rows, total }) = part.answer {
            all += total;
            let (node, name) = (part.node, part.name);
            merged.extend(rows.into_iter().map(|row| Row {
                row,
                node,
                name: name.clone(),
            }));
        }
    }
    merged.sort_by(|one, other| {
        one.row
            .id
            .cmp(&other.row.id)
            .then(one.node.cmp(&other.node))
    });
    let cut = merged.into_iter().skip(page.offset).take(page.limit);
    (cut.collect(), all)
}

/// Returns the actor that a node has: one that runs before one that is only a record.
pub(super) fn actor(parts: Vec<Part>) -> Option<(Box<ActorView>, Part)> {
    let mut found: Option<(Box<ActorView>, Part)> = None;
    for mut part in parts {
        if let Some(Answer::Actor(Some(view))) = part.answer.take() {
            let is_better = found.as_ref().is_none_or(|(known, _)| {
                (view.row.live, view.row.epoch) > (known.row.live, known.row.epoch)
            });
            if is_better {
                found = Some((view, part));
            }
        }
    }
    found
}

/// Merges the trace lines of all nodes in the order of time.
pub(super) fn trace(parts: Vec<Part>) -> Vec<TraceLine> {
    let mut lines = Vec::new();
    for part in parts {
        if let Some(Answer::Trace(more)) = part.answer {
            lines.extend(more);
        }
    }
    lines.sort_by_key(|line| line.at);
    lines
}
