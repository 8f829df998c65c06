//! Takes a run through its requests, and keeps its progress in the ledger: written ahead and waited for before a
//! request that must never be repeated, handed over in passing after the others.

use std::future::Future;

use super::clock::Clock;
use super::target::Done;
use crate::connector::http::Response;
use crate::connector::manifest::Effect;
use crate::connector::{Next, Prepared, Progress, Run};
use crate::ledger::{Claimed, Ledger};
use crate::outcome::{Class, Reason, Verdict};

/// What carries requests to a CRM.
pub(super) trait Carrier {
    /// Sends one request and gives its answer, whatever it says; the error says what the lack of one means.
    fn carry(&self, prepared: &Prepared) -> impl Future<Output = Result<Response, Verdict>> + Send;

    /// The credentials were refused.
    fn refused(&self) -> impl Future<Output = ()> + Send;
}

/// One attempt: from where earlier ones ended to its own end.
pub(super) async fn drive(
    mut run: Run<'_>,
    ledger: &Ledger,
    claimed: &Claimed,
    clock: &Clock,
    carrier: &(impl Carrier + Sync),
) -> Done {
    run.resume(&claimed.progress, clock.now());
    let mut written_ahead = false;
    loop {
        let next = run.next();
        let in_flight = run.in_flight().map(str::to_owned);
        let progress = Progress { done: run.progress(), in_flight, doubtful: Vec::new() };
        let prepared = match next {
            Next::Finished(report) => return Done { progress, ..Done::from(report) },
            Next::Send(prepared) => prepared,
        };
        if prepared.effect == Effect::Once {
            written_ahead = true;
            if let Err(verdict) = begin_once(ledger, claimed, &prepared, progress).await {
                run.failed(verdict);
                continue;
            }
        } else if written_ahead || !progress.done.is_empty() {
            ledger.note_progress(claimed.delivery, claimed.lease, progress, written_ahead);
            written_ahead = false;
        }
        let verdict = match carrier.carry(&prepared).await {
            Ok(response) => run.answer(&response, clock.now()),
            Err(verdict) => run.failed(verdict),
        };
        if verdict.reason == Reason::Unauthorized {
            carrier.refused().await;
        }
    }
}

async fn begin_once(
    ledger: &Ledger,
    claimed: &Claimed,
    prepared: &Prepared,
    progress: Progress,
) -> Result<(), Verdict> {
    let (step, digest) = (&prepared.step, &prepared.request_digest);
    let begun = ledger.begin_once(claimed.delivery, claimed.lease, step, digest, progress.done).await;
    let detail = match begun {
        Ok(true) => return Ok(()),
        Ok(false) => "another worker has the delivery now".to_owned(),
        Err(fault) => format!("the step `{step}` can't be written down before it is sent: {fault}"),
    };
    Err(Verdict::new(Class::Retry, Reason::Interrupted, detail))
}
