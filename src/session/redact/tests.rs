//! Card numbers in every dress, what only looks like one, and the properties that hold for every text.

use serde_json::json;

use super::*;

fn masked(text: &str) -> String {
    let mut text = text.to_owned();
    Redaction::default().text(&mut text);
    text
}

#[test]
fn card_numbers_are_found_in_every_dress() {
    for (text, expected) in [
        ("4111111111111111", "•••• •••• •••• 1111"),
        ("card 4111 1111 1111 1111.", "card •••• •••• •••• 1111."),
        ("4111-1111-1111-1111", "•••• •••• •••• 1111"),
        ("4111.1111.1111.1111", "•••• •••• •••• 1111"),
        ("4111 - 1111 - 1111 - 1111", "•••• •••• •••• 1111"),
        ("4111\u{a0}1111\u{202f}1111\u{2009}1111", "•••• •••• •••• 1111"),
        ("4111\u{2011}1111\u{2013}1111-1111", "•••• •••• •••• 1111"),
        ("4111 1111\n1111 1111", "•••• •••• •••• 1111"),
        ("amex 3782 822463 10005", "amex •••• •••• •••• 0005"),
        ("378282246310005", "•••• •••• •••• 0005"),
        ("5555555555554444,2223003122003222", "•••• •••• •••• 4444,•••• •••• •••• 3222"),
        ("6011 1111 1111 1117", "•••• •••• •••• 1117"),
        ("3566 0020 2036 0505", "•••• •••• •••• 0505"),
        ("3056 930902 5904", "•••• •••• •••• 5904"),
        ("4222222222222", "•••• •••• •••• 2222"),
        ("6304000000000000", "•••• •••• •••• 0000"),
        ("6759649826438453", "•••• •••• •••• 8453"),
        ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "•••• •••• •••• 1111"),
        ("41 11 11 11 11 11 11 11", "•••• •••• •••• 1111"),
        ("４１１１ １１１１ １１１１ １１１１", "•••• •••• •••• 1111"),
        ("Visa4111111111111111", "Visa•••• •••• •••• 1111"),
        ("cc:4111111111111111;cvv:123", "cc:•••• •••• •••• 1111;cvv:123"),
        ("4111 1111 1111 1111 123", "•••• •••• •••• 1111 123"),
        ("cvv 123 4111 1111 1111 1111 exp 12/27", "cvv 123 •••• •••• •••• 1111 exp 12/27"),
        ("2026-02-17 4111111111111111", "2026-02-17 •••• •••• •••• 1111"),
        ("call +1 555 014 0143 4111 1111 1111 1111", "call +1 555 014 0143 •••• •••• •••• 1111"),
        ("2200 4111 1111 1111 1111", "•••• •••• •••• 1111"),
        ("4111111111111111 5555555555554444", "•••• •••• •••• 1111 •••• •••• •••• 4444"),
        ("https://pay.example/?card=4111111111111111", "https://pay.example/?card=•••• •••• •••• 1111"),
    ] {
        assert_eq!(masked(text), expected, "{text}");
    }
}

#[test]
fn what_only_looks_like_a_card_number_stays() {
    for text in [
        "",
        "no digits at all",
        "4111111111111112", // the check digit is wrong
        "1234567812345670", // no scheme
        "0000 0000 0000 0000",
        "41111111111111111111111", // part of a longer number
        "94111111111111111111",
        "x4111111111111111", // a code
        "4111111111111111f",
        "a1b4111111111111111",
        "+4111111111111111", // telephone numbers
        "+49 151 1111 1111 116",
        "+1 (555) 014-2200, +1 (555) 014-2201",
        "https://cc.example/rec/4111111111111111/a.mp3",
        "2026-02-17T10:11:31.000-06:00",
        "1771344091000", // milliseconds
        "2026-02-17 10:02:11 2026-02-17 10:03:26",
        "550e8400-e29b-41d4-a716-446655440000",
        "•••• •••• •••• 1111",
        "4111 1111 1111 and 1111",
        "4111, 1111, 1111, 1111",
    ] {
        assert_eq!(masked(text), text);
    }
}

