//! Finds secrets in whatever a program has put out, however they are spelt there.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use uuid::Uuid;

/// How much of a secret's middle is looked for: cut short, it is still out.
const TELLING_CHARACTERS: usize = 20;

/// A secret, or what stands for a recorder's content.
#[derive(Clone, Debug)]
pub(super) struct Marker {
    /// What it is, for messages.
    name: &'static str,
    /// All of it.
    pub(super) text: String,
    /// Letters and digits of it that stand nowhere else: no escapes change them.
    telling: String,
}

impl Marker {
    /// A new one: letters and digits between characters that are escaped in JSON, in URLs and in
    /// HTML.
    pub(super) fn new(name: &'static str) -> Self {
        let telling = Uuid::new_v4().simple().to_string();
        Self::of(name, format!(r#"a "{telling}"/&<ö>"#), &telling)
    }

    /// A secret that is given, of which `telling` is the part to look for.
    pub(super) fn of(name: &'static str, text: String, telling: &str) -> Self {
        assert!(telling.len() >= TELLING_CHARACTERS && text.contains(telling));
        Self { name, text, telling: telling[..TELLING_CHARACTERS].to_owned() }
    }

    /// All spellings in which the telling part may be found.
    fn spellings(&self) -> Vec<Vec<u8>> {
        let bytes = self.telling.as_bytes();
        let decimal: Vec<String> = bytes.iter().map(u8::to_string).collect();
        let mut spellings = vec![
            self.telling.clone(),
            self.telling.to_uppercase(),
            hex::encode(bytes),
            hex::encode_upper(bytes),
            // As `Debug` writes bytes, and as JSON does.
            decimal.join(", "),
            decimal.join(","),
            // As `Debug` writes them on lines of their own.
            decimal.join(",\n"),
        ];
        for before in 0..3 {
            // Where base64 begins changes all of it, and its neighbours change its ends.
            let shifted = [&vec![0; before][..], bytes].concat();
            let (skipped, whole) = ((before * 8).div_ceil(6), shifted.len() / 3 * 4);
            for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                spellings.push(engine.encode(&shifted)[skipped..whole].to_owned());
            }
        }
        spellings.into_iter().map(String::into_bytes).collect()
    }

    /// Whether it stands in there.
    pub(super) fn is_in(&self, output: &[u8]) -> bool {
        self.spellings().iter().any(|spelling| contains(output, spelling))
    }
}

/// What programs have put out, each with where it was found.
#[derive(Debug, Default)]
pub(super) struct Outputs(Vec<(String, Vec<u8>)>);

impl Outputs {
    pub(super) fn add(&mut self, source: impl Into<String>, output: impl Into<Vec<u8>>) {
        self.0.push((source.into(), output.into()));
    }

    /// Which markers stand in which outputs.
    pub(super) fn holding(&self, markers: &[Marker]) -> Vec<String> {
        let mut found = Vec::new();
        for (source, output) in &self.0 {
            for marker in markers.iter().filter(|marker| marker.is_in(output)) {
                let place = marker.spellings().iter().find_map(|spelling| place(output, spelling));
                let around = around(output, place.unwrap_or_default());
                found.push(format!("{} in {source}: …{around}…", marker.name));
            }
        }
        found
    }

    /// Whether there is any output of sources whose names contain this.
    pub(super) fn has(&self, source: &str) -> bool {
        self.0.iter().any(|(name, output)| name.contains(source) && !output.is_empty())
    }
}

fn contains(output: &[u8], part: &[u8]) -> bool {
    place(output, part).is_some()
}

fn place(output: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(output, part)
}

fn around(output: &[u8], place: usize) -> String {
    const CHARACTERS: usize = 200;
    let end = output.len().min(place + CHARACTERS);
    String::from_utf8_lossy(&output[place.saturating_sub(CHARACTERS)..end]).into_owned()
}

#[test]
fn a_secret_is_found_in_every_spelling() {
    fn check(marker: &Marker, output: impl Into<Vec<u8>>, expected: bool) {
        let output = [b"before ".to_vec(), output.into(), b" after".to_vec()].concat();
        let mut outputs = Outputs::default();
        outputs.add("a log", output.clone());
        let found = outputs.holding(&[Marker::new("another"), marker.clone()]);
        assert_eq!(found.len(), usize::from(expected), "{}", String::from_utf8_lossy(&output));
        assert!(found.iter().all(|line| line.starts_with("a password in a log")), "{found:?}");
    }
    let marker = Marker::new("a password");
    let text = &marker.text;
    check(&marker, "nothing of it", false);
    check(&marker, &text[..text.len() / 3], false);
    check(&marker, text.as_bytes(), true);
    check(&marker, &text[..text.len() - 6], true);
    check(&marker, serde_json::to_string(text).unwrap(), true);
    check(&marker, format!("{:?}", format!("{text:?}")), true);
    check(&marker, format!("{:?}", text.as_bytes()), true);
    check(&marker, format!("{:#?}", text.as_bytes()).replace(' ', ""), true);
    check(&marker, serde_json::to_string(text.as_bytes()).unwrap(), true);
    check(&marker, hex::encode(text), true);
    let percent: String = text.bytes().map(percent_encoded).collect();
    check(&marker, percent, true);
    for before in ["", "x", "xy", "xyz"] {
        let longer = format!("{before}{text}{before}");
        check(&marker, STANDARD_NO_PAD.encode(&longer), true);
        check(&marker, URL_SAFE_NO_PAD.encode(&longer), true);
    }
}

pub(super) fn percent_encoded(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
}
