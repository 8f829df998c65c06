//! Items that come one by one over many connections → batches, each committed at once: for sources that are
//! called instead of calling.
//!
//! Who hands an item in waits for its own answer. An item that can't be committed takes no others with it: a
//! batch that failed is handed over again item by item.

use tokio::sync::{mpsc, oneshot};

use super::{BATCH_BYTES, BATCH_ITEMS, Batch, Found, Inlet, Received, Settled};

/// What became of an item, and what was found in it if it was committed.
pub(super) type Answer = (Settled, Option<Found>);

/// Where connections hand in what they received. The gathering ends when all of them are dropped.
#[derive(Debug, Clone)]
pub(super) struct Counter {
    to: mpsc::Sender<(Received, oneshot::Sender<Answer>)>,
}

impl Counter {
    /// Hands an item in and waits for its commit.
    pub(super) async fn take(&self, item: Received) -> Answer {
        let (answer, answered) = oneshot::channel();
        let again = || (Settled::TryAgain("intake has stopped".to_owned()), None);
        if self.to.send((item, answer)).await.is_err() {
            return again();
        }
        answered.await.unwrap_or_else(|_| again())
    }
}

/// A counter, and the work behind it.
pub(super) fn open(inlet: Inlet) -> (Counter, impl Future<Output = ()> + Send) {
    let (to, waiting) = mpsc::channel(BATCH_ITEMS);
    (Counter { to }, gather(inlet, waiting))
}

async fn gather(inlet: Inlet, mut waiting: mpsc::Receiver<(Received, oneshot::Sender<Answer>)>) {
    while let Some((first, answer)) = waiting.recv().await {
        let mut bytes = first.content.len();
        let (mut items, mut answers) = (vec![first], vec![answer]);
        while items.len() < BATCH_ITEMS && bytes < BATCH_BYTES {
            let Ok((item, answer)) = waiting.try_recv() else { break };
            bytes += item.content.len();
            items.push(item);
            answers.push(answer);
        }
        let alone = (items.len() > 1).then(|| items.clone());
        let mut settled = hand_over(&inlet, items).await;
        if let Some(items) = alone.filter(|_| settled.iter().any(|(s, _)| matches!(s, Settled::TryAgain(_)))) {
            settled.clear();
            for item in items {
                settled.append(&mut hand_over(&inlet, vec![item]).await);
            }
        }
        for (answer, settled) in answers.into_iter().zip(settled) {
            // Who no longer waits has hung up, and sends it again.
            let _ = answer.send(settled);
        }
    }
}

async fn hand_over(inlet: &Inlet, items: Vec<Received>) -> Vec<Answer> {
    let (settled, found) = inlet.hand_over_asking(Batch { items, position: None }).await;
    let found = found.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
    settled.into_iter().zip(found).collect()
}
