//! The version rule: what a session's new document means beside what the ledger has of it. Pure.
//!
//! Documents compare by the instant of `updated_at`; none counts as the oldest. Newer wins, older is
//! recorded and never sent, equal age with other content is a supplement and is merged.

/// A document as the rule sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp<'a> {
    /// `updated_at` in microseconds.
    pub(super) updated_us: Option<i64>,
    /// `session::version::digest`.
    pub(super) digest: &'a str,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// A session that the ledger does not have.
    First,
    /// It takes the place of the newest.
    Newer,
    /// The newest content once more; `true` if its instant moves the session's forward.
    Same { forward: bool },
    /// As old as the newest, with other content.
    EqualAge,
    /// Older than the newest.
    Older,
}

/// Judges an incoming document beside the newest.
///
/// The content of a *former* version is news when its instant is later: a value that was changed and
/// changed back. Otherwise what the CRM ends with would depend on the order of the mail.
pub(super) fn judge(newest: Option<Stamp<'_>>, incoming: Stamp<'_>) -> Judgement {
    let Some(newest) = newest else { return Judgement::First };
    if incoming.digest == newest.digest {
        return Judgement::Same { forward: incoming.updated_us > newest.updated_us };
    }
    match incoming.updated_us.cmp(&newest.updated_us) {
        std::cmp::Ordering::Greater => Judgement::Newer,
        std::cmp::Ordering::Equal => Judgement::EqualAge,
        std::cmp::Ordering::Less => Judgement::Older,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_as_a_table() {
        let newest = |updated_us| Some(Stamp { updated_us, digest: "a" });
        let table = [
            (None, Some(5), "a", Judgement::First),
            (newest(Some(5)), Some(6), "b", Judgement::Newer),
            (newest(Some(5)), Some(5), "b", Judgement::EqualAge),
            (newest(Some(5)), Some(4), "b", Judgement::Older),
            (newest(Some(5)), None, "b", Judgement::Older),
            (newest(None), Some(i64::MIN), "b", Judgement::Newer),
            (newest(None), None, "b", Judgement::EqualAge),
            (newest(Some(5)), Some(5), "a", Judgement::Same { forward: false }),
            (newest(Some(5)), Some(4), "a", Judgement::Same { forward: false }),
            (newest(Some(5)), None, "a", Judgement::Same { forward: false }),
            (newest(Some(5)), Some(6), "a", Judgement::Same { forward: true }),
            (newest(None), Some(6), "a", Judgement::Same { forward: true }),
        ];
        for (newest, updated_us, digest, expected) in table {
            assert_eq!(judge(newest, Stamp { updated_us, digest }), expected, "{newest:?} {updated_us:?} {digest}");
        }
    }
}
