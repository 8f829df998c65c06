//! `oauth2 = { … }`: which grant is asked for and where (RFC 6749 sections 4.4 and 6), with what Google and
//! Microsoft want filled in, or what a CRM's manifest says, as a token request. Asks nobody.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::ask::{Ask, Base, How, SendAs};
use super::assertion::Signer;
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
    pub(super) words: Words,
    /// Seconds that a token is used whose life is not told.
    pub(super) life: Option<u32>,
    pub(super) base: Option<Arc<Base>>,
    pub(super) ca_file: Option<PathBuf>,
    send_as: SendAs,
    /// What never changes from request to request: name, value, and whether it is the client's own id or secret.
    fields: Vec<(String, SecretString)>,
    client: Option<(SecretString, SecretString)>,
    signer: Option<Signer>,
}

/// What credentials are called where the operator writes them, for messages.
pub(super) struct Words {
    /// The key of the client's id and secret.
    pub(super) client: &'static str,
    /// The key of what is shown as the grant.
    pub(super) consent: &'static str,
    /// The key of the token endpoint.
    pub(super) address: &'static str,
    /// The key of the scope.
    pub(super) scope: &'static str,
}

const OF_MAILBOXES: Words = Words {
    client: "`oauth2.client_id` and `oauth2.client_secret`",
    consent: "`oauth2.refresh_token`",
    address: "`oauth2.token_url`",
    scope: "`oauth2.scope`",
};

const OF_DESTINATIONS: Words = Words {
    client: "the client's id and secret (or key) in the destination's settings",
    consent: "the refresh token (or the user that the client acts for) in the destination's settings",
    address: "the settings that the token address is made of",
    scope: "the scope",
};

impl Grant {
    /// Reads the secrets of a mailbox. The error is a sentence.
    pub(super) fn of(settings: &Settings) -> Result<Self, String> {
        let how = match &settings.refresh_token {
            Some(token) => How::RefreshToken(token.clone()),
            None => How::ClientCredentials,
        };
        let ask = Ask {
            token_url: settings.token_url(),
            how,
            send_as: SendAs::Form,
            client_id: Some(settings.client_id.clone()),
            client_secret: settings.client_secret.clone(),
            assertion: None,
            params: settings.scope().map(|scope| ("scope".to_owned(), scope)).into_iter().collect(),
            secret_params: Vec::new(),
            life: None,
            base: None,
            ca_file: settings.ca_file.clone(),
        };
        Self::read(&ask, &settings.state, OF_MAILBOXES)
    }

    /// Reads the secrets of a destination. The error is a sentence.
    pub(super) fn of_destination(ask: &Ask, state: &Path) -> Result<Self, String> {
        Self::read(ask, state, OF_DESTINATIONS)
    }

