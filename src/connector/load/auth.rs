//! The `[[auth]]` of a manifest, compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Loader, is_token};
use crate::connector::auth::basic::Part;
use crate::connector::auth::hmac::{Signing, Written};
use crate::connector::auth::oauth2::{Grant, Oauth2, Signing as Assertion};
use crate::connector::auth::{Scheme, Way};
use crate::connector::manifest::{self, Auth, SettingKind, Status};
use crate::oauth2::Base;
use crate::record::{Inline, Place};

impl Loader<'_> {
    pub(super) fn auth(&mut self, i: usize, auth: &Auth) -> Option<Scheme> {
        let i = i.to_string();
        let i = i.as_str();
        let (when, way) = match auth {
            Auth::None { when } => (when, Some(Way::None)),
            Auth::Basic { when, user, user_secret, password, password_text } => {
                let user = self.basic_part(i, ("user", user), ("user_secret", user_secret));
                let password = self.basic_part(i, ("password_text", password_text), ("password", password));
                (when, user.zip(password).map(|(user, password)| Way::Basic { user, password }))
            }
            Auth::Bearer { when, token } => {
                self.secret(i, &["token"], token);
                (when, Some(Way::Bearer { token: token.clone() }))
            }
            Auth::Header { when, name, prefix, value } => {
                self.secret(i, &["value"], value);
                let name = self.boxed(i, "name", name, Place::Header);
                let prefix = self.boxed(i, "prefix", prefix, Place::Text);
                let way = name.zip(prefix);
                (when, way.map(|(name, prefix)| Way::Header { name, prefix, value: value.clone() }))
            }
            Auth::Hmac { when, name, prefix, user, sign, joint, digest, key } => {
                self.secret(i, &["key"], key);
                if sign.is_empty() {
                    let hint = "write what is hashed, such as `sign = [\"method\", \"path\"]`";
                    self.fault(&["auth", i, "sign"], "missing_value", "`sign` is empty", hint);
                }
                if *digest == Written::Raw && user.is_none() {
                    let hint = "write `digest = \"base64\"`, or add `user`";
                    self.fault(&["auth", i, "digest"], "wrong_value", "bytes can't stand in a header", hint);
                }
                let name = self.boxed(i, "name", name, Place::Header);
                let prefix = self.boxed(i, "prefix", prefix, Place::Text);
                let user = match user {
                    None => None,
                    Some(user) => Some(self.boxed(i, "user", user, Place::Text)?),
                };
                let (sign, joint, written, key) = (sign.clone(), joint.clone(), *digest, key.clone());
                let (none, empty) = (String::new(), String::new());
                let signing = Signing { name: none, prefix: empty, user: None, sign, joint, written, key };
                (when, name.zip(prefix).map(|(name, prefix)| Way::Hmac { name, prefix, user, signing }))
            }
            Auth::Oauth2(words) => (&words.when, self.oauth2(i, words).map(|way| Way::Oauth2(Box::new(way)))),
        };
        let when = when.as_ref().and_then(|w| self.inline(&["auth", i, "when"], w, Place::Leaf));
        way.map(|way| Scheme { when, way })
    }

    fn secret(&mut self, i: &str, keys: &[&str], name: &str) {
        let at = [&["auth", i], keys].concat();
        self.setting_of_kind(&at, name, SettingKind::Secret);
    }

    fn boxed(&mut self, i: &str, key: &str, text: &str, place: Place) -> Option<Box<Inline>> {
        self.inline(&["auth", i, key], text, place).map(Box::new)
    }

    fn basic_part(
        &mut self,
        i: &str,
        (text_key, text): (&str, &Option<String>),
        (secret_key, secret): (&str, &Option<String>),
    ) -> Option<Part<Box<Inline>>> {
        match (text, secret) {
            (Some(text), None) => self.boxed(i, text_key, text, Place::Text).map(Part::Text),
            (None, Some(name)) => {
                self.secret(i, &[secret_key], name);
                Some(Part::Secret(name.clone()))
            }
            _ => self.one_of(&["auth", i], &format!("`{text_key}` or `{secret_key}`")),
        }
    }

    fn templates_of(&mut self, i: &str, keys: &[&str], map: &BTreeMap<String, String>) -> Vec<(String, Inline)> {
        let mut all = Vec::new();
        for (name, text) in map {
            let at = [&["auth", i], keys, &[name.as_str()]].concat();
            if let Some(template) = self.inline(&at, text, Place::Text) {
                all.push((name.clone(), template));
            }
        }
        all
    }

    fn oauth2(&mut self, i: &str, words: &manifest::Oauth2) -> Option<Oauth2> {
        let secrets = [("client_secret", &words.client_secret), ("refresh_token", &words.refresh_token)];
        for (key, name) in secrets {
            if let Some(name) = name {
                self.secret(i, &[key], name);
            }
        }
        for (param, name) in &words.secret_params {
            self.secret(i, &["secret_params", param], name);
        }
        let mut lacks = |key: &str, what: &str| {
            let message = format!("this grant needs `{key}`");
            self.fault(&["auth", i, "grant"], "missing_key", message, format!("add `{key}`: {what}"));
        };
        let grant = match (words.grant, &words.refresh_token) {
            (manifest::Grant::RefreshToken, Some(name)) => Some(Grant::RefreshToken(name.clone())),
            (manifest::Grant::RefreshToken, None) => {
                lacks("refresh_token", "the name of a secret setting");
                None
            }
            (grant, Some(_)) => {
                let hint = "leave it away, or write `grant = \"refresh_token\"`";
                let message = "a refresh token is of no use with this grant";
                self.fault(&["auth", i, "refresh_token"], "wrong_key", message, hint);
                (grant == manifest::Grant::JwtBearer).then_some(Grant::JwtBearer)
            }
            (manifest::Grant::JwtBearer, None) => {
                if words.jwt.is_none() {
                    lacks("jwt", "what is signed, and with which key");
                }
                Some(Grant::JwtBearer)
            }
            (manifest::Grant::ClientCredentials, None) => {
                if words.client_secret.is_none() && words.jwt.is_none() && words.secret_params.is_empty() {
                    lacks("client_secret", "the name of a secret setting");
                }
                Some(Grant::ClientCredentials)
            }
        };
        let token_url = self.inline(&["auth", i, "token_url"], &words.token_url, Place::Text);
        let client_id = match &words.client_id {
            None => None,
            Some(text) => Some(self.inline(&["auth", i, "client_id"], text, Place::Text)?),
        };
        let assertion = words.jwt.as_ref().map(|jwt| {
            self.secret(i, &["jwt", "key"], &jwt.key);
            Assertion {
                algorithm: jwt.algorithm,
                key: jwt.key.clone(),
                head: self.templates_of(i, &["jwt", "head"], &jwt.head),
                claims: self.templates_of(i, &["jwt", "claims"], &jwt.claims),
                life: jwt.life,
            }
        });
        let params = self.templates_of(i, &["params"], &words.params);
        let renew_on = words.renew_on.clone().unwrap_or_else(|| vec![Status::One(401)]);
        let renew_on = self.statuses(&["auth", i, "renew_on"], &renew_on);
        let base = match &words.base_url {
            None => None,
            Some(base) => {
                let path = self.json_path(&["auth", i, "base_url", "path"], &base.path);
                let allow = self.whole_regex(&["auth", i, "base_url", "allow"], &base.allow);
                Some(Arc::new(Base { path: path?, allow: allow? }))
            }
        };
        let header = words.header.clone().unwrap_or_else(|| "Authorization".into());
        if !is_token(&header) {
            let hint = "a header's name is letters, digits and `-`";
            self.fault(&["auth", i, "header"], "bad_header", format!("`{header}` can't be set as a header"), hint);
        }
        Some(Oauth2 {
            grant: grant?,
            token_url: token_url?,
            send_as: words.send_as,
            client_id,
            client_secret: words.client_secret.clone(),
            assertion,
            params,
            secret_params: words.secret_params.clone().into_iter().collect(),
            life: words.life,
            base,
            header,
            prefix: words.prefix.clone().unwrap_or_else(|| "Bearer ".into()),
            renew_on,
        })
    }
}
