//! HTML tables of labels and values: two columns, pairs side by side, label and description and value, one
//! column for each session, or a header row with a session in each row.

use std::ops::Range;

use super::Harvest;
use super::block::Block;
use crate::message::html::Html;
use crate::session::evidence::How;
use crate::session::profile::{Label, Profile, Slot};

type Row = [Range<usize>];

/// Reads every table of a body; inner tables come first, and one that gave nothing leaves it to the outer.
pub(super) fn read(html: &Html, place: &str, profile: &Profile, harvest: &mut Harvest) {
    let mut scratch = String::new();
    for (number, rows) in html.tables.iter().enumerate() {
        let mut reader =
            Reader { html, place, profile, harvest: &mut *harvest, number: number + 1, scratch: &mut scratch };
        if !reader.by_header(rows) {
            reader.by_pairs(rows);
        }
    }
}

struct Reader<'r> {
    html: &'r Html,
    place: &'r str,
    profile: &'r Profile,
    harvest: &'r mut Harvest,
    number: usize,
    scratch: &'r mut String,
}

impl<'r> Reader<'r> {
    fn cell(&self, range: &Range<usize>) -> &'r str {
        self.html.text.get(range.clone()).unwrap_or("").trim()
    }

    fn label(&mut self, range: &Range<usize>) -> Option<Label> {
        if range.len() > 160 {
            return None;
        }
        let text = self.cell(range);
        // Keys of JSON that somebody set into a table are no labels.
        if text.starts_with(['"', '“', '{', '[']) {
            return None;
        }
        self.profile.label(text, self.scratch)
    }

    fn finish(&mut self, block: Block) {
        block.finish(How::HtmlTable, self.place, self.harvest);
    }

    fn add(&self, block: &mut Block, label: Label, value: &str, row: usize) {
        let place = || format!("{}, table {}, row {}", self.place, self.number, row + 1);
        block.add(label, value, self.profile, &place);
    }

    /// A row of labels, with the id among them, above rows of values.
    fn by_header(&mut self, rows: &[Vec<Range<usize>>]) -> bool {
        let mut header: Option<Vec<Option<Label>>> = None;
        let mut found = false;
        for (number, row) in rows.iter().enumerate() {
            let labels: Vec<Option<Label>> = row.iter().map(|c| self.label(c)).collect();
            let known = labels.iter().flatten().count();
            let has_id = labels.iter().flatten().any(|l| l.slot == Slot::Id);
            if known >= 3 && has_id && known * 2 >= row.len() {
                header = Some(labels);
                continue;
            }
            let Some(labels) = header.clone().filter(|h| h.len() == row.len()) else { continue };
            let mut block = Block::default();
            for (label, cell) in labels.iter().zip(row) {
                if let Some(label) = label {
                    self.add(&mut block, *label, self.cell(cell), number);
                }
            }
            found |= block.has_id();
            self.finish(block);
        }
        found
    }

    fn by_pairs(&mut self, rows: &[Vec<Range<usize>>]) {
        if self.by_columns(rows) {
            return;
        }
        let mut block = Block::default();
        for (number, row) in rows.iter().enumerate() {
            for (label, value) in self.pairs(row) {
                let starts_new = block.contradicts(label, value, self.profile)
                    || (label.slot == Slot::Id && block.has_id() && !label.weak);
                if starts_new {
                    let done = std::mem::take(&mut block);
                    self.finish(done);
                }
                self.add(&mut block, label, value, number);
            }
        }
        self.finish(block);
    }

    /// The pairs of one row: `label value`, `label value label value`, `label description value`.
    fn pairs(&mut self, row: &Row) -> Vec<(Label, &'r str)> {
        let labels: Vec<Option<Label>> = row.iter().map(|c| self.label(c)).collect();
        let even = row.len() >= 4 && row.len().is_multiple_of(2) && labels.iter().step_by(2).all(Option::is_some);
        if even {
            return row
                .chunks(2)
                .zip(labels.iter().step_by(2))
                .filter_map(|(pair, label)| Some(((*label)?, self.cell(pair.get(1)?))))
                .collect();
        }
        let Some(first) = row.iter().position(|c| !self.cell(c).is_empty()) else { return Vec::new() };
        let Some(Some(label)) = labels.get(first) else { return Vec::new() };
        let value = row.iter().skip(first + 1).map(|c| self.cell(c)).rfind(|v| !v.is_empty() && *v != ":");
        vec![(*label, value.unwrap_or(""))]
    }

    /// Labels in the first column, and in each further column a session.
    fn by_columns(&mut self, rows: &[Vec<Range<usize>>]) -> bool {
        let is_id = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let columns = rows.iter().find_map(|row| {
            let label = row.first().and_then(|c| self.label(c))?;
            let ids = row.iter().skip(1).all(|c| is_id(self.cell(c)));
            (label.slot == Slot::Id && row.len() >= 3 && ids).then_some(row.len())
        });
        let Some(columns) = columns else { return false };
        let rows: Vec<_> = rows.iter().enumerate().filter(|(_, row)| row.len() == columns).collect();
        for column in 1..columns {
            let mut block = Block::default();
            for &(number, row) in &rows {
                let Some(label) = row.first().and_then(|c| self.label(c)) else { continue };
                if let Some(cell) = row.get(column) {
                    self.add(&mut block, label, self.cell(cell), number);
                }
            }
            self.finish(block);
        }
        true
    }
}
