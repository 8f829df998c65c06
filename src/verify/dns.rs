//! Where the checks ask: the resolver of this machine, or a zone file that knows everything there is.
//!
//! The resolver keeps what it was told for as long as DNS says, a bounded number of names, and at most an
//! hour (five minutes for names that are not there): keys change.

use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use mail_auth::MessageAuthenticator;
use mail_auth::hickory_resolver::config::{ResolverConfig, ResolverOpts};
use mail_auth::hickory_resolver::proto::rr::{Name, RData};
use mail_auth::hickory_resolver::system_conf::read_system_conf;

use super::zone::Zone;

/// How long one server gets for one answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Answers that are kept.
const CACHE: u64 = 4096;

/// Why there is no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missing {
    /// DNS says so.
    NotThere,
    /// DNS says nothing: temporary.
    NoAnswer(String),
}

/// Where to ask.
#[derive(Debug)]
pub enum Dns {
    /// The servers that this machine uses.
    Network(Network),
    /// A zone file: nothing else exists, and the network is not used.
    Zone(Box<Zone>),
}

impl Dns {
    /// The servers that this machine uses; they are looked up at the first question.
    pub fn network() -> Self {
        Self::Network(Network::default())
    }

    /// All TXT records of a name, each put together from its strings. The name is in lower case and ends
    /// with a dot.
    pub(super) async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, Missing> {
        let network = match self {
            Self::Zone(zone) => return zone.txt(name),
            Self::Network(network) => network.get().map_err(Missing::NoAnswer)?,
        };
        let name = Name::from_ascii(name).map_err(|_| Missing::NotThere)?;
        match network.resolver().txt_lookup(name).await {
            Ok(answer) => {
                let texts = answer.answers().iter().filter_map(|record| match &record.data {
                    RData::TXT(txt) => Some(txt.txt_data.iter().flat_map(|part| part.iter().copied()).collect()),
                    _ => None,
                });
                Ok(texts.collect())
            }
            Err(error) if error.is_no_records_found() => Err(Missing::NotThere),
            Err(_) => Err(Missing::NoAnswer("DNS did not answer".to_owned())),
        }
    }
}

/// The resolver of this machine, built when it is first needed.
#[derive(Default)]
pub struct Network {
    resolver: OnceLock<Result<Arc<MessageAuthenticator>, String>>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Network")
    }
}

impl Network {
    /// The resolver, or why there is none.
    pub(super) fn get(&self) -> Result<Arc<MessageAuthenticator>, String> {
        let build = || {
            let (config, mut options) =
                read_system_conf().map_err(|error| format!("the resolver of this machine can't be set up: {error}"))?;
            options.timeout = TIMEOUT;
            options.attempts = 2;
            options.cache_size = CACHE;
            options.positive_max_ttl = Some(Duration::from_secs(3600));
            options.negative_max_ttl = Some(Duration::from_secs(300));
            let resolver = MessageAuthenticator::new(config, options);
            resolver.map(Arc::new).map_err(|error| format!("the resolver can't be set up: {error}"))
        };
        self.resolver.get_or_init(build).clone()
    }
}

/// What does the cryptography. It has no servers to ask: every answer is given to it.
pub(super) fn verifier() -> Result<&'static MessageAuthenticator, String> {
    static VERIFIER: LazyLock<Result<MessageAuthenticator, String>> = LazyLock::new(|| {
        let nowhere = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        MessageAuthenticator::new(nowhere, ResolverOpts::default()).map_err(|error| error.to_string())
    });
    VERIFIER.as_ref().map_err(Clone::clone)
}
