//! A listener for programs that post mails (`message/rfc822`) or metadata documents (JSON: one session, an array,
//! lines, the platform's external session events) by HTTP, as a source.
//!
//! `202` comes only after the commit and says what was found, `503` whenever the commit is in doubt, and `4xx` for
//! what can never be taken. What is kept for a person to look at is taken: `202`. What comes again because an
//! answer was lost is known by its bytes. Nothing is read of a request that proves nothing.

mod line;
mod proof;
mod settings;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use self::proof::{Keys, Proof};
use self::settings::HEALTH;
use super::gather::{self, Counter};
use super::listen::{self, Certificate, Room, Seats};
use super::{Content, Envelope, Fault, Found, Inlet, Received, Recipe, Settled, Sighted, Source};
use crate::digest::sha256;
use crate::message::parse::looks_like_mail;
use crate::outcome::Reason;
use crate::secret::Secret;

pub use settings::{Algorithm, Basic, Hmac, Settings};

/// How long what is under way may go on after the source was told to stop.
const GRACE: Duration = Duration::from_secs(5);
/// The longest that one body may take, however steadily it drips.
const LONGEST: Duration = Duration::from_secs(1_800);
/// How long credentials are good before they are read again.
const FRESH: Duration = Duration::from_secs(60);
/// When to try again, in seconds.
const LATER: HeaderValue = HeaderValue::from_static("30");

/// A listener, ready to be run.
#[derive(Debug)]
pub struct Http {
    settings: Settings,
}

impl Recipe for Settings {
    fn build(self, _now: Timestamp) -> Box<dyn Source> {
        Box::new(Http { settings: self })
    }

    fn validate(&self) -> Vec<(&'static str, String, String)> {
        Self::validate(self)
    }

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        self.certificate.iter_mut().chain(&mut self.private_key).collect()
    }

    fn secrets(&self) -> Vec<&Secret> {
        let basic = self.basic.as_ref().map(|basic| &basic.password);
        let hmac = self.hmac.as_ref().map(|hmac| &hmac.secret);
        self.token.iter().chain(basic).chain(hmac).collect()
    }

    fn reads_alone(&self) -> bool {
        false
    }

    fn limit_to(&mut self, message_bytes: usize) {
        self.max_bytes = self.max_bytes.min(message_bytes);
    }
}

impl Source for Http {
    fn run(
        self: Box<Self>,
        inlet: Inlet,
        _positions: BTreeMap<String, String>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move {
            let listener = listen::bind(&self.settings.listen).await?;
            inlet.looked();
            tracing::info!("takes mails and documents by HTTP on {}", self.settings.listen);
            serve(self.settings, listener, inlet, stop).await
        })
    }

    fn check(self: Box<Self>) -> BoxFuture<'static, Result<String, Fault>> {
        Box::pin(async move {
            let listen = self.settings.listen.clone();
            let read = super::blocking(move || {
                let certificate = certificate(&self.settings).map(|c| c.acceptor().map(drop)).transpose();
                Ok(certificate.and_then(|_| Keys::read(&self.settings).map(drop).map_err(unreadable)))
            });
            read.await.map_err(|error| unreadable(error.to_string()))??;
            listen::look(&listen).await
        })
    }

    fn survey(
        self: Box<Self>,
        _positions: BTreeMap<String, String>,
        _to: mpsc::Sender<Sighted>,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn unreadable(detail: String) -> Fault {
    Fault { reason: Reason::Unauthorized, step: "credentials", detail }
}

fn certificate(settings: &Settings) -> Option<Certificate> {
    let (certificate, key) = settings.certificate.clone().zip(settings.private_key.clone())?;
    Some(Certificate::new(certificate, key))
}

/// What all requests share.
struct Around {
    settings: Settings,
    seats: Seats,
    counter: Counter,
    keys: Mutex<Option<(Instant, Arc<Keys>)>>,
}

/// Serves callers until `stop`, and then those whose request is under way for a short while.
async fn serve(
    settings: Settings,
    listener: tokio::net::TcpListener,
    inlet: Inlet,
    stop: CancellationToken,
) -> Result<(), Fault> {
    let certificate = certificate(&settings);
    if let Some(certificate) = &certificate {
        certificate.acceptor()?;
    }
    let (counter, gathering) = gather::open(inlet);
    let gathering = tokio::spawn(gathering);
    let seats = Seats::new(settings.max_connections, settings.max_connections_per_peer);
    let door = line::Door { listener, seats: seats.clone(), certificate, patience: settings.patience() };
    let around = Arc::new(Around { settings, seats, counter, keys: Mutex::default() });
    around.keys().await.map_err(unreadable)?;
    let routes = Router::new().fallback(answer).with_state(around);
    let stopped = stop.clone();
    let serving = axum::serve(door, routes).with_graceful_shutdown(async move { stopped.cancelled().await });
    let mut serving = std::pin::pin!(serving.into_future());
    // Before the stop it does not end; after it, callers who do not come to an end are left.
    if stop.run_until_cancelled(&mut serving).await.is_none() {
        let _late = timeout(GRACE, serving).await;
    }
    let _late = timeout(GRACE, gathering).await;
    Ok(())
}

impl Around {
    /// The credentials, read again from time to time so that rotated ones are picked up.
    async fn keys(self: &Arc<Self>) -> Result<Arc<Keys>, String> {
        let current = self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, keys)) = current.as_ref().filter(|(read, _)| read.elapsed() < FRESH) {
            return Ok(keys.clone());
        }
        let this = self.clone();
        let read = super::blocking(move || Ok(Keys::read(&this.settings))).await.map_err(|e| e.to_string())?;
        let keys = match (read, current) {
            (Ok(keys), _) => Arc::new(keys),
            (Err(detail), Some((_, keys))) => {
                tracing::warn!(detail, "the credentials of callers can't be read; those from before are used");
                keys
            }
            (Err(detail), None) => return Err(detail),
        };
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), keys.clone()));
        Ok(keys)
    }
}

