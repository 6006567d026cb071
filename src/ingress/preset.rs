//! What is known of a kind of sender, as it stands in `config/sources/presets/<name>.yaml`.

use std::collections::BTreeMap;
use std::time::Duration;

use include_dir::{Dir, include_dir};
use serde::Deserialize;
use syncline_actors::document::{Fields, Item, Reader};

use super::identify::{Identifier, Identify};
use super::verify::{Verify, duration};

/// The presets that are part of the program.
static BUILTIN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/config/sources/presets");

/// A kind of sender. A source names one and overrides what differs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Its name: that of its file.
    pub preset: String,
    /// Its name for people.
    pub title: String,
    /// Where the sender documents it.
    pub docs: String,
    /// How its requests are authenticated.
    pub verify: Verify,
    /// Which message a request carries.
    pub identify: Identify,
    /// What it is answered once the message is stored.
    #[serde(default)]
    pub ack: Ack,
    /// What it asks before it sends.
    #[serde(default)]
    pub handshake: Handshake,
    /// How long it keeps resending what was not acknowledged.
    #[serde(deserialize_with = "duration")]
    pub retry_span: Duration,
    /// How long message ids are remembered. Never shorter than `retry_span`.
    #[serde(deserialize_with = "duration")]
    pub retention: Duration,
}

/// The answer to a message that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// The status, 200 to 299.
    pub status: u16,
    /// The body, if the sender wants one.
    #[serde(default)]
    pub body: Option<String>,
}

impl Default for Ack {
    fn default() -> Self {
        Self { status: 200, body: None }
    }
}

/// What a sender asks of an address before it sends there, or wants as an answer in a form of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handshake {
    /// Nothing.
    #[default]
    None,
    /// Slack: a signed message of type `url_verification` whose `challenge` is sent back.
    SlackUrlVerification,
    /// CloudEvents webhooks: `OPTIONS` with `WebHook-Request-Origin`.
    CloudeventsOptions,
    /// Salesforce outbound messages: an `Ack` in a SOAP envelope.
    SalesforceSoapAck,
}

impl Preset {
    /// That of a source which sends nothing by itself: it is never served.
    pub(super) fn silent() -> Self {
        let text = "{preset: silent, title: Silent, docs: none, verify: {scheme: none, allow_unsigned: true}, identify: {id: body-sha256}, retry_span: 1h, retention: 7d}";
        let reader = Reader::default();
        let node = reader.read("silent", text).expect("it is YAML");
        Item::root(&node, &reader).typed().expect("it is a preset")
    }

    /// Every mistake but those of the secrets, which [`super::verify::Verifier::compile`] tells when it has them.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = self.verify.mistakes();
        mistakes.extend(Identifier::compile(&self.identify).err().unwrap_or_default());
        if !(200..300).contains(&self.ack.status) {
            mistakes.push(format!(
                "`ack.status`: {} is no success: the sender would send again; use 200 to 299",
                self.ack.status
            ));
        }
        if self.retention < self.retry_span {
            mistakes.push(format!(
                "`retention`: {} is shorter than `retry_span`, {}: a late retry would be taken for a new message",
                humantime::format_duration(self.retention),
                humantime::format_duration(self.retry_span)
            ));
        }
        mistakes
    }
}

/// The presets that a source may name.
#[derive(Debug, Clone, Default)]
pub struct Presets {
    by_name: BTreeMap<String, Preset>,
}

impl Presets {
    /// Those that are part of the program.
    pub fn builtin() -> Self {
        let mut presets = Self::default();
        let reader = Reader::default();
        for file in BUILTIN.files() {
            let name = file.path().to_string_lossy();
            presets.read(&name, file.contents_utf8().unwrap_or_default(), &reader);
        }
        debug_assert!(reader.problems().is_empty(), "{}", reader.problems());
        presets
    }

    /// Adds the preset of a file, over one of the same name; what is wrong goes to `reader`.
    pub fn read(&mut self, file: &str, text: &str, reader: &Reader) {
        let Some(node) = reader.read(file, text) else { return };
        let item = Item::root(&node, reader);
        let Some(preset) = item.typed::<Preset>() else { return };
        // The address that senders call is the source's to say.
        let mut whole = preset.clone();
        whole.verify.url.public_base = Some("https://hooks.example".to_owned());
        refuse_mistakes(&whole, &item);
        let stem = file.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or_default();
        if preset.preset != stem {
            item.refuse(
                format!("the preset is called `{}` but its file `{stem}`", preset.preset),
                format!("write `preset: {stem}`, or rename the file"),
            );
        }
        self.by_name.insert(preset.preset.clone(), preset);
    }

    /// The preset of this name.
    pub fn get(&self, name: &str) -> Option<&Preset> {
        self.by_name.get(name)
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

/// A source that spells out what a preset would say. What is wrong goes to the reader.
pub(super) fn spelled_out(top: &mut Fields<'_>) -> Option<Preset> {
    let verify = top.required("verify").and_then(|item| item.typed());
    let identify = top.required("identify").and_then(|item| item.typed());
    let ack = top.optional("ack").map_or_else(|| Some(Ack::default()), |item| item.typed());
    let handshake = top.optional("handshake").map_or_else(|| Some(Handshake::None), |item| item.typed());
    let retry_span = top.duration("retry_span");
    let (verify, identify, ack, handshake) = (verify?, identify?, ack?, handshake?);
    let retry_span = retry_span?.value;
    let name = "spelled out".to_owned();
    let preset = Preset {
        preset: name.clone(),
        title: name,
        docs: String::new(),
        verify,
        identify,
        ack,
        handshake,
        retry_span,
        retention: retry_span,
    };
    Some(preset)
}

/// Tells every mistake of a preset where it stands in the file.
pub(super) fn refuse_mistakes(preset: &Preset, item: &Item<'_>) {
    preset
        .mistakes()
        .iter()
        .for_each(|mistake| refuse(item, &mistake.replace("verify.url.public_base", "public_base")));
}

/// A mistake of a description is `key`: what is wrong; what to do.
fn refuse(item: &Item<'_>, mistake: &str) {
    let (key, mistake) =
        mistake.strip_prefix('`').and_then(|rest| rest.split_once("`: ")).unwrap_or(("", mistake));
    let (mistake, fix) = mistake
        .split_once("; ")
        .or_else(|| mistake.split_once(": "))
        .unwrap_or((mistake, "see the shipped presets for examples"));
    // The problem belongs to the innermost part that is there.
    let mut node = item.node();
    for part in key.split('.') {
        node = node.get(part).unwrap_or(node);
    }
    Item::at(node, key, item.reader()).refuse(mistake, fix);
}
