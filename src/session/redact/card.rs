//! Payment card numbers in a text: where they are. One pass, bounded work per digit, no allocation for a text
//! without long numbers.

use std::ops::Range;

/// Digits of a card number at least.
pub(super) const SHORTEST: usize = 12;
/// And at most.
pub(super) const LONGEST: usize = 19;

/// Characters between two groups of one number.
const MOST_BETWEEN: usize = 3;

/// A card number in a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Card {
    /// Its bytes, from the first digit to behind the last.
    pub(super) range: Range<usize>,
    /// Its last digits.
    pub(super) last_four: String,
}

/// False for a text that holds no card number; cheap, and false for times and for most else with digits.
pub(super) fn may_hold(text: &str) -> bool {
    if text.len() < SHORTEST || text.is_ascii() && text.bytes().filter(u8::is_ascii_digit).count() < SHORTEST {
        return false;
    }
    let (mut digits, mut gap) = (0, 0);
    for c in text.chars() {
        if digit(c).is_some() {
            (digits, gap) = (digits + 1, 0);
            if digits >= SHORTEST {
                return true;
            }
        } else if digits > 0 {
            gap += 1;
            if gap > MOST_BETWEEN || !(is_mark(c) || c.is_whitespace()) {
                digits = 0;
            }
        }
    }
    false
}

/// All card numbers, from the left, none over another. `wanted` is asked with the digits of each.
pub(super) fn find(text: &str, wanted: impl Fn(&str) -> bool) -> Vec<Card> {
    let mut found = Vec::new();
    if !may_hold(text) {
        return found;
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut chars = text.char_indices().peekable();
    let mut before = None;
    while let Some((at, c)) = chars.next() {
        if digit(c).is_none() {
            before = Some(c);
            continue;
        }
        groups.clear();
        // What a mask left of an earlier number begins none.
        let after_mask = text.get(..at).is_some_and(|head| head.ends_with("•••• "));
        let mut end = take_group(text, at, &mut groups);
        while let Some(next) = after_separator(text, end) {
            end = take_group(text, next, &mut groups);
        }
        let rest = text.get(end..).unwrap_or_default();
        let before_mask = rest.trim_start_matches(|c: char| c.is_whitespace() || is_mark(c)).starts_with("••••");
        let row = Row { text, groups: &groups, before, after_mask, is_alone: !after_mask && !before_mask };
        row.cards(&wanted, &mut found);
        while chars.next_if(|(at, _)| *at < end).is_some() {}
        before = None;
    }
    found
}

/// Digits without anything between them.
#[derive(Clone, Copy)]
struct Group {
    start: usize,
    end: usize,
    digits: usize,
}

fn take_group(text: &str, start: usize, groups: &mut Vec<Group>) -> usize {
    let (mut end, mut digits) = (start, 0);
    for c in text.get(start..).unwrap_or_default().chars().take_while(|c| digit(*c).is_some()) {
        end += c.len_utf8();
        digits += 1;
    }
    groups.push(Group { start, end, digits });
    end
}

/// Where the next digit is, if what separates the groups of one number stands between: a blank, a dash or a
/// dot, blanks round it allowed.
fn after_separator(text: &str, end: usize) -> Option<usize> {
    let mut at = end;
    let mut marks = 0;
    for (n, c) in text.get(end..)?.chars().enumerate() {
        if digit(c).is_some() {
            return (n > 0).then_some(at);
        }
        marks += usize::from(is_mark(c));
        if n >= MOST_BETWEEN || marks > 1 || !(is_mark(c) || c.is_whitespace()) {
            return None;
        }
        at += c.len_utf8();
    }
    None
}

fn is_mark(c: char) -> bool {
    matches!(c, '-' | '.' | '_' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ad}' | '\u{b7}')
}

/// Groups with separators between them.
struct Row<'t> {
    text: &'t str,
    groups: &'t [Group],
    /// What stands directly before the first.
    before: Option<char>,
    after_mask: bool,
    /// No mask stands beside it.
    is_alone: bool,
}