/// A refusal: its status, a word for programs, a sentence for people.
struct Refusal(StatusCode, &'static str, String);

impl Refusal {
    fn of(status: StatusCode, word: &'static str, sentence: impl Into<String>) -> Self {
        Self(status, word, sentence.into())
    }

    fn later(word: &'static str, sentence: &str) -> Self {
        Self::of(StatusCode::SERVICE_UNAVAILABLE, word, sentence)
    }

    fn respond(self) -> Response {
        let Self(status, word, sentence) = self;
        let mut response = (status, Json(json!({ "error": word, "detail": sentence }))).into_response();
        let headers = response.headers_mut();
        match status {
            StatusCode::SERVICE_UNAVAILABLE => drop(headers.insert(RETRY_AFTER, LATER)),
            StatusCode::UNAUTHORIZED => {
                drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer, Basic realm=\"mail2crm\"")));
            }
            StatusCode::METHOD_NOT_ALLOWED => drop(headers.insert(ALLOW, HeaderValue::from_static("POST"))),
            _ => {}
        }
        // What was not read of the body is not taken for the next request.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

async fn answer(State(around): State<Arc<Around>>, request: Request) -> Response {
    let path = request.uri().path();
    if path == HEALTH && (request.method() == Method::GET || request.method() == Method::HEAD) {
        return (StatusCode::OK, "ok\n").into_response();
    }
    if path != around.settings.path {
        return Refusal::of(StatusCode::NOT_FOUND, "not_found", "there is nothing here").respond();
    }
    if request.method() != Method::POST {
        let sentence = "mails and documents are sent by POST";
        return Refusal::of(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", sentence).respond();
    }
    match take(&around, request).await {
        Ok(found) => (StatusCode::ACCEPTED, Json(found)).into_response(),
        Err(refusal) => refusal.respond(),
    }
}

/// The way of one request: proof, form, size, body, commit.
async fn take(around: &Arc<Around>, request: Request) -> Result<Value, Refusal> {
    let unauthorized = |sentence: &str| Refusal::of(StatusCode::UNAUTHORIZED, "unauthorized", sentence);
    let Ok(keys) = around.keys().await else {
        return Err(Refusal::later("unavailable", "who may post can't be told now; try again later"));
    };
    let (head, body) = request.into_parts();
    let proof = keys.of_head(&head.headers);
    if proof == Proof::Missing {
        return Err(unauthorized("the request proves in no way that it may post here"));
    }
    let form = form_of(&head.headers)?;
    let (body, _room) = read(around, &head.headers, body).await?;
    if proof == Proof::Signature {
        keys.of_body(&head.headers, &body, Timestamp::now()).map_err(unauthorized)?;
    }
    let item = received(form, body)?;
    let input = item.input.clone();
    match around.counter.take(item).await {
        (Settled::TryAgain(_), _) => Err(Refusal::later("unavailable", "not taken now; try again later")),
        (settled, found) => Ok(told(&input, &settled, found.unwrap_or_default())),
    }
}

/// What a request says that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Mail,
    Document,
}

