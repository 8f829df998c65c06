//! The REST interface: tickets to read and update, attachments, the journal that tests judge by, and the
//! switches for faults.
//!
//! Everything asks for `Authorization: Bearer TOKEN`. Errors are `{"error":"word", …}`. A fault is decided
//! before anything else of a request to `/api/tickets` or `/mail` happens; the other routes never fail.

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::faults::{Fault, Faults, Planned, Verdict};
use super::line::Line;
use super::store::{Applied, Attachment, Note, Refusal, Ticket, Via};
use super::update::{Invalid, NewNote, Update};
use super::{App, mail};

/// The largest body of a request.
const BODY: usize = 64 << 20;
/// Rows of a list that names no limit.
const ROWS: usize = 1_000;
/// The most rows of a list.
const MOST_ROWS: usize = 100_000;
/// The header that orders a fault for its request.
const FAULT: &str = "x-sandbox-fault";

type Page<T> = Result<Query<T>, QueryRejection>;

pub(crate) fn routes(app: &App) -> Router {
    let breakable = Router::new()
        .route("/api/tickets", get(list))
        .route("/api/tickets/{id}", get(read).put(update).delete(remove))
        .route("/api/tickets/{id}/notes", get(notes).post(add_note))
        .route("/api/tickets/{id}/follow_ups", get(follow_ups).post(follow_up))
        .route("/api/tickets/{id}/merge", post(merge))
        .route("/api/tickets/{id}/hold", post(hold))
        .route("/api/search", get(search))
        .route("/mail", post(by_mail))
        .layer(from_fn_with_state(app.clone(), authorized))
        .layer(from_fn_with_state(app.clone(), faulty));
    let reliable = Router::new()
        .route("/api/attachments/{id}", get(attachment))
        .route("/api/journal", get(journal))
        .route("/api/faults", get(faults).post(plan_faults))
        .route("/api/reset", post(reset))
        .route("/api/{*rest}", axum::routing::any(nowhere))
        .layer(from_fn_with_state(app.clone(), authorized));
    breakable.merge(reliable).layer(DefaultBodyLimit::max(BODY)).with_state(app.clone())
}

fn error(status: StatusCode, body: &impl Serialize) -> Response {
    (status, Json(body)).into_response()
}

fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, &json!({"error": "not_found"}))
}

async fn nowhere() -> Response {
    not_found()
}

/// Reads what is left of a request, so that the connection can be used again after an early answer.
async fn swallow(request: Request) {
    let _ignored = to_bytes(request.into_body(), BODY).await;
}

