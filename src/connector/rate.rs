//! The rates of a destination: what its connector says and what the operator adds, checked against the steps that
//! there are. When a request may go by them is the dispatcher's business.

use super::email;
use super::manifest::{Manifest, Rate, RateKey, Transport};
use crate::diagnostic::{Diagnostics, suggest};
use crate::settings::Places;

/// Checks a list of rates that stands at `at`. Without a manifest it is a storage destination's.
pub(crate) fn check_rates(
    rates: &[Rate],
    manifest: Option<(&Manifest, Transport)>,
    places: &Places,
    at: &[&str],
    faults: &mut Diagnostics,
) {
    let mut known: Vec<&str> = manifest.iter().flat_map(|(m, _)| m.step.iter().map(|s| s.id.as_str())).collect();
    if manifest.is_some_and(|(m, _)| m.email.is_some()) {
        known.push(email::STEP);
    }
    for (i, rate) in rates.iter().enumerate() {
        let i = i.to_string();
        let mut fault = |rest: &[&str], code, message: String, hint: String| {
            faults.push(places.fault(&[at, &[i.as_str()], rest].concat(), code, message).hint(hint));
        };
        if rate.burst.is_some_and(|burst| burst > rate.requests) {
            let message = "`burst` is more than `requests`".to_owned();
            fault(&["burst"], "bad_value", message, "it is a part of them; leave it away for a tenth".to_owned());
        }
        for (n, step) in rate.steps.iter().enumerate().filter(|(_, step)| !known.contains(&step.as_str())) {
            let message = format!("there is no step `{step}`");
            fault(&["steps", &n.to_string()], "unknown_step", message, suggest(step, known.iter().copied()));
        }
    }
}

/// The rates that hold for a destination: the connector's for its transport, the operator's own in the place of
/// those that count the same, then the rest of them.
pub(crate) fn rates_of(manifest: Option<(&Manifest, Transport)>, own: &[Rate]) -> Vec<Rate> {
    let counts = |rate: &Rate| -> (RateKey, Vec<String>, u32) {
        let mut steps = rate.steps.clone();
        steps.sort();
        (rate.key, steps, rate.per_seconds)
    };
    let given = manifest.into_iter().flat_map(|(manifest, transport)| {
        manifest.rate.iter().filter(move |rate| rate.transport.is_none_or(|only| only == transport))
    });
    let kept = given.filter(|rate| !own.iter().any(|own| counts(own) == counts(rate)));
    kept.chain(own).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(requests: u32, per_seconds: u32, steps: &[&str]) -> Rate {
        let steps = steps.iter().map(|s| (*s).to_owned()).collect();
        Rate { requests, per_seconds, key: RateKey::Destination, steps, burst: None, transport: None }
    }

    #[test]
    fn an_operators_rate_takes_the_place_of_the_one_that_counts_the_same() {
        let text = r#"
            name = "x"
            title = "X"
            transports = ["rest"]
            rate = [
                { requests = 200, per_seconds = 60 },
                { requests = 100, per_seconds = 60, steps = ["b", "a"] },
                { requests = 9, per_seconds = 1, transport = "email" },
            ]
        "#;
        let manifest: Manifest = toml::from_str(text).expect("a manifest");
        let own = [rate(700, 60, &[]), rate(50, 60, &["a", "b"]), rate(1, 5, &[])];
        assert_eq!(rates_of(Some((&manifest, Transport::Rest)), &own), own);
        let both = [rate(200, 60, &[]), rate(100, 60, &["b", "a"]), rate(3, 5, &[])];
        assert_eq!(rates_of(Some((&manifest, Transport::Rest)), &both[2..]), both);
        assert_eq!(rates_of(None, &own), own);
    }
}
