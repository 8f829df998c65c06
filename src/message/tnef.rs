//! `winmail.dat` (MS-OXTNEF) → the files, bodies and messages inside, long names from their MAPI properties.
//!
//! A flat list of attributes, each with a checksum; the interesting ones hold lists of MAPI properties. Reads
//! by cursor, borrows nothing it has not checked, and stops at the first damage with what it has so far. RTF
//! bodies are left: Outlook sends the same text beside them.

use super::decode;

/// One thing inside.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// An attached file.
    File { name: String, content: Vec<u8> },
    /// A plain text body, in UTF-8.
    Text(Vec<u8>),
    /// An HTML body, in UTF-8.
    Html(Vec<u8>),
    /// An embedded Outlook message, itself in this format.
    Message(Vec<u8>),
}

/// What is inside, and whether all of it could be read.
#[derive(Debug, Default)]
pub(super) struct Opened {
    pub(super) items: Vec<Item>,
    /// Set where reading had to stop.
    pub(super) fault: Option<&'static str>,
}

const SIGNATURE: u32 = 0x223e_9f78;
/// Properties of one list, attributes of one file.
const MAX_COUNT: usize = 4_096;

const BODY: u32 = 0x0002_800c;
const MESSAGE_PROPERTIES: u32 = 0x0006_9003;
const ATTACHMENT_BEGINS: u32 = 0x0006_9002;
const ATTACHMENT_TITLE: u32 = 0x0001_8010;
const ATTACHMENT_DATA: u32 = 0x0006_800f;
const ATTACHMENT_PROPERTIES: u32 = 0x0006_9005;
const CODE_PAGE: u32 = 0x0006_9007;

/// A cursor that gives nothing beyond its end.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A value with its length before it, padded to four bytes; the padding of the last may be missing.
    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        let value = self.take(length)?;
        let padding = (4 - length % 4) % 4;
        self.take(padding.min(self.0.len()))?;
        Some(value)
    }
}

/// Reads a file. At most `files` things come of it.
pub(super) fn open(bytes: &[u8], files: usize) -> Opened {
    let mut reader = Reader { charset: "windows-1252".to_owned(), ..Reader::default() };
    let fault = reader.read(Bytes(bytes), files).err();
    reader.finish_attachment();
    Opened { items: reader.items, fault }
}

#[derive(Default)]
struct Reader {
    items: Vec<Item>,
    charset: String,
    /// The attachment that is being read.
    open: Option<Attachment>,
    has_text: bool,
}

#[derive(Default)]
struct Attachment {
    title: Option<String>,
    long_name: Option<String>,
    short_name: Option<String>,
    data: Option<Vec<u8>>,
    embedded: Option<Vec<u8>>,
}

