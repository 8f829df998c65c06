//! `connector.toml`: one kind of CRM as data. These types are its specification; `mail2crm schema connector`
//! prints them. `compile` turns a manifest that reads well into a `Connector`, or says all that is wrong.
//!
//! A string marked *inline template* is handlebars over the same data as the template files: the session's
//! fields, `settings`, `record_id`, `marker`, `version`, `metadata` and `steps.<id>.<capture>`. There is no
//! word here that means only one CRM: a word is added when it serves all.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::auth::hmac::{Signed, Written};
use crate::oauth2::{Algorithm, SendAs};
use crate::outcome::{Class, Reason};

/// A whole `connector.toml`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The folder's name, as `connector = "…"` in the configuration says it.
    pub name: String,
    /// The name for people, with the versions it is for.
    pub title: String,
    /// How a record can be changed: `rest` needs `http` and `step`, `email` needs `email`. The first is the default.
    pub transports: Vec<Transport>,
    /// What a record id looks like. An id that does not fit never becomes part of a URL.
    #[serde(default)]
    pub record: Record,
    /// What the operator sets in `[destination.<name>]`, beside `connector` and `transport`.
    #[serde(default)]
    pub settings: BTreeMap<String, Setting>,
    /// Where the CRM's interface is.
    #[serde(default)]
    pub http: Option<Http>,
    /// How requests are authorised: the first whose `when` holds.
    #[serde(default)]
    pub auth: Vec<Auth>,
    /// What answers mean: the first that fits. Below it: the status alone, by RFC 9110.
    #[serde(default)]
    pub reply: Vec<Reply>,
    /// The requests, in order.
    #[serde(default)]
    pub step: Vec<Step>,
    /// What to do where the record is not as the steps need it: closed, merged, gone. The operator chooses.
    #[serde(default)]
    pub policy: Vec<Policy>,
    /// How the record of a session is found that names none, in order, where the operator turns it on.
    #[serde(default)]
    pub lookup: Vec<Lookup>,
    /// A step of effect `read` that needs no session: `check --online` sends it to try address and credentials.
    #[serde(default)]
    pub check: Option<String>,
    /// The mail that the CRM's own intake understands.
    #[serde(default)]
    pub email: Option<Email>,
    /// Sizes above which something is left out or cut.
    #[serde(default)]
    pub limits: Limits,
}

/// How a destination is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// HTTP requests.
    Rest,
    /// One mail.
    Email,
}

impl Transport {
    /// The word in manifests and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Email => "email",
        }
    }
}

/// What a record id looks like.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// False: a session without a record id is delivered as well, such as to a plain mail address.
    #[serde(default = "yes")]
    pub required: bool,
    /// A regular expression that the whole id must fit.
    #[serde(default = "any_id")]
    pub pattern: String,
    /// An id that fits, for messages.
    #[serde(default)]
    pub example: Option<String>,
    /// How the record is read as it is now, for `mail2crm plan`.
    #[serde(default)]
    pub read: Option<ReadRecord>,
}

impl Default for Record {
    fn default() -> Self {
        Self { required: true, pattern: any_id(), example: None, read: None }
    }
}

/// How a record is read, and where its fields are: one of `fields`, `members`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadRecord {
    /// The step of effect `read` that asks for the record. It uses no captures. If its `when` does not hold, the
    /// record can't be read with these settings.
    pub step: String,
    /// The answer has a list with one item for each field.
    #[serde(default)]
    pub fields: Option<FieldsStored>,
    /// Or: the answer has an object whose members are the fields. An inline template over `settings` that gives a
    /// JSONPath, such as `$.fields`.
    #[serde(default)]
    pub members: Option<String>,
    /// What is set besides the field map, by the name that people know it by.
    #[serde(default)]
    pub also: BTreeMap<String, AlsoSet>,
}

/// A value of the record that the payload sets besides the field map.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlsoSet {
    /// JSONPath: where it is in the answer.
    pub now: String,
    /// Inline template: what it is set to. Empty: it is not touched.
    pub then: String,
}