async fn authorized(State(app): State<App>, request: Request, next: Next) -> Response {
    if bearer(request.headers()).is_some_and(|token| same(token, app.token.expose_secret())) {
        return next.run(request).await;
    }
    swallow(request).await;
    let mut response = error(StatusCode::UNAUTHORIZED, &json!({"error": "unauthorized"}));
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// In a time that does not tell how much of a guess is right.
fn same(guess: &str, token: &str) -> bool {
    guess.len() == token.len() && guess.bytes().zip(token.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

async fn faulty(State(app): State<App>, request: Request, next: Next) -> Response {
    let verdict = match request.headers().get(FAULT) {
        None => app.injector.http(request.method().as_str()),
        Some(value) => match String::from_utf8_lossy(value.as_bytes()).parse::<Fault>() {
            Ok(fault) => Verdict::from(fault),
            Err(detail) => {
                swallow(request).await;
                return error(StatusCode::BAD_REQUEST, &json!({"error": "bad_fault", "detail": detail}));
            }
        },
    };
    let line = request.extensions().get::<ConnectInfo<Line>>().map(|info| info.0.clone()).unwrap_or_default();
    let mut reset = false;
    let response = match verdict.fault {
        Some(Fault::Status { status, retry_after }) => {
            swallow(request).await;
            ordered(status, retry_after)
        }
        Some(Fault::ResetBefore) => {
            swallow(request).await;
            return cut(&line);
        }
        Some(Fault::Hang) => {
            app.stopping.cancelled().await;
            return cut(&line);
        }
        other => {
            reset = matches!(other, Some(Fault::ResetAfter));
            next.run(request).await
        }
    };
    if let Some(time) = verdict.late {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = app.stopping.cancelled() => {}
        }
    }
    if reset { cut(&line) } else { response }
}

fn cut(line: &Line) -> Response {
    line.cut();
    Response::new(Body::empty())
}

/// The answer to a request that an ordered fault refuses.
fn ordered(status: u16, retry_after: Option<u32>) -> Response {
    let word = match status {
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        409 => "conflict",
        429 => "rate_limited",
        500.. => "server_error",
        _ => "refused",
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = error(status, &json!({"error": word}));
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::NotFound => not_found(),
            Self::Closed => error(StatusCode::UNPROCESSABLE_ENTITY, &json!({"error": "closed"})),
            Self::Locked => error(StatusCode::LOCKED, &json!({"error": "locked"})),
            Self::Open => error(StatusCode::CONFLICT, &json!({"error": "open"})),
            Self::Merged { into } => error(StatusCode::CONFLICT, &json!({"error": "merged", "into": into})),
            Self::Stale { version } => error(StatusCode::CONFLICT, &json!({"error": "conflict", "version": version})),
        }
    }
}

impl IntoResponse for Invalid {
    fn into_response(self) -> Response {
        let status = match self {
            Self::MalformedJson { .. } => StatusCode::BAD_REQUEST,
            Self::UnknownField { .. } | Self::InvalidValue { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        };
        error(status, &self)
    }
}

fn bad_query(rejection: &QueryRejection) -> Response {
    error(StatusCode::BAD_REQUEST, &json!({"error": "bad_query", "detail": rejection.body_text()}))
}

async fn read(State(app): State<App>, Path(id): Path<String>) -> Response {
    app.store.ticket(&id).map_or_else(not_found, |ticket| Json(&*ticket).into_response())
}

async fn update(State(app): State<App>, Path(id): Path<String>, body: Bytes) -> Response {
    let update = match Update::read(&body) {
        Ok(update) => update,
        // Which ticket is wrong matters more to a caller than what is wrong with the body.
        Err(_) if app.store.ticket(&id).is_none() => return not_found(),
        Err(invalid) => return invalid.into_response(),
    };
    match app.store.update(&id, update, Via::Rest, Timestamp::now()) {
        Ok(applied) => Json(applied).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NotesQuery {
    marker: Option<String>,
}

async fn notes(State(app): State<App>, Path(id): Path<String>, query: Page<NotesQuery>) -> Response {
    let NotesQuery { marker } = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return bad_query(&rejection),
    };
    let Some(ticket) = app.store.ticket(&id) else { return not_found() };
    let wanted = |note: &&Note| marker.is_none() || note.marker == marker;
    let notes: Vec<&Note> = ticket.notes.iter().filter(wanted).collect();
    Json(json!({"notes": notes})).into_response()
}

async fn add_note(State(app): State<App>, Path(id): Path<String>, body: Bytes) -> Response {
    let note =
        serde_json::from_slice(&body).map_err(|e: serde_json::Error| Invalid::MalformedJson { detail: e.to_string() });
    match note.and_then(NewNote::read) {
        Ok(note) => answer(app.store.add_note(&id, note, Timestamp::now())),
        Err(invalid) => invalid.into_response(),
    }
}

fn answer(done: Result<Applied, Refusal>) -> Response {
    match done {
        Ok(applied) => Json(applied).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn follow_ups(State(app): State<App>, Path(id): Path<String>, query: Page<NotesQuery>) -> Response {
    let NotesQuery { marker } = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return bad_query(&rejection),
    };
    let found = app.store.follow_ups(&id, marker.as_deref());
    let of = |ticket: &Ticket| json!({"id": ticket.id, "marker": ticket.follows.as_ref().map(|(_, marker)| marker)});
    Json(json!({"follow_ups": found.iter().map(|t| of(t)).collect::<Vec<_>>()})).into_response()
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FollowUpBody {
    marker: Option<String>,
}

async fn follow_up(State(app): State<App>, Path(id): Path<String>, body: Bytes) -> Response {
    let Ok(FollowUpBody { marker }) = serde_json::from_slice(&body) else {
        return Invalid::InvalidValue { field: "marker".to_owned(), expected: "a string" }.into_response();
    };
    match app.store.follow_up(&id, marker, Timestamp::now()) {
        Ok(applied) => (StatusCode::CREATED, Json(applied)).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn remove(State(app): State<App>, Path(id): Path<String>) -> Response {
    app.store.remove(&id);
    Json(json!({})).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldBody {
    updates: u32,
}

async fn hold(State(app): State<App>, Path(id): Path<String>, body: Bytes) -> Response {
    let Ok(HoldBody { updates }) = serde_json::from_slice(&body) else {
        return Invalid::InvalidValue { field: "updates".to_owned(), expected: "a whole number" }.into_response();
    };
    app.store.hold(&id, updates);
    Json(json!({})).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchQuery {
    field: String,
    value: String,
    limit: Option<usize>,
}

/// Tickets whose field has a value; `total` counts those beyond the limit too.
async fn search(State(app): State<App>, query: Page<SearchQuery>) -> Response {
    let SearchQuery { field, value, limit } = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return bad_query(&rejection),
    };
    let found = app.store.search(&field, &value);
    let row = |ticket: &Ticket| json!({"id": ticket.id, "status": ticket.status, "version": ticket.version, "fields": ticket.fields});
    let rows: Vec<Value> = found.iter().take(limit.unwrap_or(ROWS)).map(|t| row(t)).collect();
    Json(json!({"total": found.len(), "tickets": rows})).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MergeBody {
    into: String,
}

async fn merge(State(app): State<App>, Path(id): Path<String>, body: Bytes) -> Response {
    let Ok(MergeBody { into }) = serde_json::from_slice(&body) else {
        return Invalid::InvalidValue { field: "into".to_owned(), expected: "the id of a ticket" }.into_response();
    };
    match app.store.merge(&id, &into, Timestamp::now()) {
        Ok(applied) => Json(applied).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[serde(default)]
    since: u64,
    limit: Option<usize>,
    ticket: Option<String>,
}

impl ListQuery {
    fn rows(&self) -> usize {
        self.limit.unwrap_or(ROWS).clamp(1, MOST_ROWS)
    }
}

/// Tickets in the order of their last change. `since` is a `seq` already seen; without it all are listed.
async fn list(State(app): State<App>, query: Page<ListQuery>) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return bad_query(&rejection),
    };
    let all = app.store.tickets();
    let later = || all.iter().filter(|ticket| query.since == 0 || ticket.seq > query.since);
    let rows: Vec<Value> = later()
        .take(query.rows())
        .map(|ticket| {
            json!({"id": ticket.id, "version": ticket.version, "seq": ticket.seq, "status": ticket.status,
                "fields": ticket.fields.len(), "tags": ticket.tags.len(), "notes": ticket.notes.len(),
                "attachments": ticket.attachments.len()})
        })
        .collect();
    Json(json!({"total": later().count(), "tickets": rows})).into_response()
}

async fn journal(State(app): State<App>, query: Page<ListQuery>) -> Response {
    match query {
        Ok(Query(query)) => {
            let entries = app.store.journal(query.since, query.rows(), query.ticket.as_deref());
            Json(json!({"total": app.store.counts().effects, "entries": entries})).into_response()
        }
        Err(rejection) => bad_query(&rejection),
    }
}

async fn attachment(State(app): State<App>, Path(id): Path<String>) -> Response {
    download(&app, &id)
}

/// An attachment as a file to save: never shown by a browser in the sandbox's own name.
pub(crate) fn download(app: &App, id: &str) -> Response {
    let Some(file) = id.parse().ok().and_then(|id| app.store.attachment(id)) else { return not_found() };
    let content_type =
        HeaderValue::from_str(&file.content_type).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let disposition = HeaderValue::from_str(&disposition(&file)).unwrap_or(HeaderValue::from_static("attachment"));
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_DISPOSITION, disposition),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'")),
    ];
    (headers, file.content).into_response()
}

/// `attachment` with the name as RFC 6266 and RFC 8187 have it.
fn disposition(file: &Attachment) -> String {
    let mut text = String::from("attachment; filename*=UTF-8''");
    for byte in file.name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

async fn by_mail(State(app): State<App>, body: Bytes) -> Response {
    match mail::deliver(&app.store, &body, None, Timestamp::now()) {
        Ok(applied) => Json(json!({"recorded": applied})).into_response(),
        Err(rejection) => {
            let status = match rejection {
                mail::Rejection::UnknownRecord(_) => StatusCode::NOT_FOUND,
                _ => StatusCode::UNPROCESSABLE_ENTITY,
            };
            error(status, &json!({"error": rejection.word(), "detail": rejection.to_string()}))
        }
    }
}

async fn reset(State(app): State<App>) -> Response {
    app.store.reset();
    app.injector.reset();
    Json(json!({})).into_response()
}

async fn faults(State(app): State<App>) -> Response {
    let (next, rates) = app.injector.describe();
    let rate: Map<String, Value> = rates.into_iter().map(|(name, rate)| (name, rate.into())).collect();
    Json(json!({"next": next, "rate": rate})).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultsBody {
    #[serde(default)]
    next: Vec<String>,
    rate: Option<Map<String, Value>>,
}

/// `next` is put behind what is already planned; `rate` takes the place of the rates there are.
async fn plan_faults(State(app): State<App>, body: Bytes) -> Response {
    let read = || -> Result<(Vec<Planned>, Option<Faults>), String> {
        let body: FaultsBody = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
        let next = body.next.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let rates = body.rate.as_ref().map(rates).transpose()?;
        Ok((next, rates))
    };
    match read() {
        Ok((next, rates)) => {
            app.injector.plan(next);
            if let Some(rates) = rates {
                app.injector.set_rates(rates);
            }
            faults(State(app)).await
        }
        Err(detail) => error(StatusCode::BAD_REQUEST, &json!({"error": "bad_fault", "detail": detail})),
    }
}

/// `{"429":0.1,"slow":"200ms@0.5"}` as the flag would say it.
fn rates(object: &Map<String, Value>) -> Result<Faults, String> {
    let part = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    };
    object.iter().map(part).collect::<Vec<_>>().join(",").parse()
}