impl Reader {
    fn read(&mut self, mut bytes: Bytes<'_>, files: usize) -> Result<(), &'static str> {
        const CUT: &str = "it breaks off";
        if bytes.u32() != Some(SIGNATURE) {
            return Err("it is no such file");
        }
        bytes.u16().ok_or(CUT)?;
        for _ in 0..MAX_COUNT {
            if bytes.0.is_empty() {
                return Ok(());
            }
            // Some writers pad the file with zeros.
            if bytes.0.len() < 16 && bytes.0.iter().all(|b| *b == 0) {
                return Ok(());
            }
            if self.items.len() > files {
                return Err("it holds too many files");
            }
            let level = bytes.take(1).ok_or(CUT)?;
            if !matches!(level, [1 | 2]) {
                return Err("it is damaged");
            }
            let id = bytes.u32().ok_or(CUT)?;
            let length = bytes.u32().ok_or(CUT)? as usize;
            let value = bytes.take(length).ok_or(CUT)?;
            let checksum = bytes.u16().ok_or(CUT)?;
            let sum = value.iter().fold(0_u16, |sum, b| sum.wrapping_add(u16::from(*b)));
            if sum != checksum {
                return Err("its checksum does not agree");
            }
            self.attribute(id, value)?;
        }
        Err("it has too many attributes")
    }

    fn attribute(&mut self, id: u32, value: &[u8]) -> Result<(), &'static str> {
        match id {
            CODE_PAGE => {
                if let Some(page) = Bytes(value).u32().filter(|page| *page > 0) {
                    self.charset = charset(page);
                }
            }
            BODY => self.text(value),
            MESSAGE_PROPERTIES => {
                let properties = properties(value).ok_or("its properties are damaged")?;
                let page = properties.iter().find(|p| p.id == 0x3fde).and_then(|p| Bytes(p.value).u32());
                for property in &properties {
                    match property.id {
                        0x1000 => {
                            let text = self.string(property);
                            self.text_utf8(text.into_bytes());
                        }
                        0x1013 => {
                            let label = page.map_or_else(|| self.charset.clone(), charset);
                            let html = match property.kind {
                                0x1f => self.string(property).into_bytes(),
                                _ => decode::utf8(property.value.into(), Some(&label)).0.into_owned(),
                            };
                            self.items.push(Item::Html(html));
                        }
                        _ => {}
                    }
                }
            }
            ATTACHMENT_BEGINS => {
                self.finish_attachment();
                self.open = Some(Attachment::default());
            }
            ATTACHMENT_TITLE => {
                let title = self.eight_bit(value);
                self.attachment().title = Some(title);
            }
            ATTACHMENT_DATA => self.attachment().data = Some(value.to_vec()),
            ATTACHMENT_PROPERTIES => {
                let properties = properties(value).ok_or("its properties are damaged")?;
                for property in &properties {
                    match property.id {
                        0x3707 => self.attachment().long_name = Some(self.string(property)),
                        0x3704 => self.attachment().short_name = Some(self.string(property)),
                        // An object begins with the id of its interface.
                        0x3701 if property.kind == 0x0d => {
                            let inner = property.value.get(16..).unwrap_or_default().to_vec();
                            self.attachment().embedded = Some(inner);
                        }
                        0x3701 => {
                            let data = property.value.to_vec();
                            self.attachment().data.get_or_insert(data);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn attachment(&mut self) -> &mut Attachment {
        self.open.get_or_insert_default()
    }

    fn finish_attachment(&mut self) {
        let Some(done) = self.open.take() else { return };
        let is_tnef = |bytes: &Vec<u8>| Bytes(bytes).u32() == Some(SIGNATURE);
        if let Some(inner) = done.embedded.filter(is_tnef) {
            self.items.push(Item::Message(inner));
            return;
        }
        let name = [done.long_name, done.title, done.short_name].into_iter().flatten().find(|name| !name.is_empty());
        if let Some(content) = done.data {
            self.items.push(Item::File { name: name.unwrap_or_else(|| "attachment".to_owned()), content });
        }
    }

    fn text(&mut self, value: &[u8]) {
        let text = self.eight_bit(value).into_bytes();
        self.text_utf8(text);
    }

    /// The body stands in an attribute, in a property, or in both.
    fn text_utf8(&mut self, text: Vec<u8>) {
        if !self.has_text && !text.trim_ascii().is_empty() {
            self.has_text = true;
            self.items.push(Item::Text(text));
        }
    }

    fn eight_bit(&self, value: &[u8]) -> String {
        let value = value.split(|b| *b == 0).next().unwrap_or_default();
        let (text, _) = decode::utf8(value.into(), Some(&self.charset));
        String::from_utf8_lossy(&text).into_owned()
    }

    fn string(&self, property: &Property<'_>) -> String {
        match property.kind {
            0x1f => {
                let units = property.value.chunks_exact(2).map(|unit| match unit {
                    [low, high] => u16::from_le_bytes([*low, *high]),
                    _ => 0,
                });
                let text: String = char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')).collect();
                text.trim_end_matches('\0').to_owned()
            }
            _ => self.eight_bit(property.value),
        }
    }
}

/// The label of a Windows code page.
pub(super) fn charset(page: u32) -> String {
    match page {
        65001 => "utf-8".to_owned(),
        20127 => "us-ascii".to_owned(),
        28591..=28606 => format!("iso-8859-{}", page - 28590),
        932 => "shift_jis".to_owned(),
        936 => "gbk".to_owned(),
        949 => "euc-kr".to_owned(),
        950 => "big5".to_owned(),
        page => format!("windows-{page}"),
    }
}

/// One MAPI property; of those with several values, the first.
struct Property<'a> {
    id: u16,
    kind: u16,
    value: &'a [u8],
}

/// A list of properties (MS-OXTNEF 2.1.3.4).
fn properties(value: &[u8]) -> Option<Vec<Property<'_>>> {
    let mut bytes = Bytes(value);
    let count = bytes.u32()? as usize;
    let mut out = Vec::new();
    for _ in 0..count.min(MAX_COUNT) {
        let (kind, id) = (bytes.u16()?, bytes.u16()?);
        if id >= 0x8000 {
            bytes.take(16)?;
            match bytes.u32()? {
                0 => drop(bytes.u32()?),
                _ => drop(bytes.sized()?),
            }
        }
        let (is_many, kind) = (kind & 0x1000 != 0, kind & 0x0fff);
        let fixed = match kind {
            2 | 3 | 4 | 10 | 11 => Some(4),
            5 | 6 | 7 | 20 | 64 => Some(8),
            0x48 => Some(16),
            1 => Some(0),
            0x0d | 0x1e | 0x1f | 0x102 => None,
            _ => return None,
        };
        // Values without a size of their own always have a count before them.
        let values = if is_many || fixed.is_none() { bytes.u32()? as usize } else { 1 };
        let mut first = None;
        for _ in 0..values {
            let value = match fixed {
                Some(0) => break,
                Some(length) => bytes.take(length)?,
                None => bytes.sized()?,
            };
            first.get_or_insert(value);
        }
        out.push(Property { id, kind, value: first.unwrap_or_default() });
    }
    Some(out)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn attribute(level: u8, id: u32, value: &[u8]) -> Vec<u8> {
        let sum = value.iter().fold(0_u16, |sum, b| sum.wrapping_add(u16::from(*b)));
        let length = value.len() as u32;
        [&[level][..], &id.to_le_bytes(), &length.to_le_bytes(), value, &sum.to_le_bytes()].concat()
    }

    fn list(properties: &[(u16, u16, Vec<u8>)]) -> Vec<u8> {
        let mut out = (properties.len() as u32).to_le_bytes().to_vec();
        for (kind, id, value) in properties {
            out.extend(kind.to_le_bytes());
            out.extend(id.to_le_bytes());
            if matches!(kind, 0x0d | 0x1e | 0x1f | 0x102) {
                out.extend(1_u32.to_le_bytes());
                out.extend((value.len() as u32).to_le_bytes());
            }
            out.extend(value);
            out.resize(out.len().div_ceil(4) * 4, 0);
        }
        out
    }

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
    }

    /// A file with a text body and one attachment.
    pub(in crate::message) fn winmail(name: &str, content: &[u8]) -> Vec<u8> {
        let mut out = [&SIGNATURE.to_le_bytes()[..], &[1, 0]].concat();
        out.extend(attribute(1, CODE_PAGE, &[0xe4, 4, 0, 0, 0, 0, 0, 0]));
        out.extend(attribute(
            1,
            MESSAGE_PROPERTIES,
            &list(&[(3, 0x3fde, vec![0xe9, 0xfd, 0, 0]), (0x102, 0x1013, "<p>é</p>".into())]),
        ));
        out.extend(attribute(1, BODY, b"Caf\xe9\0"));
        out.extend(attribute(2, ATTACHMENT_BEGINS, &[0; 14]));
        out.extend(attribute(2, ATTACHMENT_TITLE, b"METADA~1.JSO\0"));
        out.extend(attribute(2, ATTACHMENT_DATA, content));
        out.extend(attribute(
            2,
            ATTACHMENT_PROPERTIES,
            &list(&[(0xb, 0x7ffe, vec![0; 4]), (0x1f, 0x3707, wide(name))]),
        ));
        out
    }

    #[test]
    fn bodies_and_files_come_with_their_long_names() {
        let opened = open(&winmail("metadata-48213 ü.json", b"{}"), 100);
        assert_eq!(opened.fault, None);
        assert_eq!(
            opened.items,
            [
                Item::Html("<p>é</p>".into()),
                Item::Text("Café".into()),
                Item::File { name: "metadata-48213 ü.json".to_owned(), content: b"{}".to_vec() },
            ]
        );
    }

    #[test]
    fn an_embedded_message_is_given_as_such() {
        let inner = winmail("a.json", b"{}");
        let object = [&[7; 16][..], &inner].concat();
        let mut raw = [&SIGNATURE.to_le_bytes()[..], &[1, 0]].concat();
        raw.extend(attribute(2, ATTACHMENT_BEGINS, &[0; 14]));
        raw.extend(attribute(2, ATTACHMENT_PROPERTIES, &list(&[(0x0d, 0x3701, object)])));
        assert_eq!(open(&raw, 100).items, [Item::Message(inner)]);
    }

    #[test]
    fn damage_is_told_and_never_gives_a_bent_file() {
        let whole = winmail("a.json", b"{\"id\":48213}");
        for end in 0..whole.len() {
            assert!(open(&whole[..end], 100).items.iter().all(|item| match item {
                Item::File { content, .. } => content == b"{\"id\":48213}",
                _ => true,
            }));
        }
        let mut told = 0;
        for at in 0..whole.len() {
            let mut bent = whole.clone();
            bent[at] ^= 0x41;
            told += usize::from(open(&bent, 100).fault.is_some());
        }
        // Only the key after the signature and the seven attributes' ids are not guarded.
        assert_eq!(told, whole.len() - 2 - 7 * 4);
    }
}