fn any_id() -> String {
    r"[^\s/\\?#%\x00-\x1f\x7f]{1,200}".to_owned()
}

/// One setting of a destination.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// What kind of value it takes.
    #[serde(rename = "type")]
    pub kind: SettingKind,
    /// A sentence for the operator.
    pub doc: String,
    /// A destination without it is refused.
    #[serde(default)]
    pub required: bool,
    /// The value when the operator says nothing.
    #[serde(default)]
    pub default: Option<Value>,
    /// A regular expression that the whole text must fit (`string` only).
    #[serde(default)]
    pub pattern: Option<String>,
    /// The words that are allowed (`enum` only).
    #[serde(default)]
    pub values: Vec<String>,
    /// Only of use with this transport.
    #[serde(default)]
    pub transport: Option<Transport>,
}

/// The kinds of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettingKind {
    /// A text.
    String,
    /// An absolute `http` or `https` address; a slash at its end is dropped.
    Url,
    /// One of `values`.
    Enum,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// A list of texts or numbers.
    List,
    /// Names with texts, numbers or booleans.
    Map,
    /// The field map: the CRM's field → an inline template. Templates see it as `fields`.
    Fields,
    /// A credential: `{ env = "…" }`, `{ file = "…" }` or `{ command = "…" }`. Templates never see it.
    Secret,
    /// An inline template that the operator writes; a step uses it as `"{{settings.<name>}}"`.
    Template,
    /// Names with inline templates that the operator writes, for `extra_headers`.
    Templates,
    /// A JSON payload template that the operator writes: its text, or `{ file = "name.json" }` in the
    /// connector's folder.
    Payload,
}

/// Where the CRM's interface is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Inline template over `settings` that gives the address before every `path`. Redirects are refused.
    pub base_url: String,
    /// Headers of every request. Values are inline templates.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A setting of type `templates` with more headers for every request.
    #[serde(default)]
    pub extra_headers: Option<String>,
    /// Seconds that one request may take.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 1, max = 600))]
    pub timeout: u32,
}

fn default_timeout() -> u32 {
    30
}

/// How a request is authorised.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "scheme", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// No credentials.
    None {
        /// Inline template over `settings`; holds unless it comes out empty or `false`.
        #[serde(default)]
        when: Option<String>,
    },
    /// HTTP Basic (RFC 7617). One of `user`, `user_secret`; one of `password`, `password_text`.
    Basic {
        /// Inline template over `settings`; holds unless it comes out empty or `false`.
        #[serde(default)]
        when: Option<String>,
        /// Inline template over `settings`: the user name, such as `{{settings.user}}/token`.
        #[serde(default)]
        user: Option<String>,
        /// Or the name of a secret setting: where the API key is the user name.
        #[serde(default)]
        user_secret: Option<String>,
        /// The name of the secret setting with the password.
        #[serde(default)]
        password: Option<String>,
        /// Or inline template over `settings`: a password that is no secret, such as `X`.
        #[serde(default)]
        password_text: Option<String>,
    },
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer {
        /// Inline template over `settings`; holds unless it comes out empty or `false`.
        #[serde(default)]
        when: Option<String>,
        /// The name of the secret setting with the token.
        token: String,
    },
    /// A header of the CRM's own.
    Header {
        /// Inline template over `settings`; holds unless it comes out empty or `false`.
        #[serde(default)]
        when: Option<String>,
        /// Inline template over `settings`: the header's name.
        name: String,
        /// Inline template over `settings`: what stands before the secret, such as `token `.
        #[serde(default)]
        prefix: String,
        /// The name of the secret setting with the value.
        value: String,
    },
    /// A header with a keyed hash over parts of the request (HMAC with SHA-256).
    Hmac {
        /// Inline template over `settings`; holds unless it comes out empty or `false`.
        #[serde(default)]
        when: Option<String>,
        /// Inline template over `settings`: the header's name.
        name: String,
        /// Inline template over `settings`: what stands before the value.
        #[serde(default)]
        prefix: String,
        /// Inline template over `settings`: whose key it is. The value is `user:hash` in base64 then.
        #[serde(default)]
        user: Option<String>,
        /// What is hashed, in order.
        sign: Vec<Signed>,
        /// What stands between the parts.
        #[serde(default)]
        joint: String,
        /// How the hash is written: `hex` unless stated.
        #[serde(default)]
        digest: Written,
        /// The name of the secret setting with the key.
        key: String,
    },
    /// A token from a token endpoint (RFC 6749), asked for when it is needed, shared by all deliveries, renewed
    /// before its end and when it is refused.
    Oauth2(Box<Oauth2>),
}

