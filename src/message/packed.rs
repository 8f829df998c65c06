//! A file that holds files → what is in it: gzip (RFC 1952) and zip (APPNOTE 6.3), told by their first bytes.
//!
//! Ours over `flate2` rather than the `zip` crate: a stranger's archive needs a cap before every step, not a
//! file system's features. Stored and deflated entries are read; encrypted, damaged and foreign ones are told,
//! never guessed at. Nothing is unpacked beyond the budget or the ratio, and checksums must agree.

use std::io::Read;

use flate2::Crc;
use flate2::bufread::{DeflateDecoder, GzDecoder};

use super::decode;

/// What a file with these first bytes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Gzip,
    Zip,
    /// `winmail.dat`.
    Tnef,
    /// An Outlook message, in an OLE file.
    Msg,
}

impl Format {
    /// Costs a look at the first bytes. Office documents are zips and OLE files too, and are left alone.
    pub(super) fn of(bytes: &[u8], name: &str, subtype: &str) -> Option<Self> {
        match bytes {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] if !is_office(bytes, name) => Some(Self::Zip),
            [0x78, 0x9f, 0x3e, 0x22, ..] => Some(Self::Tnef),
            [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1, ..] if is_outlook(bytes, name, subtype) => Some(Self::Msg),
            _ => None,
        }
    }
}

/// Among the files of this kind only a message has the stream with its properties.
fn is_outlook(bytes: &[u8], name: &str, subtype: &str) -> bool {
    const PROPERTIES: &[u8] = b"_\0_\0p\0r\0o\0p\0e\0r\0t\0i\0e\0s\0_\0v\0e\0r\0s\0i\0o\0n\x001\0.\x000\0";
    ends(name, ".msg")
        || matches!(subtype, "vnd.ms-outlook" | "x-msg")
        || memchr::memmem::find(bytes, PROPERTIES).is_some()
}

fn is_office(bytes: &[u8], name: &str) -> bool {
    const OTHERS: [&str; 12] =
        [".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp", ".jar", ".apk", ".epub", ".vsdx", ".xlsm", ".docm"];
    let first = bytes.get(30..50).unwrap_or_default();
    OTHERS.iter().any(|end| ends(name, end))
        || first.starts_with(b"[Content_Types].xml")
        || first.starts_with(b"mimetype")
}

fn ends(name: &str, end: &str) -> bool {
    let at = name.len().wrapping_sub(end.len());
    name.get(at..).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}

/// A file inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) content: Vec<u8>,
}

/// What came of opening.
#[derive(Debug, Default)]
pub(super) struct Opened {
    pub(super) files: Vec<File>,
    /// What could not be read: the name inside if there is one, and why.
    pub(super) unread: Vec<(String, String)>,
}

/// What may still be unpacked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) bytes: usize,
    pub(super) files: usize,
    /// How many bytes may come of one.
    pub(super) ratio: usize,
}

/// Why unpacking had to stop.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// A limit was passed: the message must not be processed.
    Bomb(String),
    /// The bytes are not what they should be.
    Damaged(&'static str),
}

/// Up to here any ratio is harmless: a document of blanks is no bomb.
const FREE: usize = 1 << 20;

/// Appends what comes out until the end, and no further than budget and ratio. `used` says how much of the
/// input was taken.
fn unpack<R: Read>(
    mut from: R,
    used: impl Fn(&R) -> usize,
    packed: usize,
    budget: &Budget,
    out: &mut Vec<u8>,
) -> Result<(), Stop> {
    // Room for most at once: a buffer that grows by doubling takes three times the limit on its way there.
    out.reserve_exact(budget.bytes.min(packed.saturating_mul(8)));
    let before = out.len();
    let mut buffer = [0_u8; 16 << 10];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(fault) if fault.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(Stop::Damaged("it breaks off"));
            }
            Err(_) => return Err(Stop::Damaged("it is damaged")),
        };
        let unpacked = out.len() - before + count;
        if unpacked > budget.bytes {
            return Err(Stop::Bomb(format!("unpacks to more than {} bytes", budget.bytes)));
        }
        out.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if unpacked > FREE && unpacked / budget.ratio.max(1) > used(&from).max(1) {
            return Err(Stop::Bomb(format!("unpacks to more than {} times its size", budget.ratio)));
        }
    }
}

