//! `oauth2 = { … }`: which grant is asked for and where (RFC 6749 sections 4.4 and 6), with what Google and
//! Microsoft want filled in, as the form of a token request. Asks nobody.

use std::path::PathBuf;

use reqwest::Url;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::digest::sha256;
use crate::secret::Secret;
use crate::tls::is_loopback;

/// How an access token is got. With `refresh_token` the mailbox's owner has agreed once (the refresh-token
/// grant); without, the application acts by itself (the client-credentials grant).
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `"google"` or `"microsoft"`: fills in `token_url`, and `scope` where one is needed.
    #[serde(default)]
    pub provider: Option<Provider>,
    /// The directory (tenant) at Microsoft, as its id or domain. Needed for `provider = "microsoft"`.
    #[serde(default)]
    pub tenant: Option<String>,
    /// The token endpoint, `https`. Default: the provider's.
    #[serde(default)]
    pub token_url: Option<String>,
    /// The application's id at the provider.
    pub client_id: String,
    /// The application's secret: `{ env = "…" }`, `{ file = "…" }` or `{ command = "…" }`.
    #[serde(default)]
    pub client_secret: Option<Secret>,
    /// The refresh token that the owner's consent brought. If the provider exchanges it for newer ones, these
    /// are kept beside the ledger; a new token written here starts afresh.
    #[serde(default)]
    pub refresh_token: Option<Secret>,
    /// The scopes to ask for, separated by spaces. Default: the provider's for mail, or none.
    #[serde(default)]
    pub scope: Option<String>,
    /// A PEM file with authorities to trust at `token_url` besides those of the system. Default: none.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Beside which file newer refresh tokens are kept; the configuration fills it in.
    #[serde(skip)]
    pub state: PathBuf,
}

/// Who issues the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// Google Workspace and Gmail.
    Google,
    /// Microsoft 365 and Outlook.com.
    Microsoft,
}

impl Settings {
    /// What is wrong with the whole, as (path of the key below `oauth2`, sentence, hint).
    pub fn validate(&self) -> Vec<(&'static str, String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key, sentence: &str, hint: &str| faults.push((key, sentence.to_owned(), hint.to_owned()));
        if self.client_id.is_empty() {
            fault("oauth2.client_id", "`client_id` is empty", "write the application's id at the provider");
        }
        let microsoft = self.provider == Some(Provider::Microsoft);
        match &self.tenant {
            Some(_) if !microsoft => {
                fault("oauth2.tenant", "`tenant` is for `provider = \"microsoft\"`", "remove it, or name the provider");
            }
            Some(tenant)
                if tenant.is_empty() || !tenant.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c)) =>
            {
                let hint = "write the directory's id (a UUID) or a domain of it";
                fault("oauth2.tenant", "`tenant` names no directory", hint);
            }
            None if microsoft && self.token_url.is_none() => {
                let hint = "write the directory's id or a domain of it, such as `tenant = \"acme.example\"`";
                fault("oauth2", "`tenant` is missing for `provider = \"microsoft\"`", hint);
            }
            _ => {}
        }
        match (&self.token_url, self.provider) {
            (None, None) => {
                let hint = "write `provider = \"google\"` or `\"microsoft\"`, or the `token_url` of another";
                fault("oauth2", "nothing says where tokens come from", hint);
            }
            (Some(url), _) => match Url::parse(url) {
                Ok(url) if url.scheme() == "https" => {}
                Ok(url) if url.scheme() == "http" && url.host_str().is_some_and(is_this_machine) => {}
                Ok(_) => fault(
                    "oauth2.token_url",
                    "`token_url` would send credentials in clear over a network",
                    "it must begin with `https://`",
                ),
                Err(_) => fault("oauth2.token_url", "`token_url` is not a URL", "copy it from the provider's pages"),
            },
            _ => {}
        }
        if self.refresh_token.is_none() && self.provider == Some(Provider::Google) {
            let hint = "let the mailbox's owner agree once, and write the refresh token that this brings";
            fault("oauth2", "Google gives an application no token for a mailbox without a `refresh_token`", hint);
        } else if self.refresh_token.is_none() && self.client_secret.is_none() {
            let hint = "write `client_secret` (the application acts by itself) or `refresh_token` (for its owner)";
            fault("oauth2", "neither `client_secret` nor `refresh_token` is there", hint);
        }
        faults
    }

    /// The credentials that are needed.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.client_secret.iter().chain(&self.refresh_token)
    }

    fn token_url(&self) -> String {
        match (&self.token_url, self.provider) {
            (Some(url), _) => url.clone(),
            (None, Some(Provider::Microsoft)) => {
                let tenant = self.tenant.as_deref().unwrap_or("organizations");
                format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token")
            }
            (None, _) => "https://oauth2.googleapis.com/token".to_owned(),
        }
    }

    /// A refresh without a scope asks for what was agreed to; an application at Microsoft must name one.
    fn scope(&self) -> Option<String> {
        let by_itself = self.provider == Some(Provider::Microsoft) && self.refresh_token.is_none();
        self.scope.clone().or_else(|| by_itself.then(|| "https://outlook.office365.com/.default".to_owned()))
    }
}

/// What never leaves this machine may go in clear. A URL writes IPv6 in brackets.
pub(super) fn is_this_machine(host: &str) -> bool {
    is_loopback(host.trim_start_matches('[').trim_end_matches(']'))
}

