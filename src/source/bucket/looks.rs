//! Where in a big bucket new objects are likely: listings of few names between sweeps, so that what comes is found at
//! the next look although a sweep of everything takes hours. Only a help: whatever it misses, the sweep finds. Pure.
//!
//! Two habits of writers are known. Dated folders: those in which the newest objects were are listed again, and the
//! folders above them for others that are new. Growing numbers, in folders too big to list: the names that begin as the
//! newest do but for their last two digits, and those of the next hundred.

use std::collections::{BTreeMap, HashSet};

use crate::store::Object;

/// Folders that are listed again.
const HOT: usize = 6;
/// Folders under one that are known; one with more (a folder for each session) is left to the sweep.
const MOST_KNOWN: usize = 5_000;

#[derive(Debug, Default)]
pub(super) struct Looks {
    /// The newest object of each folder that had some lately.
    newest: BTreeMap<String, (i64, String)>,
    /// Folders with more objects than a page.
    big: HashSet<String>,
    /// The folders below a folder, as it was last listed; nothing if they are too many.
    known: BTreeMap<String, Option<HashSet<String>>>,
}

/// A listing to make.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The objects whose names begin so.
    Objects(String),
    /// The folders in this one.
    Folders(String),
}

fn folder(name: &str) -> &str {
    name.rfind('/').and_then(|at| name.get(..=at)).unwrap_or_default()
}

impl Looks {
    /// An object was seen.
    pub(super) fn learn(&mut self, object: &Object) {
        let time = object.modified.map_or(0, jiff::Timestamp::as_microsecond);
        let folder = folder(&object.name);
        match self.newest.get_mut(folder) {
            Some(newest) if newest.0 < time => *newest = (time, object.name.clone()),
            Some(_) => {}
            None => {
                self.newest.insert(folder.to_owned(), (time, object.name.clone()));
                if self.newest.len() > HOT
                    && let Some(oldest) = self.newest.iter().min_by_key(|(_, (time, _))| *time)
                {
                    let oldest = oldest.0.clone();
                    self.newest.remove(&oldest);
                }
            }
        }
    }

    /// A listing of a folder's objects did not fit on one page.
    pub(super) fn is_big(&mut self, folder: &str) {
        self.big.insert(folder.to_owned());
    }

    /// What to list.
    pub(super) fn plan(&self) -> Vec<Look> {
        let mut plan = Vec::new();
        let mut above = HashSet::from([""]);
        for (folder, (_, name)) in &self.newest {
            above.extend(folder.match_indices('/').filter_map(|(at, _)| folder.get(..=at)).filter(|up| up != folder));
            if self.big.contains(folder) {
                plan.extend(blocks(folder, name).into_iter().flatten().map(Look::Objects));
            } else {
                plan.push(Look::Objects(folder.clone()));
            }
        }
        let mut above: Vec<&str> = above.into_iter().filter(|up| !matches!(self.known.get(*up), Some(None))).collect();
        above.sort_unstable();
        plan.extend(above.into_iter().map(|up| Look::Folders(up.to_owned())));
        plan
    }

    /// The folders in a folder, which say where to look: those that were not there at the last look. At the first look
    /// the last one by name: where folders are dated, the newest is below it.
    pub(super) fn folders(&mut self, above: &str, folders: &[String], is_all: bool) -> Vec<String> {
        if !is_all || folders.len() > MOST_KNOWN {
            self.known.insert(above.to_owned(), None);
            return Vec::new();
        }
        let now: HashSet<String> = folders.iter().cloned().collect();
        match self.known.insert(above.to_owned(), Some(now)) {
            Some(Some(before)) => folders.iter().filter(|folder| !before.contains(*folder)).cloned().collect(),
            _ => folders.iter().max().cloned().into_iter().collect(),
        }
    }
}

/// What names begin with that are near this one by their last number, and near the next ones. Nothing without a number.
fn blocks(folder: &str, name: &str) -> Option<[String; 2]> {
    let own = name.get(folder.len()..)?;
    let end = own.rfind(|c: char| c.is_ascii_digit())? + 1;
    let begin = own
        .get(..end)?
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |at| at + own.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8));
    let digits = own.get(begin..end)?;
    let leading = digits.get(..digits.len().checked_sub(2)?).filter(|leading| !leading.is_empty())?;
    let next = leading.parse::<u64>().ok()?.checked_add(1)?;
    let stem = format!("{folder}{}", own.get(..begin)?);
    Some([format!("{stem}{leading}"), format!("{stem}{next:0width$}", width = leading.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, time: i64) -> Object {
        let modified = jiff::Timestamp::from_second(time).ok();
        Object { name: name.into(), size: 1, modified, tag: String::new() }
    }

    #[test]
    fn names_near_the_newest_are_those_of_its_hundred_and_the_next() {
        let blocks = |name: &str| blocks(folder(name), name).map(|two| two.join(" "));
        assert_eq!(blocks("m/metadata-48213.json").as_deref(), Some("m/metadata-482 m/metadata-483"));
        assert_eq!(blocks("call-99950.json").as_deref(), Some("call-999 call-1000"));
        assert_eq!(blocks("☎00417").as_deref(), Some("☎004 ☎005"));
        assert_eq!(blocks("m/call-12.json"), None);
        assert_eq!(blocks("m/README"), None);
        assert_eq!(blocks("m/99999999999999999999999.json"), None);
    }

    #[test]
    fn dated_folders_are_looked_into_and_new_ones_are_found() {
        let mut looks = Looks::default();
        for day in 1..=28 {
            looks.learn(&object(&format!("m/2026/02/{day:02}/call-{day}.json"), day));
        }
        let plan = looks.plan();
        assert_eq!(plan.len(), HOT + 4);
        assert!(plan.contains(&Look::Objects("m/2026/02/28/".into())));
        assert!(!plan.contains(&Look::Objects("m/2026/02/01/".into())));
        for above in ["", "m/", "m/2026/", "m/2026/02/"] {
            assert!(plan.contains(&Look::Folders(above.into())), "{above}");
        }
        let months = |n: usize| (1..=n).map(|m| format!("m/2026/{m:02}/")).collect::<Vec<_>>();
        assert_eq!(looks.folders("m/2026/", &months(2), true), ["m/2026/02/"]);
        assert_eq!(looks.folders("m/2026/", &months(3), true), ["m/2026/03/"]);
        assert_eq!(looks.folders("m/2026/", &months(3), true), [""; 0]);
    }

    #[test]
    fn a_folder_for_each_session_is_left_to_the_sweep() {
        let mut looks = Looks::default();
        looks.learn(&object("s/1/metadata.json", 1));
        assert!(looks.plan().contains(&Look::Folders("s/".into())));
        assert_eq!(looks.folders("s/", &[], false), [""; 0]);
        assert!(!looks.plan().contains(&Look::Folders("s/".into())));
    }
}