/// Opens a gzip file, all its members together. `outer` is the name of the file itself.
pub(super) fn gzip(bytes: &[u8], outer: &str, budget: &Budget) -> Result<Opened, Stop> {
    let mut content = Vec::new();
    let mut name = None;
    let mut rest = bytes;
    let mut opened = Opened::default();
    for _ in 0..budget.files.min(1_000) {
        let left = Budget { bytes: budget.bytes.saturating_sub(content.len()), ..*budget };
        let mut decoder = GzDecoder::new(rest);
        let inner = decoder.header().and_then(|head| head.filename()).map(decode::unlabelled);
        name = name.or(inner.map(|name| file_name(&name)));
        let total = rest.len();
        match unpack(&mut decoder, |d| total - d.get_ref().len(), total, &left, &mut content) {
            Ok(()) => {}
            Err(Stop::Damaged(why)) => {
                let name = name.unwrap_or_else(|| without_extension(outer));
                opened.unread.push((name, why.to_owned()));
                return Ok(opened);
            }
            Err(stop) => return Err(stop),
        }
        rest = decoder.into_inner();
        // Zeros or other bytes behind the last member are padding.
        if !rest.starts_with(&[0x1f, 0x8b]) {
            break;
        }
    }
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| without_extension(outer));
    opened.files.push(File { name, content });
    Ok(opened)
}

fn without_extension(name: &str) -> String {
    match [".gz", ".gzip"].iter().find(|end| ends(name, end)) {
        Some(end) => name.get(..name.len() - end.len()).unwrap_or(name).to_owned(),
        None if name.is_empty() => "file".to_owned(),
        None => name.to_owned(),
    }
}

fn file_name(path: &str) -> String {
    let name = path.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default();
    name.chars().filter(|c| !c.is_control()).take(200).collect::<String>().trim().to_owned()
}