/// How a token is got and used.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oauth2 {
    /// Inline template over `settings`; holds unless it comes out empty or `false`.
    #[serde(default)]
    pub when: Option<String>,
    /// Which grant.
    pub grant: Grant,
    /// Inline template over `settings`: the token endpoint.
    pub token_url: String,
    /// How the request is sent: `form` unless stated.
    #[serde(default)]
    pub send_as: SendAs,
    /// Inline template over `settings`: the client's id.
    #[serde(default)]
    pub client_id: Option<String>,
    /// The name of the secret setting with the client's secret.
    #[serde(default)]
    pub client_secret: Option<String>,
    /// For `refresh_token`: the name of the secret setting with the first one. Those that the server gives in
    /// exchange are kept beside the ledger.
    #[serde(default)]
    pub refresh_token: Option<String>,
    /// A signed assertion (JWT): for `jwt_bearer` it is the grant, otherwise it stands in place of `client_secret`.
    #[serde(default)]
    pub jwt: Option<Jwt>,
    /// More parameters, such as `scope`: inline templates over `settings`; empty ones are left out.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// More parameters that are secret: the names of secret settings.
    #[serde(default)]
    pub secret_params: BTreeMap<String, String>,
    /// Seconds that a token is used if the answer has no `expires_in`. 300 unless stated.
    #[serde(default)]
    #[schemars(range(min = 10, max = 86_400))]
    pub life: Option<u32>,
    /// Statuses of the CRM that mean: this token has ended. A new one is asked for and the request is sent again,
    /// once. `[401]` unless stated.
    #[serde(default)]
    pub renew_on: Option<Vec<Status>>,
    /// Where the token's answer says at which address it is good.
    #[serde(default)]
    pub base_url: Option<TokenBase>,
    /// The header that carries the token. `Authorization` unless stated.
    #[serde(default)]
    pub header: Option<String>,
    /// What stands before the token there. `Bearer ` unless stated.
    #[serde(default)]
    pub prefix: Option<String>,
}

/// The grants of OAuth 2.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// The client acts by itself (RFC 6749 section 4.4).
    ClientCredentials,
    /// Somebody agreed once (RFC 6749 section 6).
    RefreshToken,
    /// A signed assertion (RFC 7523).
    JwtBearer,
}

/// A signed assertion (JWT). `iat`, `exp` and `jti` are made for each.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// `RS256` or `ES256`.
    pub algorithm: Algorithm,
    /// The name of the secret setting with the private key, in PEM.
    pub key: String,
    /// Its claims, such as `iss`, `sub`, `aud`: inline templates over `settings`; empty ones are left out.
    pub claims: BTreeMap<String, String>,
    /// Fields of its head, such as `kid`: inline templates over `settings`.
    #[serde(default)]
    pub head: BTreeMap<String, String>,
    /// Seconds that it is good for. 180 unless stated.
    #[serde(default = "default_jwt_life")]
    #[schemars(range(min = 10, max = 3600))]
    pub life: u32,
}

fn default_jwt_life() -> u32 {
    180
}

/// An address that comes with a token: it takes the place of scheme and host of `http.base_url`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenBase {
    /// JSONPath in the token's answer.
    pub path: String,
    /// A regular expression that the whole address must fit; it should begin with `https://`.
    pub allow: String,
}

/// An HTTP status or a range of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Status {
    /// `404`.
    One(u16),
    /// `"500-599"`.
    Range(String),
}

