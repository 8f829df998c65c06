//! A clock over the reading of strangers' messages: what takes too long is given up, and holds up nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::joined;
use crate::source::Received;

/// Does the work for each item on a thread of its own. An item that takes longer than `patience` gives `None`:
/// its thread is left to end alone, and another one goes on with the next item.
pub(super) async fn in_time<T: Send + 'static>(
    items: &Arc<[Received]>,
    patience: Duration,
    work: impl Fn(&Received) -> T + Clone + Send + 'static,
) -> Vec<Option<T>> {
    let mut done = Vec::with_capacity(items.len());
    while done.len() < items.len() {
        let (first, all, work) = (done.len(), items.clone(), work.clone());
        let (to_us, mut results) = mpsc::channel(items.len());
        let (begun, begins) = oneshot::channel();
        let worker = tokio::task::spawn_blocking(move || {
            let _ = begun.send(());
            for item in all.iter().skip(first) {
                if to_us.blocking_send(work(item)).is_err() {
                    return;
                }
            }
        });
        // The clock does not run while all threads are busy.
        let _ = begins.await;
        loop {
            match tokio::time::timeout(patience, results.recv()).await {
                Ok(Some(result)) => done.push(Some(result)),
                Ok(None) => {
                    joined(worker.await);
                    break;
                }
                Err(_) => {
                    done.push(None);
                    break;
                }
            }
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Content, Envelope};

    #[tokio::test]
    async fn an_item_that_takes_too_long_is_given_up_and_those_behind_it_go_on() {
        let (let_go, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        let item = |input: &str| Received {
            input: input.to_owned(),
            content: Content::Mail(bytes::Bytes::new()),
            envelope: Envelope::default(),
            received_at: None,
        };
        let items: Arc<[Received]> = Arc::new([item("a"), item("stuck"), item("b")]);
        let work = move |item: &Received| {
            if item.input == "stuck" {
                let _ = held.lock().expect("one at a time").recv();
            }
            item.input.clone()
        };
        let done = in_time(&items, Duration::from_secs(1), work).await;
        assert_eq!(done, [Some("a".to_owned()), None, Some("b".to_owned())]);
        drop(let_go);
    }
}
