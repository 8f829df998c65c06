//! Rate rules as token buckets: when a request may go so that in no stretch of `per_seconds` more than
//! `requests` are sent. Pure: time is an argument.
//!
//! A bucket of `burst` tokens that gets one back every `per_seconds / (requests - burst + 1)` seconds keeps that
//! promise wherever the stretch begins. At the start of the process buckets are half full: what the last one
//! sent in the stretch before is not known, so it is taken neither for nothing nor for everything.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::connector::manifest::{Rate, RateKey};

/// Buckets of one rule that are kept before full ones are forgotten.
const KEPT: usize = 4_096;

/// The rates of one destination.
#[derive(Debug)]
pub(super) struct Rates {
    rules: Vec<Rule>,
    begun: Timestamp,
    /// Requests that a delivery costs, as seen lately.
    cost: f64,
}

#[derive(Debug)]
struct Rule {
    key: RateKey,
    steps: Vec<String>,
    burst: f64,
    per_second: f64,
    /// By record or step; by nothing for the whole destination.
    buckets: HashMap<String, Bucket>,
    kept: usize,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl Rates {
    /// Buckets for these rules, half full.
    pub(super) fn new(rules: &[Rate], now: Timestamp) -> Self {
        Self { rules: rules.iter().map(Rule::new).collect(), begun: now, cost: 1.0 }
    }

    /// How long a delivery to this record would have to wait for its first request. What only some steps are
    /// limited by is not looked at, unless it is counted by record: whether they are needed is not known yet.
    pub(super) fn wait(&self, record: &str, now: Timestamp) -> Duration {
        let whole = self.rules.iter().filter(|rule| match rule.key {
            RateKey::Destination => rule.steps.is_empty(),
            RateKey::Record => true,
            RateKey::Step => false,
        });
        whole.map(|rule| rule.wait(rule.bucket(rule.name("", record), self.begun, now))).max().unwrap_or_default()
    }

    /// Takes a request's place and says how long it has to wait for it; if that is longer than `patience`, no
    /// place is taken, and the error says how long it would be.
    pub(super) fn take(
        &mut self,
        step: &str,
        record: &str,
        patience: Duration,
        now: Timestamp,
    ) -> Result<Duration, Duration> {
        let begun = self.begun;
        let concerned = |rule: &&mut Rule| rule.steps.is_empty() || rule.steps.iter().any(|s| s == step);
        let mut longest = Duration::ZERO;
        for rule in self.rules.iter_mut().filter(concerned) {
            longest = longest.max(rule.wait(rule.bucket(rule.name(step, record), begun, now)));
        }
        if longest > patience {
            return Err(longest);
        }
        for rule in self.rules.iter_mut().filter(concerned) {
            let name = rule.name(step, record).to_owned();
            let bucket = rule.bucket(&name, begun, now);
            rule.buckets.insert(name, Bucket { tokens: bucket.tokens - 1.0, ..bucket });
            rule.forget(now);
        }
        Ok(longest)
    }

    /// How many deliveries may begin within this time, by what is counted for all of them together.
    pub(super) fn room(&self, within: Duration, now: Timestamp) -> usize {
        let whole = self.rules.iter().filter(|rule| rule.key == RateKey::Destination && rule.steps.is_empty());
        let room = whole.map(|rule| {
            let tokens = rule.bucket("", self.begun, now).tokens + rule.per_second * within.as_secs_f64();
            (tokens / self.cost).max(0.0) as usize
        });
        room.min().unwrap_or(usize::MAX)
    }

    /// A delivery took so many requests.
    pub(super) fn costs(&mut self, requests: usize) {
        if requests > 0 {
            self.cost += (requests as f64 - self.cost) / 16.0;
        }
    }
}

impl Rule {
    fn new(rate: &Rate) -> Self {
        let burst = rate.burst.unwrap_or(rate.requests / 10).clamp(1, rate.requests.max(1));
        Self {
            key: rate.key,
            steps: rate.steps.clone(),
            burst: f64::from(burst),
            per_second: (f64::from(rate.requests.max(1)) - f64::from(burst) + 1.0) / f64::from(rate.per_seconds.max(1)),
            buckets: HashMap::new(),
            kept: KEPT,
        }
    }

    fn name<'a>(&self, step: &'a str, record: &'a str) -> &'a str {
        match self.key {
            RateKey::Destination => "",
            RateKey::Record => record,
            RateKey::Step => step,
        }
    }

    /// The bucket as it is now.
    fn bucket(&self, name: &str, begun: Timestamp, now: Timestamp) -> Bucket {
        let last = self.buckets.get(name).copied().unwrap_or(Bucket { tokens: self.burst / 2.0, at: begun });
        let seconds = now.duration_since(last.at).as_secs_f64().max(0.0);
        Bucket { tokens: (last.tokens + seconds * self.per_second).min(self.burst), at: last.at.max(now) }
    }

    fn wait(&self, bucket: Bucket) -> Duration {
        Duration::from_secs_f64((1.0 - bucket.tokens).max(0.0) / self.per_second)
    }

