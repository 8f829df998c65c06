//! What a CRM is known to suspend, cut or drop, as rules of a manifest: a mail that breaks one is refused before it is
//! sent, with the rule's name, because nobody would tell of it afterwards. Pure.

use lettre::message::Mailbox;
use regex::Regex;

use super::Content;
use crate::outcome::{Class, Reason, Verdict};
use crate::record::{Context, Inline};

/// A compiled `[email.lint]`.
#[derive(Debug, Default)]
pub(crate) struct Lint {
    pub(crate) body_chars: Option<usize>,
    pub(crate) subject_chars: Option<usize>,
    pub(crate) attachment_bytes: Option<usize>,
    pub(crate) recipients: Option<usize>,
    pub(crate) forbidden_headers: Vec<String>,
    pub(crate) sender_domain: Option<Inline>,
    pub(crate) subject: Option<Regex>,
    pub(crate) forbidden_subject: Option<Regex>,
    pub(crate) body: Option<Regex>,
}

impl Lint {
    /// The first rule that the mail breaks.
    pub(super) fn check(
        &self,
        content: &Content,
        from: &Mailbox,
        to: &[Mailbox],
        context: &Context,
    ) -> Result<(), Verdict> {
        let broken = |rule: &str, said: String| {
            let detail = format!("not sent, by `email.lint.{rule}` of the connector: {said}");
            Verdict::new(Class::Dead, Reason::MailRefused, detail)
        };
        let most = |rule: &str, what: &str, has: usize, most: Option<usize>| match most {
            Some(most) if has > most => Err(broken(rule, format!("{what} {has}, and this CRM takes {most}"))),
            _ => Ok(()),
        };
        let subject = content.headers.iter().find(|(n, _)| n == "Subject").map_or("", |(_, v)| v.as_str());
        let html = content.html.as_deref().unwrap_or("");
        let body = content.text.chars().count().max(html.chars().count());
        most("max_body_chars", "the characters of the body are", body, self.body_chars)?;
        most("max_subject_chars", "the characters of the subject are", subject.chars().count(), self.subject_chars)?;
        let attached = content.attachment.as_ref().map_or(0, |(_, text)| text.len());
        most("max_attachment_bytes", "the bytes of the attachment are", attached, self.attachment_bytes)?;
        most("max_recipients", "the recipients are", to.len(), self.recipients)?;
        let forbidden = |name: &str| self.forbidden_headers.iter().any(|f| f.eq_ignore_ascii_case(name));
        if let Some((name, _)) = content.headers.iter().find(|(name, _)| forbidden(name)) {
            return Err(broken("forbid_headers", format!("it has the header `{name}`")));
        }
        if self.subject.as_ref().is_some_and(|pattern| !pattern.is_match(subject)) {
            return Err(broken(
                "subject",
                "the subject does not have the form by which the record is found".to_owned(),
            ));
        }
        if self.forbidden_subject.as_ref().is_some_and(|pattern| pattern.is_match(subject)) {
            return Err(broken("forbid_subject", "this CRM ignores mails with such a subject".to_owned()));
        }
        if self.body.as_ref().is_some_and(|pattern| !pattern.is_match(&content.text)) {
            return Err(broken("body", "the body does not have the form that this CRM reads".to_owned()));
        }
        if let Some(domains) = &self.sender_domain {
            let domains = domains.text(context).map_err(super::template_failed)?;
            let own = from.email.domain();
            let mut known = domains.split(',').map(str::trim).filter(|d| !d.is_empty()).peekable();
            if known.peek().is_some() && !known.any(|d| d.eq_ignore_ascii_case(own)) {
                // Of every mail alike: the configuration's to mend.
                let verdict = broken("sender_domain", format!("`from` is at `{own}`, and this CRM takes `{domains}`"));
                return Err(Verdict { class: Class::Pause, ..verdict });
            }
        }
        Ok(())
    }
}