fn document(mut document: Value, redaction: &Redaction) -> (Value, Vec<String>) {
    let warnings = redaction.document(&mut document);
    (document, warnings)
}

#[test]
fn texts_of_a_document_are_masked_wherever_they_are() {
    let card = "pays with 4111 1111 1111 1111";
    let hidden = "pays with •••• •••• •••• 1111";
    let with = |text: &str, number: Value| {
        json!({
            "id": 48213, "feedback": text, "smart_action_text": [text],
            "dispositions": [{ "code": "Resolved" }, { "note": text, "user_id": 44 }],
            "in_call_sms": [{ "message": text, "from": "+15550142200" }],
            "custom_data_not_secured": { "order": { "label": "Order", "value": number, "id": number } },
            "customDataSecured": { "phone": { "value": text } },
            "sip_headers": { "X-Note": text },
            "something_new": { "deep": [[text]] },
            "card_id": number,
        })
    };
    let (got, warnings) = document(with(card, json!(4_111_111_111_111_111_u64)), &Redaction::default());
    assert_eq!(got, with(hidden, json!("•••• •••• •••• 1111")));
    assert_eq!(warnings.len(), 10);
    assert_eq!(warnings[2], "a card number was masked in dispositions[1].note");
    assert_eq!(warnings[4], "a card number was masked in custom_data_not_secured.order.value");
    assert!(warnings.contains(&"a card number was masked in something_new.deep[0][0]".to_owned()), "{warnings:?}");
    let two = json!({ "note": "4111111111111111 or 5555555555554444" });
    assert_eq!(document(two, &Redaction::default()).1, ["2 card numbers were masked in note"]);
}

#[test]
fn identifiers_addresses_and_numbers_stay_also_where_a_text_repeats_them() {
    let all = json!({
        "id": 4_111_111_111_111_111_u64,
        "out_ticket_id": "5555555555554444",
        "outTicketUrl": "https://crm.example/5555555555554444",
        "call_uuid": "4111111111111111",
        "support_number": "6011111111111117",
        "participants": [{ "phone_number": "6011111111111117", "user_id": "378282246310005" }],
        "end_user": { "identifier": "3566002020360505", "out_contact_id": "30569309025904" },
        "queued_at": "4222222222222",
        "email": "4111111111111111@x.example",
        "dispositions": [{ "note": "ticket 5555 5555 5555 4444, called 6011111111111117" }],
    });
    assert_eq!(document(all.clone(), &Redaction::default()), (all, Vec::new()));
}

#[test]
fn warnings_never_repeat_a_stranger() {
    let hostile = json!({ "4111 1111 1111 1111": "4111111111111111", "a\nb": "4111111111111111", "4111111111111111": ["4111111111111111"] });
    for warning in document(hostile, &Redaction::default()).1 {
        assert!(!warning.contains("4111") && !warning.contains('\n'), "{warning}");
    }
    let many = json!(vec!["4111111111111111"; 1_000]);
    let (got, warnings) = document(json!({ "notes": many }), &Redaction::default());
    assert_eq!(warnings.len(), MOST_WARNINGS);
    assert!(!got.to_string().contains("4111"));
}