/// One row of the reply table: all conditions that it states must hold.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// Only these steps. All if empty.
    #[serde(default)]
    pub steps: Vec<String>,
    /// Only these statuses. All if empty.
    #[serde(default)]
    pub status: Vec<Status>,
    /// A header of the answer.
    #[serde(default)]
    pub header: Option<HeaderTest>,
    /// A value in the JSON body.
    #[serde(default)]
    pub json: Option<JsonTest>,
    /// The body as text.
    #[serde(default)]
    pub body: Option<BodyTest>,
    /// What to do then.
    pub class: Class,
    /// Why, in the program's words.
    pub reason: Reason,
    /// When to come back. `Retry-After` is honoured without being named.
    #[serde(default)]
    pub after: Option<After>,
    /// A sentence for people: what to change.
    #[serde(default)]
    pub note: Option<String>,
}

/// A condition on a header.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderTest {
    /// Its name.
    pub name: String,
    /// Its whole value, whatever the case.
    #[serde(default)]
    pub equals: Option<String>,
    /// A regular expression found in it.
    #[serde(default)]
    pub regex: Option<String>,
}

/// A condition on values in a JSON body: one of the selected values fits.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonTest {
    /// JSONPath (RFC 9535).
    pub path: String,
    /// The whole value.
    #[serde(default)]
    pub equals: Option<Value>,
    /// One of these values.
    #[serde(default)]
    pub any_of: Vec<Value>,
    /// A regular expression found in the text.
    #[serde(default)]
    pub regex: Option<String>,
}

/// A condition on a body as text.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BodyTest {
    /// True: nothing but blanks. False: something.
    #[serde(default)]
    pub empty: Option<bool>,
    /// A regular expression found in it.
    #[serde(default)]
    pub regex: Option<String>,
}

/// When to come back; the first that the answer gives.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct After {
    /// A header like `Retry-After`: seconds or an HTTP date.
    #[serde(default)]
    pub header: Option<String>,
    /// A header with a time in seconds since 1970.
    #[serde(default)]
    pub epoch_header: Option<String>,
    /// JSONPath of a number of seconds (or a date) in the body.
    #[serde(default)]
    pub json: Option<String>,
    /// Always so many seconds.
    #[serde(default)]
    pub seconds: Option<u32>,
}

/// What a request does to the record, and so what happens after a result that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Changes nothing. Sent only when a later request needs what it captures.
    Read,
    /// Twice is as good as once.
    Idempotent,
    /// Leaves the marker: looked for by `marker_step` before it is repeated.
    Marked,
    /// Twice leaves rubbish that goes away by itself. Sent only when a later request needs what it captures.
    Orphanable,
    /// Never repeated by itself: a person decides.
    Once,
    /// By its method: `PUT`, `PATCH` and `DELETE` are idempotent, the rest is `once`.
    ByMethod,
}

