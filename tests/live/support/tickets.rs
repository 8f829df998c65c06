//! The real ticket system (Request Tracker 5, REST 2.0), asked by a client of the test's own.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::{Value, json};

use super::servers::Servers;

/// A client with the bridge's token.
pub(crate) struct Tickets {
    http: reqwest::Client,
    rest: String,
    token: String,
    queue: String,
}

/// A ticket as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// Its subject.
    pub(crate) subject: String,
    /// `new`, `open`, `resolved` and so on.
    pub(crate) status: String,
    /// The custom fields that have a value.
    pub(crate) fields: BTreeMap<String, String>,
}

/// One entry of a ticket's history: its id, its kind (`Create`, `Comment`, `CustomField`, …), and the old and
/// new value of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) id: u64,
    pub(crate) kind: String,
    pub(crate) old: String,
    pub(crate) new: String,
}

/// A comment with what hangs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Comment {
    pub(crate) transaction: u64,
    pub(crate) subject: String,
    pub(crate) text: String,
    pub(crate) files: Vec<Attachment>,
}

/// An attached file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) name: String,
    pub(crate) content_type: String,
    pub(crate) content: Vec<u8>,
}

impl Tickets {
    /// Connects to nothing yet.
    pub(crate) fn new(servers: &Servers) -> Self {
        Self {
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
            rest: format!("{}/REST/2.0", servers.get("RT_URL")),
            token: servers.get("RT_TOKEN").to_owned(),
            queue: servers.get("RT_QUEUE").to_owned(),
        }
    }

    /// Makes a ticket in the queue ContactCenter; its id.
    pub(crate) async fn create(&self, subject: &str) -> u64 {
        let made = self.post("ticket", &json!({ "Queue": self.queue, "Subject": subject })).await;
        number(&made["id"])
    }

    /// Comments on a ticket, as a person would.
    pub(crate) async fn comment(&self, ticket: u64, subject: &str, text: &str, files: &[Attachment]) {
        let files: Vec<Value> = files
            .iter()
            .map(|file| {
                json!({ "FileName": file.name, "FileType": file.content_type,
                        "FileContent": base64::engine::general_purpose::STANDARD.encode(&file.content) })
            })
            .collect();
        let body = json!({ "Subject": subject, "Content": text, "ContentType": "text/plain", "Attachments": files });
        self.post(&format!("ticket/{ticket}/comment"), &body).await;
    }

    /// The ticket as it is now.
    pub(crate) async fn ticket(&self, id: u64) -> Ticket {
        let ticket = self.get(&format!("ticket/{id}")).await;
        let fields = list(&ticket["CustomFields"])
            .iter()
            .filter_map(|field| Some((text(&field["name"]), text(field["values"].get(0)?))))
            .collect();
        Ticket { subject: text(&ticket["Subject"]), status: text(&ticket["Status"]), fields }
    }

    /// The ticket's whole history, oldest first.
    pub(crate) async fn history(&self, id: u64) -> Vec<Transaction> {
        let items = self.all(&format!("ticket/{id}/history?fields=Type,OldValue,NewValue")).await;
        let mut history: Vec<_> = items
            .iter()
            .map(|item| Transaction {
                id: number(&item["id"]),
                kind: text(&item["Type"]),
                old: text(&item["OldValue"]),
                new: text(&item["NewValue"]),
            })
            .collect();
        history.sort_by_key(|transaction| transaction.id);
        history
    }

    /// The ticket's comments with their attached files, oldest first.
    pub(crate) async fn comments(&self, id: u64) -> Vec<Comment> {
        let mut comments = Vec::new();
        let parts = self.all(&format!("ticket/{id}/attachments?fields=TransactionId")).await;
        for transaction in self.history(id).await.into_iter().filter(|t| t.kind == "Comment") {
            let empty = String::new();
            let mut comment =
                Comment { transaction: transaction.id, subject: empty.clone(), text: empty, files: Vec::new() };
            for part in parts.iter().filter(|part| number(&part["TransactionId"]) == transaction.id) {
                let part = self.get(&format!("attachment/{}", number(&part["id"]))).await;
                // The head of the comment is the part without a parent: the text itself, or the multipart around it.
                if number(&part["Parent"]) == 0 {
                    comment.subject = text(&part["Subject"]);
                }
                let (name, content_type) = (text(&part["Filename"]), text(&part["ContentType"]));
                if content_type.starts_with("multipart/") {
                    continue;
                }
                let encoded: String = text(&part["Content"]).split_whitespace().collect();
                let content = base64::engine::general_purpose::STANDARD.decode(encoded).expect("base64");
                if name.is_empty() {
                    comment.text.push_str(&String::from_utf8_lossy(&content));
                } else {
                    comment.files.push(Attachment { name, content_type, content });
                }
            }
            comments.push(comment);
        }
        comments
    }

    /// All pages of a list.
    async fn all(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        for page in 1.. {
            let answer = self.get(&format!("{path}&per_page=100&page={page}")).await;
            let found = list(&answer["items"]);
            items.extend_from_slice(found);
            if found.len() < 100 {
                break;
            }
        }
        items
    }

    async fn get(&self, path: &str) -> Value {
        self.send(self.http.get(format!("{}/{path}", self.rest))).await
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.http.post(format!("{}/{path}", self.rest)).header("Content-Type", "application/json");
        self.send(request.body(body.to_string())).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Value {
        let request = request.header("Authorization", format!("token {}", self.token));
        let answer = request.send().await.expect("Request Tracker answers");
        let (status, body) = (answer.status(), answer.text().await.expect("an answer"));
        assert!(status.is_success(), "Request Tracker says {status}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("Request Tracker's answer is no JSON ({e}): {body}"))
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Request Tracker writes numbers as numbers, as text, or as an object with an `id`.
fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).or_else(|| Some(number(value.get("id")?))).unwrap_or(0)
}
