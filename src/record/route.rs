//! Which sessions go to which destinations: the `[[route]]` tables of the configuration.
//!
//! A session goes to the destinations of every route that matches it, each once. Without any route it goes
//! to every destination. Pure: called inside the ledger's transaction with the newest, merged session.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::session::{Channel, Session};

/// One `[[route]]`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// What a session must be like. Without it, every session matches.
    #[serde(default, rename = "match")]
    pub matching: Match,
    /// The names of destinations.
    pub to: Vec<String>,
}

/// Conditions on a session: all that are given must hold. A list holds if one of its words fits.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// `voice` or `chat`.
    pub channel: Option<Channel>,
    /// Session status words, such as `finished`.
    pub status: Option<OneOrMany>,
    /// Contact-centre instances, as the sources name them.
    pub instance: Option<OneOrMany>,
    /// Session types in normal form, such as `voice_inbound_ivr`.
    pub session_type: Option<OneOrMany>,
    /// Menu paths; a path also covers those below it.
    pub menu_path: Option<OneOrMany>,
    /// Languages.
    pub lang: Option<OneOrMany>,
    /// Disposition codes; one of the session's must be among them.
    pub disposition: Option<OneOrMany>,
    /// True: only sessions with a disposition; false: only those without.
    pub has_disposition: Option<bool>,
    /// True: only sessions whose OutTicket ID names an account; false: only those whose names a case.
    pub is_out_ticket_account: Option<bool>,
}

/// A word or a list of words.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One word.
    One(String),
    /// Several: one of them must fit.
    Many(Vec<String>),
}

impl OneOrMany {
    fn any(&self, fits: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::One(word) => fits(word),
            Self::Many(words) => words.iter().any(|w| fits(w)),
        }
    }

    /// The words.
    pub fn words(&self) -> &[String] {
        match self {
            Self::One(word) => std::slice::from_ref(word),
            Self::Many(words) => words,
        }
    }
}

impl Match {
    /// True if the session is as all given conditions say.
    pub fn matches(&self, session: &Session) -> bool {
        let word = |wanted: &Option<OneOrMany>, value: Option<&str>| match wanted {
            None => true,
            Some(wanted) => value.is_some_and(|v| wanted.any(|w| w.eq_ignore_ascii_case(v))),
        };
        self.channel.is_none_or(|c| c == session.channel)
            && word(&self.status, session.status.as_deref())
            && word(&self.instance, Some(&session.instance))
            && word(&self.session_type, session.session_type.as_deref())
            && word(&self.lang, session.lang.as_deref())
            && self
                .menu_path
                .as_ref()
                .is_none_or(|wanted| session.menu_path.as_deref().is_some_and(|path| wanted.any(|w| below(path, w))))
            && self.disposition.as_ref().is_none_or(|wanted| {
                session.dispositions.iter().filter_map(|d| d.code.as_deref()).any(|code| wanted.any(|w| w == code))
            })
            && self.has_disposition.is_none_or(|wanted| wanted != session.dispositions.is_empty())
            && self.is_out_ticket_account.is_none_or(|wanted| wanted == session.is_out_ticket_account.unwrap_or(false))
    }
}

fn below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The destinations that a session goes to, each once, in the order of the routes.
pub fn destinations<'a>(routes: &'a [Route], all: &'a [String], session: &Session) -> Vec<&'a str> {
    if routes.is_empty() {
        return all.iter().map(String::as_str).collect();
    }
    let mut found: Vec<&str> = Vec::new();
    for route in routes.iter().filter(|r| r.matching.matches(session)) {
        for name in &route.to {
            if !found.contains(&name.as_str()) {
                found.push(name);
            }
        }
    }
    found
}