/// One request.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name: small letters, digits and `_`.
    pub id: String,
    /// What it does to the record.
    pub effect: Effect,
    /// Inline template: sent unless it comes out empty or `false`. If it uses the captures of an `orphanable`
    /// step that no other step needed, the step is not sent.
    #[serde(default)]
    pub when: Option<String>,
    /// Inline template: `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: String,
    /// Inline template, after the base URL. Values are escaped for a URL.
    #[serde(default)]
    pub path: String,
    /// Inline templates; a parameter that comes out empty is left out.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Inline templates; a header that comes out empty is left out.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// What is sent. A JSON or form payload that comes out empty has nothing to say: the step is not sent.
    #[serde(default)]
    pub body: Option<Body>,
    /// Values of the answer that later steps use as `steps.<id>.<name>`.
    #[serde(default)]
    pub capture: BTreeMap<String, Capture>,
    /// Seconds for which what an `orphanable` or `idempotent` step captured is good: a later attempt of the delivery
    /// uses it, and does the step again after that. Unless stated, an `orphanable` step is done again in each attempt,
    /// and the captures of others stay good.
    #[serde(default)]
    pub lifetime: Option<u32>,
    /// What a good answer says beyond its status.
    #[serde(default)]
    pub expect: Option<Expect>,
    /// For `marked`: the step of effect `read` that looks for the marker.
    #[serde(default)]
    pub marker_step: Option<String>,
    /// For the look-up of a marker: where it is in the answer.
    #[serde(default)]
    pub found: Option<Found>,
    /// For a read step: sent after the named step was, to see that it did what it said.
    #[serde(default)]
    pub verifies: Option<String>,
    /// For a read step: sent before each of these is, so that its `expect` tells whether the record takes them.
    #[serde(default)]
    pub guards: Vec<String>,
    /// Not one of the steps in order: sent where a policy names it as `first`.
    #[serde(default)]
    pub aside: bool,
    /// Makes a new record. Only for a step `aside` of a choice that the operator has to write out.
    #[serde(default)]
    pub creates: bool,
    /// Inline template over `settings`: if it holds, `once` becomes `idempotent`.
    #[serde(default)]
    pub repeatable: Option<String>,
    /// False: its failure is a warning.
    #[serde(default = "yes")]
    pub required: bool,
    /// What to do when somebody else changed the record.
    #[serde(default)]
    pub on_conflict: Option<OnConflict>,
    /// Another address than the destination's own, without credentials.
    #[serde(default)]
    pub origin: Option<Origin>,
    /// For a read step: its answer comes in pages, which are asked for until what is looked for is found.
    #[serde(default)]
    pub page: Option<Page>,
    /// Inline template of a list, such as `{{settings.tags}}`: the step is sent once for each item, which its templates
    /// see as `item`. It captures nothing. With `marked`, the `marker_step` has the same `each`, so that it looks for
    /// the item's own mark.
    #[serde(default)]
    pub each: Option<String>,
    /// With `each`: items beyond so many are left out.
    #[serde(default = "default_each_max")]
    #[schemars(range(min = 1, max = 50))]
    pub each_max: u32,
    /// Filled in: which of the file's steps this is, and for which item of `each`.
    #[serde(skip)]
    pub place: (usize, usize),
}

fn default_each_max() -> u32 {
    20
}

/// How the next page of an answer is asked for: by an address in the answer (one of `path`, `header`); by a value of
/// it (with `param`); or by a number (`param` and `add`).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// JSONPath of the next page's address, or with `param` of a cursor.
    #[serde(default)]
    pub path: Option<String>,
    /// Or a header with it.
    #[serde(default)]
    pub header: Option<String>,
    /// A regular expression; the first group, or all of the match.
    #[serde(default)]
    pub regex: Option<String>,
    /// The parameter of the query that names a page.
    #[serde(default)]
    pub param: Option<String>,
    /// What is added to the number in `param` for each page: 1, or the size of a page.
    #[serde(default)]
    pub add: Option<u32>,
    /// The number of the first page; 0 unless stated.
    #[serde(default)]
    pub first: u32,
    /// JSONPath: there are more pages if it selects something that is not false and not an empty list. Needed with
    /// `add`.
    #[serde(default)]
    pub more: Option<String>,
    /// Pages at most; what is beyond counts as not there, so let the newest come first. 5 unless stated.
    #[serde(default = "default_pages")]
    #[schemars(range(min = 2, max = 50))]
    pub max: u32,
}

fn default_pages() -> u32 {
    5
}

fn yes() -> bool {
    true
}

/// What is sent.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Body {
    /// A JSON payload template.
    Json {
        /// The file in this folder.
        #[serde(default)]
        template: Option<String>,
        /// Or the setting of type `payload`.
        #[serde(default)]
        setting: Option<String>,
        /// `application/json` unless stated.
        #[serde(default)]
        content_type: Option<String>,
    },
    /// A payload template of flat values, sent as `application/x-www-form-urlencoded`.
    Form {
        /// The file in this folder.
        #[serde(default)]
        template: Option<String>,
        /// Or the setting of type `payload`.
        #[serde(default)]
        setting: Option<String>,
    },
    /// The bytes of a file.
    Raw {
        /// Which.
        file: Artifact,
        /// `application/json` unless stated.
        #[serde(default)]
        content_type: Option<String>,
    },
    /// `multipart/form-data` (RFC 7578), parts in order.
    Multipart {
        /// The parts. Empty ones are left out.
        parts: Vec<Part>,
    },
}