fn form_of(headers: &HeaderMap) -> Result<Form, Refusal> {
    let unsupported =
        |sentence| Err(Refusal::of(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", sentence));
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let coding = text(CONTENT_ENCODING).trim();
    if !coding.is_empty() && !coding.eq_ignore_ascii_case("identity") {
        return unsupported("send the body without `Content-Encoding`");
    }
    let kind = text(CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "message/rfc822" | "message/global" => Ok(Form::Mail),
        "application/json"
        | "text/json"
        | "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/x-jsonlines"
        | "application/json-lines" => Ok(Form::Document),
        other if other.starts_with("application/") && other.ends_with("+json") => Ok(Form::Document),
        _ => {
            unsupported("send a mail as `message/rfc822`, or sessions as `application/json` or `application/x-ndjson`")
        }
    }
}

/// The body, with the room that it takes until it is committed.
async fn read(around: &Around, headers: &HeaderMap, body: Body) -> Result<(Vec<u8>, Room), Refusal> {
    let limit = around.settings.max_bytes;
    let too_large = || {
        let sentence = format!("the body has more than the limit of {limit} bytes");
        Refusal::of(StatusCode::PAYLOAD_TOO_LARGE, "too_large", sentence)
    };
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > limit as u64) {
        return Err(too_large());
    }
    let mut room = around.seats.room();
    let reading = async move {
        let (mut whole, mut pieces) = (Vec::new(), body.into_data_stream());
        while let Some(piece) = pieces.next().await {
            let Ok(piece) = piece else {
                return Err(Refusal::of(StatusCode::BAD_REQUEST, "incomplete", "the body came to no end"));
            };
            if whole.len() + piece.len() > limit {
                return Err(too_large());
            }
            if !room.grow(whole.len() + piece.len()) {
                return Err(Refusal::later("busy", "no room for it now; try again later"));
            }
            whole.extend_from_slice(&piece);
        }
        Ok((whole, room))
    };
    let late = || Refusal::of(StatusCode::REQUEST_TIMEOUT, "timeout", "the body took too long");
    timeout(LONGEST, reading).await.map_err(|_| late())?
}

/// The item, named by its content: what is sent again is known.
fn received(form: Form, body: Vec<u8>) -> Result<Received, Refusal> {
    let wrong = |word, sentence: &str| Err(Refusal::of(StatusCode::UNPROCESSABLE_ENTITY, word, sentence));
    let text = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&body).trim_ascii_start();
    match (form, text.first()) {
        (_, None) => return wrong("empty", "the body is empty"),
        (Form::Mail, _) if !looks_like_mail(&body) => {
            return wrong("not_a_mail", "the body does not begin as a mail does");
        }
        _ => {}
    }
    let digest = sha256(&body);
    Ok(Received {
        input: format!("post-{}", digest.get(..16).unwrap_or(&digest)),
        content: if form == Form::Mail { Content::Mail(body.into()) } else { Content::Document(body.into()) },
        envelope: Envelope::default(),
        received_at: None,
    })
}

/// What a caller is told of what was committed.
fn told(input: &str, settled: &Settled, found: Found) -> Value {
    let status = match (settled, found.reason) {
        (Settled::Refused(_), _) => "quarantined",
        (_, Some(_)) => "ignored",
        _ => "taken",
    };
    let sessions = found.sessions.iter().map(|(key, standing)| json!({ "key": key, "standing": standing }));
    let reason = match settled {
        Settled::Refused(reason) => Some(*reason),
        _ => found.reason,
    };
    json!({
        "status": status,
        "reason": reason.map(Reason::as_str),
        "input": input,
        "message": found.message,
        "known": found.known,
        "sessions": sessions.collect::<Vec<_>>(),
        "deliveries": found.deliveries,
    })
}

#[cfg(test)]
mod tests;