/// Opens a zip: what its central directory lists, in that order.
pub(super) fn zip(bytes: &[u8], budget: &Budget) -> Result<Opened, Stop> {
    let (count, start, shift) = directory(bytes).ok_or(Stop::Damaged("it has no directory, or breaks off"))?;
    if count > budget.files {
        return Err(Stop::Bomb(format!("holds {count} files")));
    }
    let mut opened = Opened::default();
    let mut left = *budget;
    let mut at = start;
    for _ in 0..count {
        let Some((mut entry, next)) = Entry::read(bytes, at) else {
            opened.unread.push((String::new(), "its directory is damaged".to_owned()));
            break;
        };
        at = next;
        entry.at = entry.at.saturating_add(shift);
        if entry.is_folder || entry.is_media() {
            continue;
        }
        match entry.open(bytes, &left) {
            Ok(content) => {
                left.bytes = left.bytes.saturating_sub(content.len());
                opened.files.push(File { name: entry.name, content });
            }
            Err(Stop::Damaged(why)) => opened.unread.push((entry.name, why.to_owned())),
            Err(stop) => return Err(stop),
        }
    }
    Ok(opened)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// The end record, within the longest comment of the end: number of entries, where they begin, and how many
/// bytes stand before the archive.
fn directory(bytes: &[u8]) -> Option<(usize, usize, usize)> {
    let from = bytes.len().saturating_sub(22 + 0xffff);
    let end = from + memchr::memmem::rfind(bytes.get(from..)?, b"PK\x05\x06")?;
    let count = u16_at(bytes, end + 10)?;
    let (size, start) = (u32_at(bytes, end + 12)? as usize, u32_at(bytes, end + 16)? as usize);
    // What stands before the archive, such as a loader, shifts everything; the size does not lie then.
    let begins = |at: usize| bytes.get(at..at.checked_add(4)?).filter(|b| *b == b"PK\x01\x02").map(|_| at);
    if count == 0 || begins(start).is_some() {
        return Some((count, start, 0));
    }
    let real = begins(end.checked_sub(size)?)?;
    Some((count, real, real.checked_sub(start)?))
}

/// One line of the central directory.
struct Entry {
    name: String,
    is_folder: bool,
    is_encrypted: bool,
    method: usize,
    checksum: u32,
    packed: usize,
    size: usize,
    /// Where its local header is.
    at: usize,
}

impl Entry {
    fn read(bytes: &[u8], at: usize) -> Option<(Self, usize)> {
        if bytes.get(at..at.checked_add(4)?)? != b"PK\x01\x02" {
            return None;
        }
        let lengths = [u16_at(bytes, at + 28)?, u16_at(bytes, at + 30)?, u16_at(bytes, at + 32)?];
        let path = decode::unlabelled(bytes.get(at + 46..at + 46 + lengths[0])?);
        let entry = Self {
            is_folder: path.ends_with(['/', '\\']),
            name: file_name(&path),
            is_encrypted: u16_at(bytes, at + 8)? & 1 != 0,
            method: u16_at(bytes, at + 10)?,
            checksum: u32_at(bytes, at + 16)?,
            packed: u32_at(bytes, at + 20)? as usize,
            size: u32_at(bytes, at + 24)? as usize,
            at: u32_at(bytes, at + 42)? as usize,
        };
        Some((entry, at + 46 + lengths.iter().sum::<usize>()))
    }

    /// Recordings and pictures are never metadata, and may be large.
    fn is_media(&self) -> bool {
        const MEDIA: [&str; 12] =
            [".wav", ".mp3", ".mp4", ".ogg", ".m4a", ".png", ".jpg", ".jpeg", ".gif", ".pdf", ".mov", ".webm"];
        MEDIA.iter().any(|end| ends(&self.name, end))
    }

    fn open(&self, bytes: &[u8], budget: &Budget) -> Result<Vec<u8>, Stop> {
        if self.is_encrypted {
            return Err(Stop::Damaged("it is encrypted"));
        }
        let data = self.data(bytes).ok_or(Stop::Damaged("it breaks off"))?;
        let content = match self.method {
            0 if data.len() > budget.bytes => {
                return Err(Stop::Bomb(format!("unpacks to more than {} bytes", budget.bytes)));
            }
            0 => data.to_vec(),
            8 => {
                let mut content = Vec::new();
                unpack(DeflateDecoder::new(data), |d| d.total_in() as usize, data.len(), budget, &mut content)?;
                content
            }
            _ => return Err(Stop::Damaged("it is packed in a way that is not read")),
        };
        let mut sum = Crc::new();
        sum.update(&content);
        if content.len() != self.size || sum.sum() != self.checksum {
            return Err(Stop::Damaged("its checksum does not agree"));
        }
        Ok(content)
    }

    fn data<'b>(&self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        if bytes.get(self.at..self.at.checked_add(4)?)? != b"PK\x03\x04" {
            return None;
        }
        let start = self.at + 30 + u16_at(bytes, self.at + 26)? + u16_at(bytes, self.at + 28)?;
        bytes.get(start..start.checked_add(self.packed)?)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder};

    use super::*;

    const BUDGET: Budget = Budget { bytes: 8 << 20, files: 100, ratio: 100 };

    /// A zip of deflated files.
    pub(in crate::message) fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
        let (mut out, mut list) = (Vec::new(), Vec::new());
        for (name, content) in files {
            let mut deflate = DeflateEncoder::new(Vec::new(), Compression::best());
            deflate.write_all(content).unwrap();
            let packed = deflate.finish().unwrap();
            let mut sum = Crc::new();
            sum.update(content);
            let mut head = vec![0, 0, 8, 0, 0, 0, 0, 0];
            head.extend(sum.sum().to_le_bytes());
            head.extend((packed.len() as u32).to_le_bytes());
            head.extend((content.len() as u32).to_le_bytes());
            head.extend((name.len() as u16).to_le_bytes());
            head.extend([0, 0]);
            let at = out.len() as u32;
            out.extend(b"PK\x03\x04\x14\0");
            out.extend(&head);
            out.extend(name.as_bytes());
            out.extend(&packed);
            list.extend(b"PK\x01\x02\x14\0\x14\0");
            list.extend(&head);
            list.extend([0; 10]);
            list.extend(at.to_le_bytes());
            list.extend(name.as_bytes());
        }
        let (start, size, count) = (out.len() as u32, list.len() as u32, (files.len() as u16).to_le_bytes());
        out.extend(list);
        out.extend(b"PK\x05\x06\0\0\0\0");
        out.extend([count, count].concat());
        out.extend(size.to_le_bytes());
        out.extend(start.to_le_bytes());
        out.extend([0, 0]);
        out
    }

    fn gzipped(content: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(content).unwrap();
        gzip.finish().unwrap()
    }

    fn names(opened: &Opened) -> Vec<(&str, usize)> {
        opened.files.iter().map(|f| (f.name.as_str(), f.content.len())).collect()
    }

    #[test]
    fn a_zip_gives_its_files_but_no_folders_and_recordings() {
        let zip_file =
            zipped(&[("a/", b""), ("a/metadata-1.json", b"{\"id\":1}"), ("call.wav", b"x"), ("b.txt", b"bb")]);
        assert_eq!(Format::of(&zip_file, "x.bin", ""), Some(Format::Zip));
        assert_eq!(Format::of(&zip_file, "x.docx", ""), None);
        let opened = zip(&zip_file, &BUDGET).unwrap();
        assert_eq!(names(&opened), [("metadata-1.json", 8), ("b.txt", 2)]);
        let shifted = [b"loader".as_slice(), &zip_file].concat();
        assert_eq!(zip(&shifted, &BUDGET).unwrap().files.len(), 2);
    }

    #[test]
    fn a_gzip_file_is_one_file_with_the_name_inside_or_without_its_ending() {
        let file = gzipped(b"{\"id\":1}");
        assert_eq!(names(&gzip(&file, "m.json.gz", &BUDGET).unwrap()), [("m.json", 8)]);
        let two = [file.as_slice(), &file, &[0; 20]].concat();
        assert_eq!(names(&gzip(&two, "m.json.GZ", &BUDGET).unwrap()), [("m.json", 16)]);
    }

    #[test]
    fn bombs_are_refused_before_they_go_off() {
        let blanks = vec![b' '; 4 << 20];
        assert!(matches!(gzip(&gzipped(&blanks), "b.gz", &BUDGET), Err(Stop::Bomb(_))));
        assert!(matches!(zip(&zipped(&[("b", &blanks)]), &BUDGET), Err(Stop::Bomb(_))));
        let small = Budget { bytes: 10, ..BUDGET };
        assert!(matches!(zip(&zipped(&[("a", b"12345678"), ("b", b"12345678")]), &small), Err(Stop::Bomb(_))));
        let many: Vec<(&str, &[u8])> = vec![("a", b""); 101];
        assert!(matches!(zip(&zipped(&many), &BUDGET), Err(Stop::Bomb(_))));
    }

    #[test]
    fn damage_is_told_and_nothing_false_comes_of_it() {
        let content = br#"{"id":48213,"out_ticket_id":"C-1","status":"finished"}"#;
        let whole = [zipped(&[("metadata.json", content)]), gzipped(content)];
        for (number, file) in whole.iter().enumerate() {
            let open = |bytes: &[u8]| if number == 0 { zip(bytes, &BUDGET) } else { gzip(bytes, "m.gz", &BUDGET) };
            for end in 0..file.len() {
                let opened = open(&file[..end]);
                assert!(opened.is_err() || opened.is_ok_and(|o| o.files.iter().all(|f| f.content == content)));
            }
            for at in 0..file.len() {
                for bit in 0..8 {
                    let mut bent = file.clone();
                    bent[at] ^= 1 << bit;
                    if let Ok(opened) = open(&bent) {
                        assert!(opened.files.iter().all(|f| f.content == content), "{number}, byte {at}");
                    }
                }
            }
        }
        let mut encrypted = whole[0].clone();
        let list = memchr::memmem::find(&encrypted, b"PK\x01\x02").unwrap();
        encrypted[list + 8] |= 1;
        let opened = zip(&encrypted, &BUDGET).unwrap();
        assert_eq!(opened.unread, [("metadata.json".to_owned(), "it is encrypted".to_owned())]);
    }
}