/// A part of a multipart body: one of `text`, `template`, `file`, `fields`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The form field. With `fields`, what is to stand around each name, such as `custom_fields[*]`; `*` unless
    /// stated.
    #[serde(default)]
    pub name: Option<String>,
    /// Inline template.
    #[serde(default)]
    pub text: Option<String>,
    /// A JSON payload template or a text template in this folder.
    #[serde(default)]
    pub template: Option<String>,
    /// A file.
    #[serde(default)]
    pub file: Option<Artifact>,
    /// Inline template of a map, such as `{{steps.upload.fields}}` or `{{field_map fields}}`: a part of text for
    /// each of its members.
    #[serde(default)]
    pub fields: Option<String>,
    /// The part's content type. Of a file `application/json` unless stated, of the rest none.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Inline template: the file name. A file has its own unless stated.
    #[serde(default)]
    pub file_name: Option<String>,
}

/// A file that comes with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Artifact {
    /// The session metadata document, as received.
    Metadata,
}

/// Where a value of the answer comes from: one of `path`, `header`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// JSONPath; the first selected value.
    #[serde(default)]
    pub path: Option<String>,
    /// A header.
    #[serde(default)]
    pub header: Option<String>,
    /// A regular expression; the first group, or all of the match.
    #[serde(default)]
    pub regex: Option<String>,
    /// True: null if the answer does not have it. False: that is a failure.
    #[serde(default)]
    pub optional: bool,
}

/// What a good answer says.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The good statuses; every 2xx if empty.
    #[serde(default)]
    pub status: Vec<Status>,
    /// Or the setting of type `list` that names them.
    #[serde(default)]
    pub status_setting: Option<String>,
    /// What the JSON body says.
    #[serde(default)]
    pub json: Vec<Assertion>,
    /// Every mapped field that the session has a value for is in the answer.
    #[serde(default)]
    pub fields: Option<FieldsStored>,
    /// What it means if the body says otherwise. `partial` unless stated.
    #[serde(default)]
    pub otherwise: Option<Otherwise>,
}

/// One assertion on a JSON body: one of `present`, `equals`, `begins`, `some_match`, `none_match`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    /// JSONPath.
    pub path: String,
    /// Something (true) or nothing (false) is selected.
    #[serde(default)]
    pub present: Option<bool>,
    /// Inline template: one selected value, as text, equals it.
    #[serde(default)]
    pub equals: Option<String>,
    /// Inline template: one selected value, as text, begins with it. Nothing does if it comes out empty.
    #[serde(default)]
    pub begins: Option<String>,
    /// A regular expression that fits at least one selected text.
    #[serde(default)]
    pub some_match: Option<String>,
    /// A regular expression that fits no selected text.
    #[serde(default)]
    pub none_match: Option<String>,
    /// What it means if this one fails, instead of `expect.otherwise`.
    #[serde(default)]
    pub otherwise: Option<Otherwise>,
}

/// Where an answer lists the record's fields.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldsStored {
    /// JSONPath that selects one item for each field.
    pub items: String,
    /// JSONPath in the item: the names by which the field map may call it.
    pub names: String,
    /// JSONPath in the item: its values.
    pub values: String,
}

/// What a failed assertion means.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Otherwise {
    /// What to do then.
    pub class: Class,
    /// Why, in the program's words.
    pub reason: Reason,
    /// A sentence for people.
    #[serde(default)]
    pub note: Option<String>,
}

/// Where the marker is in a look-up's answer: one of `contains`, `equals`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// JSONPath.
    pub path: String,
    /// Inline template: a selected text contains it.
    #[serde(default)]
    pub contains: Option<String>,
    /// Inline template: a selected text equals it.
    #[serde(default)]
    pub equals: Option<String>,
}

