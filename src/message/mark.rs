//! The mark of our own mail: a header field that says which instance wrote a mail, signed by that instance's
//! key (HMAC-SHA256, RFC 2104). It survives a rewritten Message-ID.
//!
//! Another instance's mark is not ours and means nothing; a mark without a valid signature is no mark. The
//! key must never appear in a `Debug`, a log or a mail.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The name of the header field.
pub const FIELD: &str = "X-Mail2crm";

/// Bytes of the signature that are sent: 128 bits.
const MAC_BYTES: usize = 16;
/// A mark is shorter than this; what is longer is none.
const LONGEST: usize = 400;

/// What an instance signs its mail with. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct InstanceKey(Arc<Parts>);

#[derive(PartialEq, Eq)]
struct Parts {
    secret: [u8; 32],
    /// Made from the secret, and tells nothing about it.
    instance: String,
}

impl InstanceKey {
    /// The key of 32 random bytes.
    pub fn new(secret: [u8; 32]) -> Self {
        let hash = Sha256::new().chain_update(b"mail2crm instance\0").chain_update(secret).finalize();
        let instance = URL_SAFE_NO_PAD.encode(hash.get(..9).unwrap_or_default());
        Self(Arc::new(Parts { secret, instance }))
    }

    /// A key that everybody knows: for previews and golden cases, where nothing is sent.
    pub fn of_previews() -> Self {
        Self::new(*b"mail2crm: the key of all preview")
    }

    /// The key of a text that `to_text` wrote, white space around it allowed.
    pub fn from_text(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).ok()?;
        Some(Self::new(bytes.try_into().ok()?))
    }

    /// The key as text, for its file.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.secret)
    }

    /// The name of the instance, as marks say it.
    pub fn instance(&self) -> &str {
        &self.0.instance
    }

    /// The body of the field for a mail that carries this marker (`m2c-…`).
    pub fn mark(&self, marker: &str) -> String {
        let mac = self.signature(marker).finalize().into_bytes();
        let mac = URL_SAFE_NO_PAD.encode(mac.get(..MAC_BYTES).unwrap_or_default());
        format!("v1; instance={}; marker={marker}; mac={mac}", self.0.instance)
    }

    /// Whether the body of a field is a mark that this instance made. Folding and blanks do not matter. The
    /// comparison takes the same time wherever two signatures differ.
    pub fn made(&self, value: &str) -> bool {
        if value.len() > LONGEST {
            return false;
        }
        let mut parts = value.split(';').map(str::trim);
        if parts.next() != Some("v1") {
            return false;
        }
        let (mut instance, mut marker, mut mac) = (None, None, None);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let slot = match name.trim() {
                "instance" => &mut instance,
                "marker" => &mut marker,
                "mac" => &mut mac,
                _ => continue,
            };
            // Relays fold long fields, and some leave a blank where they did.
            if slot.replace(value.split_whitespace().collect::<String>()).is_some() {
                return false;
            }
        }
        let (Some(instance), Some(marker), Some(mac)) = (instance, marker, mac) else { return false };
        let Ok(mac) = URL_SAFE_NO_PAD.decode(mac) else { return false };
        instance == self.0.instance
            && mac.len() == MAC_BYTES
            && self.signature(&marker).verify_truncated_left(&mac).is_ok()
    }

    fn signature(&self, marker: &str) -> Hmac<Sha256> {
        // HMAC takes keys of any length, so this is the one with our bytes.
        let keyed = Hmac::<Sha256>::new_from_slice(&self.0.secret);
        let mut mac = keyed.unwrap_or_else(|fault| unreachable!("HMAC takes any key: {fault}"));
        for part in ["mail2crm mark v1", &self.0.instance, marker] {
            mac.update(part.as_bytes());
            mac.update(b"\0");
        }
        mac
    }
}

impl fmt::Debug for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceKey").field("instance", &self.0.instance).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_knows_its_own_marks_and_no_others() {
        let (ours, theirs) = (InstanceKey::new([7; 32]), InstanceKey::new([8; 32]));
        let mark = ours.mark("m2c-abc");
        assert!(ours.made(&mark));
        assert!(!theirs.made(&mark));
        assert!(!ours.made(&theirs.mark("m2c-abc")));
        assert!(ours.made(&format!(" {} ", mark.replace("; ", ";\r\n\t"))), "folded");
        assert!(ours.made(&mark.replace("mac=", "more=1; mac=")), "later versions may say more");
    }

    #[test]
    fn a_changed_mark_is_none() {
        let key = InstanceKey::new([7; 32]);
        let mark = key.mark("m2c-abc");
        for at in 0..mark.len() {
            let mut changed = mark.clone().into_bytes();
            changed[at] ^= 1;
            assert!(!key.made(&String::from_utf8(changed).expect("ASCII")), "{at}");
        }
        for bad in [
            String::new(),
            "v1".to_owned(),
            mark.replace("v1", "v2"),
            mark.rsplit_once(';').expect("parts").0.to_owned(),
            format!("{mark}; marker=m2c-def"),
            format!("{}mac=", mark.split("mac=").next().expect("a part")),
            mark[..mark.len() - 4].to_owned(),
            format!("{mark}{}", " ".repeat(500)),
        ] {
            assert!(!key.made(&bad), "{bad}");
        }
    }

    #[test]
    fn a_key_is_written_and_read_and_never_shown() {
        let key = InstanceKey::new(std::array::from_fn(|i| i as u8));
        assert_eq!(InstanceKey::from_text(&format!(" {}\n", key.to_text())), Some(key.clone()));
        assert_eq!(InstanceKey::from_text("short"), None);
        let shown = format!("{key:?} {}", key.mark("m2c-a"));
        assert!(!shown.contains(&key.to_text()) && !shown.contains("[0, 1"), "{shown}");
    }
}