    fn read(ask: &Ask, state: &Path, words: Words) -> Result<Self, String> {
        let token_url =
            Url::parse(&ask.token_url).map_err(|_| format!("the token address `{}` is not a URL", ask.token_url))?;
        let client_secret = ask.client_secret.as_ref().map(Secret::reveal).transpose()?;
        let (grant_type, refresh_token) = match &ask.how {
            How::ClientCredentials => ("client_credentials", None),
            How::RefreshToken(token) => ("refresh_token", Some(token.reveal()?)),
            How::JwtBearer => (JWT_BEARER, None),
        };
        let shown = |secret: &Option<SecretString>| secret.as_ref().map(|s| s.expose_secret().to_owned());
        let digest = |parts: &[Option<String>]| sha256(format!("{parts:?}").as_bytes());
        // The owner's consent, whatever is asked for with it.
        let consent = [Some(token_url.to_string()), ask.client_id.clone(), shown(&refresh_token)];
        let mut kept_in = state.to_owned().into_os_string();
        kept_in.push(format!(".oauth2-{}", digest(&consent).get(..16).unwrap_or_default()));
        let kept_in = PathBuf::from(kept_in);
        let mut fields: Vec<(String, SecretString)> = vec![("grant_type".into(), grant_type.to_owned().into())];
        let own = |text: &String| SecretString::from(text.clone());
        let client = match (ask.send_as, &ask.client_id) {
            (SendAs::Basic, Some(id)) => Some((own(id), client_secret.clone().unwrap_or_default())),
            (_, id) => {
                fields.extend(id.iter().map(|id| ("client_id".to_owned(), own(id))));
                fields.extend(client_secret.iter().map(|secret| ("client_secret".to_owned(), secret.clone())));
                None
            }
        };
        fields.extend(ask.params.iter().filter(|(_, v)| !v.is_empty()).map(|(name, value)| (name.clone(), own(value))));
        for (name, secret) in &ask.secret_params {
            fields.push((name.clone(), secret.reveal()?));
        }
        let key = ask.assertion.as_ref().map(|a| a.key.reveal()).transpose()?;
        let signer = match ask.assertion.as_ref().zip(key.as_ref()) {
            Some((assertion, key)) => Some(Signer::new(assertion, key)?),
            None => None,
        };
        let mut all: Vec<Option<String>> = consent.to_vec();
        all.extend(
            fields.iter().flat_map(|(name, value)| [Some(name.clone()), Some(value.expose_secret().to_owned())]),
        );
        let paths = [Some(kept_in.display().to_string()), ask.ca_file.as_ref().map(|path| path.display().to_string())];
        all.extend(paths);
        all.extend([shown(&client_secret), shown(&key), ask.assertion.as_ref().map(|a| format!("{a:?}"))]);
        // The rest of what an answer is taken for.
        all.push(Some(format!("{:?} {:?} {:?}", ask.send_as, ask.life, ask.base)));
        Ok(Self {
            identity: digest(&all),
            token_url,
            refresh_token,
            kept_in,
            words,
            life: ask.life,
            base: ask.base.clone(),
            ca_file: ask.ca_file.clone(),
            send_as: ask.send_as,
            fields,
            client,
            signer,
        })
    }