/// What to do when somebody else changed the record.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnConflict {
    /// The step to go back to.
    pub goto: String,
    /// How often, before the delivery waits and is tried again.
    #[schemars(range(min = 1, max = 5))]
    pub max: u32,
}

/// What to do where the record is not as the steps need it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The reason of class `dead` that a reply row or a step's `expect` gave, such as `record_closed`.
    pub when: Reason,
    /// The choice that holds unless the operator names another one: `policy = { record_closed = "note_only" }`.
    #[serde(default = "dead")]
    pub default: String,
    /// By name. Beside them there are always `dead` (a person decides) and `park` (wait for the record until the
    /// deadline, and try again now and then).
    #[serde(default)]
    pub choices: BTreeMap<String, Choice>,
}

fn dead() -> String {
    "dead".to_owned()
}

/// How a delivery goes on. Each choice is taken once in an attempt.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Choice {
    /// A sentence for the operator.
    pub doc: Option<String>,
    /// Steps `aside` that are sent first; then it goes on with the step that was refused.
    pub first: Vec<String>,
    /// Steps that are not sent any more.
    pub skip: Vec<String>,
    /// Inline template: the record to go on with, in its turn among the deliveries of that one. It must fit
    /// `record.pattern`.
    pub record: Option<String>,
}

/// One way to find the record of a session that names none.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// Its name: `lookup = ["phone"]` in a destination.
    pub name: String,
    /// A sentence for the operator.
    pub doc: String,
    /// The step of effect `read` that asks. Where its `when` does not hold, the next look-up's turn comes.
    pub step: String,
    /// JSONPath that selects one item for each candidate.
    pub candidates: String,
    /// JSONPath in the item: the record's id.
    pub id: String,
    /// JSONPaths in the item: what helps a person to choose, without personal data, such as the status.
    #[serde(default)]
    pub label: Vec<String>,
    /// A candidate counts only if all of these hold in its item.
    #[serde(default)]
    pub only_if: Vec<Assertion>,
    /// JSONPath: how many there are in all. More than the answer lists are several.
    #[serde(default)]
    pub total: Option<String>,
    /// JSONPath: what selects anything but null, false, 0 and an empty text if there is another page. More
    /// pages are several.
    #[serde(default)]
    pub more: Option<String>,
}

/// Another address than the destination's own.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Inline template: the address before `path`.
    pub base_url: String,
    /// A regular expression that the whole rendered address must fit; it should begin with `https://`.
    pub allow: String,
    /// Must be `none`: the destination's credentials never go elsewhere.
    pub auth: NoAuth,
}

/// Says that no credentials are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoAuth {
    /// No credentials.
    None,
}

/// The mail that a CRM's own intake understands.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// Inline template: one address, or several with commas between.
    pub to: String,
    /// Inline template: one address, with a name if you like.
    pub from: String,
    /// A text template in this folder (its name ends in `.hbs`), or an inline template.
    pub subject: String,
    /// The text template of the plain body.
    pub body_text: String,
    /// The text template of the HTML body.
    #[serde(default)]
    pub body_html: Option<String>,
    /// More headers; values are inline templates, empty ones are left out.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Attach the session metadata document.
    #[serde(default = "yes")]
    pub attach_metadata: bool,
    /// The largest mail that the CRM takes, in bytes, after encoding. Above it the attachment is left out.
    #[serde(default)]
    pub max_bytes: Option<u64>,
}

/// Sizes above which something is left out.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// A metadata document larger than this is not attached: `metadata` is null for templates, the file parts
    /// are left out, and the delivery says so.
    #[serde(default)]
    pub attachment_bytes: Option<u64>,
    /// What becomes of a delivery with a larger one: `skip` (the file is left out) unless stated.
    #[serde(default)]
    pub above: Above,
}

/// What becomes of a file that is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Above {
    /// It is left out, and the delivery says so.
    #[default]
    Skip,
    /// The delivery fails: `dead`, `too_large`.
    Fail,
}