#[test]
fn patterns_of_the_operator_are_masked_too() {
    let pattern = |name: &str, regex: &str, keep_last| Pattern {
        name: name.to_owned(),
        regex: Regex::new(regex).expect("a pattern"),
        keep_last,
    };
    let patterns = vec![pattern("iban", r"\b[A-Z]{2}\d{2}(?: ?\w{4}){3,7}\b", 4), pattern("pin", r"(?i)pin \d+", 0)];
    let redaction = Redaction { cards: false, patterns };
    let given = json!({ "note": "DE89 3704 0044 0532 0130, PIN 12 é", "feedback": "4111111111111111" });
    let (got, warnings) = document(given, &redaction);
    assert_eq!(got, json!({ "note": "••••0130, •••• é", "feedback": "4111111111111111" }));
    assert_eq!(warnings, ["`iban` was masked in note", "`pin` was masked in note"]);
    let short = Redaction { cards: false, patterns: vec![pattern("x", "[0-9]{2}", 4)] };
    assert_eq!(document(json!({ "note": "12" }), &short).0, json!({ "note": "••••2" }));
    let off = Redaction { cards: false, patterns: Vec::new() };
    let card = json!({ "note": "4111111111111111" });
    assert_eq!(document(card.clone(), &off), (card, Vec::new()));
}

/// A number with a right check digit.
fn card(rng: &mut fastrand::Rng) -> String {
    let heads = ["4", "51", "55", "2221", "2720", "34", "37", "6011", "65", "3528", "62", "36", "50", "9792"];
    let head = heads[rng.usize(..heads.len())];
    let length = match head {
        "34" | "37" => 15,
        "36" => 14,
        "62" | "50" => rng.usize(16..=19),
        _ => 16,
    };
    let mut digits: Vec<u32> = head.chars().filter_map(|c| c.to_digit(10)).collect();
    while digits.len() < length - 1 {
        digits.push(rng.u32(0..10));
    }
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(i, d)| if i % 2 == 0 { d * 2 / 10 + d * 2 % 10 } else { *d }).sum();
    digits.push((10 - sum % 10) % 10);
    digits.iter().filter_map(|d| char::from_digit(*d, 10)).collect()
}

#[test]
fn of_a_masked_number_only_the_last_four_digits_are_left_and_masking_again_changes_nothing() {
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..20_000 {
        let number = card(&mut rng);
        let separator = ["", " ", "-", ".", " - ", "\u{a0}"][rng.usize(..6)];
        let groups: Vec<&str> = number.as_bytes().chunks(4).map(|c| std::str::from_utf8(c).expect("digits")).collect();
        let text = format!("paid: {}, thanks", groups.join(separator));
        let got = masked(&text);
        assert_eq!(got, format!("paid: •••• •••• •••• {}, thanks", &number[number.len() - 4..]), "{text}");
    }
    for _ in 0..60_000 {
        let words: Vec<String> = (0..rng.usize(1..8))
            .map(|_| match rng.u8(..7) {
                0 => card(&mut rng),
                1 => rng.u32(..).to_string(),
                2 => rng.u8(..100).to_string(),
                3 => rng.u16(1_000..9_999).to_string(),
                4 => "••••".to_owned(),
                5 => card(&mut rng).as_bytes().chunks(4).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" "),
                _ => ["note", "+", "/", "x"][rng.usize(..4)].to_owned(),
            })
            .collect();
        let text = words.join([" ", "-", ""][rng.usize(..3)]);
        let once = masked(&text);
        assert_eq!(masked(&once), once, "{text}");
    }
}

#[test]
fn texts_without_long_numbers_are_never_changed() {
    let mut rng = fastrand::Rng::with_seed(12);
    let alphabet: Vec<char> = "abc Äß漢 \n.,-+()/:•0123456789".chars().collect();
    for _ in 0..20_000 {
        let mut digits = 0;
        let text: String = (0..rng.usize(..200))
            .map(|_| alphabet[rng.usize(..alphabet.len())])
            .filter(|c| {
                digits += usize::from(c.is_ascii_digit());
                digits < 12 || !c.is_ascii_digit()
            })
            .collect();
        assert_eq!(masked(&text), text);
    }
}

#[test]
fn hostile_texts_cost_what_their_length_costs() {
    for text in ["4 ".repeat(500_000), "4".repeat(1_000_000), "4111 ".repeat(200_000), "4111-1111.".repeat(100_000)] {
        let begun = std::time::Instant::now();
        masked(&text);
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    }
}
