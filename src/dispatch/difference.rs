//! What a delivery of a stored session would send today that was not sent before: for `replay`. Renders what a
//! delivery renders, sends nothing.
//!
//! What wrote the marker of this very delivery is not written a second time because its words changed; it is named.

use jiff::Timestamp;

use super::target::{Preview, STORE, Shown, show};
use crate::connector::manifest::Effect;
use crate::connector::{Inputs, email};
use crate::outcome::Verdict;

/// What a delivery would do now.
#[derive(Debug)]
pub struct Difference {
    /// The steps that would change something, in order.
    pub steps: Vec<String>,
    /// Steps that say something else than before, and leave it: their marker is in the record.
    pub kept: Vec<String>,
    /// The requests, the mail or the file.
    pub preview: Preview,
}

/// Renders a delivery; the verdict says why it can't be sent.
pub fn differs(way: &Shown<'_>, name: &str, inputs: Inputs<'_>, date: Timestamp) -> Result<Difference, Verdict> {
    let marked = inputs.marked;
    let (preview, steps) = turn(way, name, inputs.clone(), date)?;
    let kept = if marked.is_empty() {
        Vec::new()
    } else {
        let (_, all) = turn(way, name, Inputs { marked: &[], ..inputs }, date)?;
        all.into_iter().filter(|step| marked.contains(step) && !steps.contains(step)).collect()
    };
    Ok(Difference { steps, kept, preview })
}

fn turn(way: &Shown<'_>, name: &str, inputs: Inputs<'_>, date: Timestamp) -> Result<(Preview, Vec<String>), Verdict> {
    let (applied, marked, digest) = (inputs.applied, inputs.marked, inputs.digest);
    let preview = show(way, name, inputs, date)?;
    let steps = match &preview {
        Preview::Requests(requests) => {
            let changes = requests.iter().filter(|r| !matches!(r.effect, Effect::Read | Effect::Orphanable));
            changes.map(|request| request.step.clone()).collect()
        }
        Preview::Mail(mail) => {
            let is_said = mail.is_applied(applied) || marked.iter().any(|step| step == email::STEP);
            if is_said { Vec::new() } else { vec![email::STEP.to_owned()] }
        }
        Preview::File(..) => {
            let is_stored = applied.iter().any(|(step, stored)| step == STORE && stored == digest);
            if is_stored { Vec::new() } else { vec![STORE.to_owned()] }
        }
    };
    Ok((preview, steps))
}