impl Row<'_> {
    /// The card numbers in it: whole groups that are a number together, the longest first.
    fn cards(&self, wanted: &impl Fn(&str) -> bool, found: &mut Vec<Card>) {
        let mut first = usize::from(self.after_mask);
        let mut passed = 0;
        while let Some(start) = self.groups.get(first) {
            // An international telephone number has its country before the part that could be taken for a card.
            let is_phone = self.before == Some('+') && passed < 7;
            let Some((last, number)) = self.longest(first, start.digits).filter(|_| !is_phone) else {
                passed += start.digits;
                first += 1;
                continue;
            };
            let (last, number) = self.with_overlaps(first, last, number);
            let end = self.groups.get(last).map_or(start.end, |g| g.end);
            let stands_alone = (first > 0 || !self.joins_before(start.start))
                && (last + 1 < self.groups.len() || !is_attached(words_after(self.text, end)));
            if stands_alone && wanted(&number) {
                let last_four = number.get(number.len().saturating_sub(4)..).unwrap_or_default().to_owned();
                found.push(Card { range: start.start..end, last_four });
            }
            passed += number.len();
            first = last + 1;
        }
    }

    /// Groups may belong to one number or to the next: what can be read in two ways is masked as a whole.
    fn with_overlaps(&self, first: usize, mut last: usize, mut number: String) -> (usize, String) {
        let mut at = first + 1;
        while at <= last {
            let size = self.groups.get(at).map_or(0, |g| g.digits);
            if let Some((further, other)) = self.longest(at, size).filter(|(further, _)| *further > last) {
                (last, number) = (further, other);
            }
            at += 1;
        }
        (last, number)
    }

    /// The longest card number that begins with this group: its last group and its digits.
    fn longest(&self, first: usize, size: usize) -> Option<(usize, String)> {
        let mut check = Check::default();
        let mut longest = None;
        // Groups of one size are printed or dictated so; beside other numbers, a short one is none of the card's.
        let (mut even, mut large) = (true, true);
        for (count, group) in self.groups.get(first..).unwrap_or_default().iter().enumerate() {
            if check.count + group.digits > LONGEST {
                break;
            }
            for c in self.text.get(group.start..group.end).unwrap_or_default().chars() {
                check.push(digit(c).unwrap_or_default());
            }
            even &= group.digits == size;
            large &= group.digits >= 3;
            let is_whole = self.is_alone && first == 0 && count + 1 == self.groups.len();
            if (is_whole || even || large) && check.is_card() {
                longest = Some((first + count, check.text()));
            }
        }
        longest
    }

    /// Whether what stands before the first digit makes it part of something else: a word, the path of a link.
    fn joins_before(&self, at: usize) -> bool {
        let head = self.text.get(..at).unwrap_or_default();
        if self.before == Some('/') {
            let start = head.rfind(char::is_whitespace).unwrap_or_default();
            let word = head.get(start..).unwrap_or_default();
            return word.contains("://") && !word.contains('?');
        }
        is_attached(head.chars().rev().take_while(|c| c.is_alphanumeric()).take(WORD))
    }
}

/// Letters of a neighbouring word that are looked at.
const WORD: usize = 32;

fn words_after(text: &str, at: usize) -> impl Iterator<Item = char> {
    text.get(at..).unwrap_or_default().chars().take_while(|c| c.is_alphanumeric()).take(WORD)
}

/// Whether a number with these letters beside it is part of a code. A word (`visa4111…`) does not make it one.
fn is_attached(neighbours: impl Iterator<Item = char>) -> bool {
    let (mut count, mut letters) = (0, 0);
    for c in neighbours {
        count += 1;
        letters += usize::from(c.is_alphabetic());
    }
    count == 1 || letters < count
}

/// A number on its way, with both sums of Luhn's check: which of them counts depends on its length.
#[derive(Default)]
struct Check {
    digits: [u8; LONGEST],
    count: usize,
    even: u32,
    odd: u32,
}

impl Check {
    fn push(&mut self, digit: u8) {
        let Some(slot) = self.digits.get_mut(self.count) else { return };
        *slot = digit;
        let twice = digit * 2;
        let doubled = u32::from(if twice > 9 { twice - 9 } else { twice });
        let (plain, double) = if self.count.is_multiple_of(2) {
            (&mut self.odd, &mut self.even)
        } else {
            (&mut self.even, &mut self.odd)
        };
        *plain += u32::from(digit);
        *double += doubled;
        self.count += 1;
    }

    fn is_card(&self) -> bool {
        let sum = if self.count.is_multiple_of(2) { self.even } else { self.odd };
        self.count >= SHORTEST && sum.is_multiple_of(10) && self.has_scheme()
    }

    /// Whether the first digits and the length are those of a card scheme.
    fn has_scheme(&self) -> bool {
        let head = self.digits.iter().take(6).fold(0u32, |n, d| n * 10 + u32::from(*d));
        let (two, three, four) = (head / 10_000, head / 1_000, head / 100);
        match self.count {
            13 if head / 100_000 == 4 => true, // Visa, old
            15 => matches!(two, 34 | 37) || matches!(four, 2131 | 1800) || four == 2014 || four == 2149, // Amex, JCB, enRoute
            14 => matches!(three, 300..=305 | 309) || matches!(two, 36 | 38 | 39),                       // Diners
            12..=19 if matches!(two, 50 | 56..=69) => true, // Maestro, Discover, UnionPay, RuPay, Troy, Elo
            16 => {
                matches!(two, 40..=49 | 51..=55) // Visa, Mastercard
                    || matches!(four, 2221..=2720 | 2200..=2204 | 3528..=3589) // Mastercard, Mir, JCB
                    || matches!(two, 81 | 82) // RuPay
                    || matches!(two, 36 | 38 | 39)
                    || matches!(three, 300..=305 | 309)
                    || four == 9792 // Troy
            }
            17..=19 => head / 100_000 == 4 || matches!(four, 3528..=3589 | 2200..=2204),
            _ => false,
        }
    }

    fn text(&self) -> String {
        self.digits.iter().take(self.count).map(|d| char::from(b'0' + d)).collect()
    }
}

/// Decimal digits of the scripts that agents type in.
fn digit(c: char) -> Option<u8> {
    let zero = match c {
        '0'..='9' => '0',
        '\u{660}'..='\u{669}' => '\u{660}',
        '\u{6f0}'..='\u{6f9}' => '\u{6f0}',
        '\u{966}'..='\u{96f}' => '\u{966}',
        '\u{ff10}'..='\u{ff19}' => '\u{ff10}',
        _ => return None,
    };
    u8::try_from(u32::from(c) - u32::from(zero)).ok()
}