    /// A full bucket is as good as none.
    fn forget(&mut self, now: Timestamp) {
        if self.buckets.len() < self.kept {
            return;
        }
        let (burst, per_second) = (self.burst, self.per_second);
        self.buckets.retain(|_, b| b.tokens + now.duration_since(b.at).as_secs_f64() * per_second < burst);
        self.kept = KEPT.max(2 * self.buckets.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(100_000);

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).expect("a time")
    }

    fn rate(requests: u32, per_seconds: u32, key: RateKey) -> Rate {
        Rate { requests, per_seconds, key, steps: Vec::new(), burst: None, transport: None }
    }

    /// The moments at which requests go that all want to go at once.
    fn moments(rates: &mut Rates, count: usize, from: i64) -> Vec<i64> {
        let wait = |rates: &mut Rates| rates.take("update", "1", LONG, at(from)).expect("a place").as_millis() as i64;
        (0..count).map(|_| from + wait(rates)).collect()
    }

    #[test]
    fn in_no_stretch_of_the_time_more_go_than_the_rule_says() {
        for (requests, per_seconds, burst) in
            [(100, 60, None), (190, 10, None), (30, 600, Some(30)), (5, 1, Some(2)), (1, 10, None), (7, 3, Some(7))]
        {
            let mut rates = Rates::new(&[Rate { burst, ..rate(requests, per_seconds, RateKey::Destination) }], at(0));
            // After a quiet time the bucket is full: the worst case.
            let moments = moments(&mut rates, 3 * requests as usize + 2, 10_000_000);
            let stretch = i64::from(per_seconds) * 1_000;
            for first in &moments {
                let within = moments.iter().filter(|m| **m >= *first && **m < first + stretch - 1).count();
                assert!(within <= requests as usize, "{within} of {requests} in {per_seconds} s, burst {burst:?}");
            }
            let last = moments.last().expect("moments") - moments.first().expect("moments");
            assert!(
                burst.is_some() || last <= 4 * stretch,
                "and it is not much slower either: {last} ms for three times {requests}"
            );
        }
    }

    #[test]
    fn buckets_begin_half_full_and_are_full_after_a_while() {
        let mut rates = Rates::new(&[rate(100, 60, RateKey::Destination)], at(0));
        assert_eq!(rates.room(Duration::ZERO, at(0)), 5);
        assert_eq!(rates.room(Duration::ZERO, at(60_000)), 10);
        for _ in 0..10 {
            assert_eq!(rates.take("update", "1", LONG, at(60_000)), Ok(Duration::ZERO));
        }
        assert_eq!(rates.room(Duration::ZERO, at(60_000)), 0);
        assert!(rates.take("update", "1", Duration::ZERO, at(60_000)).is_err());
        assert_eq!(rates.room(Duration::from_secs(2), at(60_000)), 3);
        for _ in 0..200 {
            rates.costs(3);
        }
        assert_eq!(rates.room(Duration::from_secs(2), at(120_000)), 4, "a delivery costs three requests");
    }

    #[test]
    fn a_record_waits_for_its_own_bucket_alone() {
        let mut rates =
            Rates::new(&[rate(2, 600, RateKey::Record), rate(1_000, 1, RateKey::Destination)], at(-900_000));
        assert_eq!(rates.take("update", "1", LONG, at(0)), Ok(Duration::ZERO));
        assert_eq!(rates.wait("1", at(0)), Duration::from_secs(300));
        assert_eq!(rates.wait("2", at(0)), Duration::ZERO);
        assert_eq!(rates.take("update", "1", Duration::from_secs(20), at(0)), Err(Duration::from_secs(300)));
        assert_eq!(rates.take("update", "2", LONG, at(0)), Ok(Duration::ZERO));
        assert_eq!(rates.wait("1", at(300_000)), Duration::ZERO);
    }

    #[test]
    fn a_rule_of_some_steps_leaves_the_others_alone() {
        let only = Rate { steps: vec!["search".to_owned()], ..rate(5, 1, RateKey::Step) };
        let mut rates = Rates::new(&[only], at(-60_000));
        assert_eq!(rates.take("search", "1", LONG, at(0)), Ok(Duration::ZERO));
        assert_eq!(rates.take("search", "2", LONG, at(0)), Ok(Duration::from_millis(200)));
        assert_eq!(rates.take("update", "1", LONG, at(0)), Ok(Duration::ZERO));
        assert_eq!(rates.wait("1", at(0)), Duration::ZERO, "whether the step is needed is not known before");
        assert_eq!(rates.room(Duration::ZERO, at(0)), usize::MAX);
    }

    #[test]
    fn buckets_of_many_records_are_forgotten_once_they_are_full() {
        let mut rates = Rates::new(&[rate(10, 1, RateKey::Record)], at(0));
        for n in 0..50_000 {
            rates.take("update", &n.to_string(), LONG, at(n)).expect("a place");
        }
        assert!(rates.rules.iter().all(|rule| rule.buckets.len() <= 2 * KEPT));
    }
}