    /// A token request: what it holds, its content type, and the `Authorization` header if it has one. `now` is in
    /// seconds since 1970; `id` is not used twice.
    pub(super) fn request(&self, refresh_token: Option<&SecretString>, now: i64, id: &str) -> Result<Asked, String> {
        let assertion = self.signer.as_ref().map(|signer| signer.sign(now, id)).transpose()?;
        let mut fields: Vec<(&str, &str)> = Vec::new();
        for (name, value) in &self.fields {
            fields.push((name, value.expose_secret()));
            if name == "grant_type"
                && let Some(token) = refresh_token
            {
                fields.push(("refresh_token", token.expose_secret()));
            }
        }
        let is_grant = self.fields.first().is_some_and(|(_, grant)| grant.expose_secret() == JWT_BEARER);
        match &assertion {
            Some(signed) if is_grant => fields.push(("assertion", signed)),
            Some(signed) => {
                fields.push(("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
                fields.push(("client_assertion", signed));
            }
            None => {}
        }
        let authorization = self.client.as_ref().map(|(id, secret)| {
            let part = |text: &SecretString| {
                let encoded = form(&[("", text.expose_secret())]);
                encoded.strip_prefix('=').unwrap_or(&encoded).to_owned()
            };
            format!("Basic {}", STANDARD.encode(format!("{}:{}", part(id), part(secret)))).into()
        });
        let (content_type, body) = match self.send_as {
            SendAs::Json => {
                let object: Map<String, Value> =
                    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
                ("application/json", Value::Object(object).to_string())
            }
            SendAs::Form | SendAs::Basic => ("application/x-www-form-urlencoded", form(&fields)),
        };
        Ok(Asked { content_type, body, authorization })
    }
}

/// A token request, ready.
pub(super) struct Asked {
    pub(super) content_type: &'static str,
    pub(super) body: String,
    pub(super) authorization: Option<SecretString>,
}

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

fn form(fields: &[(&str, &str)]) -> String {
    let url = Url::parse_with_params("http://localhost", fields);
    url.ok().and_then(|url| url.query().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Settings {
        toml::from_str(toml).expect("settings")
    }

    fn body(grant: &Grant) -> String {
        grant.request(grant.refresh_token.as_ref(), 0, "j").expect("a request").body
    }

    #[test]
    fn the_two_providers_need_little() {
        let microsoft = read("provider = 'microsoft'\ntenant = 'acme.example'\nclient_id = 'c'\nclient_secret = 's&'");
        assert_eq!(microsoft.validate(), []);
        let grant = Grant::of(&microsoft).expect("a grant");
        assert_eq!(grant.token_url.as_str(), "https://login.microsoftonline.com/acme.example/oauth2/v2.0/token");
        let form = "grant_type=client_credentials&client_id=c&client_secret=s%26&scope=https%3A%2F%2Foutlook.office365.com%2F.default";
        assert_eq!(body(&grant), form);
        let google = read("provider = 'google'\nclient_id = 'c'\nclient_secret = 's'\nrefresh_token = 'r'");
        assert_eq!(google.validate(), []);
        let grant = Grant::of(&google).expect("a grant");
        assert_eq!(grant.token_url.as_str(), "https://oauth2.googleapis.com/token");
        let form = "grant_type=refresh_token&refresh_token=r&client_id=c&client_secret=s";
        assert_eq!(body(&grant), form);
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

    fn ask(how: How, send_as: SendAs) -> Ask {
        Ask {
            token_url: "https://crm.example/token".into(),
            how,
            send_as,
            client_id: Some("c 1".into()),
            client_secret: Some(Secret::Plain("s&:".into())),
            assertion: None,
            params: vec![("soid".into(), "x.1".into()), ("scope".into(), String::new())],
            secret_params: vec![("password".into(), Secret::Plain("p".into()))],
            life: None,
            base: None,
            ca_file: None,
        }
    }

    #[test]
    fn a_request_is_sent_as_a_form_as_json_or_with_the_client_in_a_header() {
        let asked = |send_as| {
            let grant = Grant::of_destination(&ask(How::ClientCredentials, send_as), Path::new("l")).expect("a grant");
            grant.request(None, 0, "j").expect("a request")
        };
        let form = asked(SendAs::Form);
        let sent = "grant_type=client_credentials&client_id=c+1&client_secret=s%26%3A&soid=x.1&password=p";
        assert_eq!((form.body.as_str(), form.authorization.is_none()), (sent, true));
        let json = asked(SendAs::Json);
        let sent = r#"{"grant_type":"client_credentials","client_id":"c 1","client_secret":"s&:","soid":"x.1","password":"p"}"#;
        assert_eq!((json.body.as_str(), json.content_type), (sent, "application/json"));
        let basic = asked(SendAs::Basic);
        assert_eq!(basic.body, "grant_type=client_credentials&soid=x.1&password=p");
        let expected = format!("Basic {}", STANDARD.encode("c+1:s%26%3A"));
        assert_eq!(basic.authorization.expect("a header").expose_secret(), expected);
    }

    #[test]
    fn an_assertion_is_the_grant_or_stands_in_place_of_the_secret() {
        let key = Secret::Plain(include_str!("test-keys/p256.pem").into());
        let algorithm = crate::oauth2::Algorithm::ES256;
        let assertion = crate::oauth2::Assertion { algorithm, key, head: vec![], claims: vec![], life: 60 };
        let sent = |how| {
            let ask = Ask { assertion: Some(assertion.clone()), client_secret: None, ..ask(how, SendAs::Form) };
            let grant = Grant::of_destination(&ask, Path::new("l")).expect("a grant");
            grant.request(None, 0, "j").expect("a request").body
        };
        let bearer = sent(How::JwtBearer);
        assert!(bearer.starts_with("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&"), "{bearer}");
        assert!(bearer.contains("&assertion=ey") && !bearer.contains("client_assertion"), "{bearer}");
        let client = sent(How::ClientCredentials);
        assert!(client.starts_with("grant_type=client_credentials&"), "{client}");
        assert!(client.contains("assertion-type%3Ajwt-bearer&client_assertion=ey"), "{client}");
    }
}