/// Settings with their secrets read.
pub(super) struct Grant {
    /// The same for the same credentials, and says nothing of them.
    pub(super) identity: String,
    pub(super) token_url: Url,
    pub(super) refresh_token: Option<SecretString>,
    /// Where newer refresh tokens than this one are kept.
    pub(super) kept_in: PathBuf,
    client_id: String,
    client_secret: Option<SecretString>,
    scope: Option<String>,
}

impl Grant {
    /// Reads the secrets. The error is a sentence.
    pub(super) fn of(settings: &Settings) -> Result<Self, String> {
        let reveal = |secret: &Option<Secret>| secret.as_ref().map(Secret::reveal).transpose();
        let (client_secret, refresh_token) = (reveal(&settings.client_secret)?, reveal(&settings.refresh_token)?);
        let token_url = Url::parse(&settings.token_url()).map_err(|_| "`token_url` is not a URL".to_owned())?;
        let scope = settings.scope();
        let shown = |secret: &Option<SecretString>| secret.as_ref().map(|s| s.expose_secret().to_owned());
        let ca_file = settings.ca_file.as_ref().map(|path| path.display().to_string());
        let digest = |parts: &[Option<String>]| sha256(format!("{parts:?}").as_bytes());
        // The owner's consent, whatever is asked for with it.
        let consent = [Some(token_url.to_string()), Some(settings.client_id.clone()), shown(&refresh_token)];
        let mut kept_in = settings.state.clone().into_os_string();
        kept_in.push(format!(".oauth2-{}", digest(&consent).get(..16).unwrap_or_default()));
        let kept_in = PathBuf::from(kept_in);
        let rest = [shown(&client_secret), scope.clone(), ca_file, Some(kept_in.display().to_string())];
        Ok(Self {
            identity: digest(&[&consent[..], &rest].concat()),
            token_url,
            refresh_token,
            kept_in,
            client_id: settings.client_id.clone(),
            client_secret,
            scope,
        })
    }

    /// The body of a token request.
    pub(super) fn form(&self, refresh_token: Option<&SecretString>) -> String {
        let mut fields = match refresh_token {
            Some(token) => vec![("grant_type", "refresh_token"), ("refresh_token", token.expose_secret())],
            None => vec![("grant_type", "client_credentials")],
        };
        fields.push(("client_id", &self.client_id));
        fields.extend(self.client_secret.as_ref().map(|secret| ("client_secret", secret.expose_secret())));
        fields.extend(self.scope.as_deref().map(|scope| ("scope", scope)));
        let url = Url::parse_with_params("http://localhost", fields);
        url.ok().and_then(|url| url.query().map(str::to_owned)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Settings {
        toml::from_str(toml).expect("settings")
    }

    #[test]
    fn the_two_providers_need_little() {
        let microsoft = read("provider = 'microsoft'\ntenant = 'acme.example'\nclient_id = 'c'\nclient_secret = 's&'");
        assert_eq!(microsoft.validate(), []);
        let grant = Grant::of(&microsoft).expect("a grant");
        assert_eq!(grant.token_url.as_str(), "https://login.microsoftonline.com/acme.example/oauth2/v2.0/token");
        let form = "grant_type=client_credentials&client_id=c&client_secret=s%26&scope=https%3A%2F%2Foutlook.office365.com%2F.default";
        assert_eq!(grant.form(None), form);
        let google = read("provider = 'google'\nclient_id = 'c'\nclient_secret = 's'\nrefresh_token = 'r'");
        assert_eq!(google.validate(), []);
        let grant = Grant::of(&google).expect("a grant");
        assert_eq!(grant.token_url.as_str(), "https://oauth2.googleapis.com/token");
        let form = "grant_type=refresh_token&refresh_token=r&client_id=c&client_secret=s";
        assert_eq!(grant.form(grant.refresh_token.as_ref()), form);
    }

    #[test]
    fn what_can_not_be_is_named_with_its_key() {
        let keys = |toml: &str| read(toml).validate().into_iter().map(|(key, ..)| key).collect::<Vec<_>>();
        assert_eq!(keys("client_id = ''"), ["oauth2.client_id", "oauth2", "oauth2"]);
        assert_eq!(keys("client_id = 'c'\nprovider = 'google'\nclient_secret = 's'"), ["oauth2"]);
        assert_eq!(keys("client_id = 'c'\nprovider = 'microsoft'\nclient_secret = 's'"), ["oauth2"]);
        let at = |url: &str| keys(&format!("client_id = 'c'\nclient_secret = 's'\ntoken_url = '{url}'"));
        assert_eq!(at("http://login.acme.example/token"), ["oauth2.token_url"]);
        assert_eq!(at("nowhere"), ["oauth2.token_url"]);
        for fine in ["https://login.acme.example/token", "http://127.0.0.1:8/token", "http://[::1]:8/token"] {
            assert!(at(fine).is_empty(), "{fine}");
        }
        let slash = "client_id = 'c'\nclient_secret = 's'\nprovider = 'microsoft'\ntenant = 'a/b'";
        assert_eq!(keys(slash), ["oauth2.tenant"]);
    }

    #[test]
    fn other_credentials_are_another_identity() {
        let of =
            |more: &str| Grant::of(&read(&format!("client_id = 'c'\ntoken_url = 'https://a'\n{more}"))).expect("one");
        assert_eq!(of("refresh_token = 'r'").identity, of("refresh_token = 'r'").identity);
        assert_ne!(of("refresh_token = 'r'").identity, of("refresh_token = 'q'").identity);
        assert_ne!(of("client_secret = 'r'").identity, of("refresh_token = 'r'").identity);
        assert_eq!(of("refresh_token = 'r'").kept_in, of("refresh_token = 'r'\nscope = 'x'").kept_in);
    }
}
