//! From YAML to a contract: every expression is compiled once, every mistake is noted with its place and fix.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use syncline_actors::class::Class;
use syncline_actors::document::{Fields, Item, Kind, Problems, Reader, Spanned, suggest};
use syncline_actors::id::check_kind;
use syncline_actors::process::ENTITY;
use syncline_actors::retry::Retry;
use syncline_actors::subscription::{self, Subscription};

use super::{
    Auth, BodyTemplate, BreakerRule, CONCURRENCY_DEFAULT, Connector, CredentialStyle, Detail, Idempotency,
    LASTS_DEFAULT, Meaning, Operation, Owner, Piece, Probe, RESPONSE_MAX_DEFAULT, Rate, Rule, Session,
    Setting, TIMEOUT_DEFAULT, Template, Tree, Uncertain,
};
use crate::delivery::formula::{Formula, from_json};
use crate::delivery::resolve::check_address;

/// What expressions of a call may name.
const CALL_NAMES: [&str; 3] = ["input", "key", "correlation_id"];

/// What expressions about an answer may name.
const ANSWER_NAMES: [&str; 6] = ["status", "headers", "body", "input", "key", "attempts"];

/// How long after an attempt a probe is believed, where the contract does not say.
const PROBE_AFTER_DEFAULT: Duration = Duration::from_secs(2);

/// Reads one contract from text. All problems come back, warnings too if there is an error; a contract with warnings only is given.
pub fn read(file: &str, text: &str) -> Result<Connector, Problems> {
    let reader = Reader::default();
    let connector = reader.read(file, text).and_then(|node| parse(&Item::root(&node, &reader)));
    let problems = reader.into_problems();
    match connector {
        Some(connector) if !problems.is_fatal() => Ok(connector),
        _ => Err(problems),
    }
}

/// Reads a contract. Mistakes are noted with the item's reader; `None` when there is no contract to be had from it.
pub fn parse(root: &Item<'_>) -> Option<Connector> {
    let mut fields = root.fields()?;
    let switches = Switches {
        sandbox: fields.boolean("sandbox", false),
        insecure: fields.boolean("insecure", false),
        allow_private: fields.boolean("allow_private", false),
    };
    let name = fields.text("connector").and_then(|name| check_name(root, name));
    let title = fields.optional_text("title").map(|title| title.value);
    let class = fields.optional_map("class").map(Class::read).unwrap_or_default();
    let owner = fields.required("owner").and_then(|item| owner(&item));
    let base_url = fields.required("base_url").and_then(|item| base_url(&item, switches));
    let auth = fields.required("auth").and_then(|item| auth(&item, switches));
    let session = fields.optional_map("session").and_then(session);
    let limits = match fields.optional_map("limits") {
        Some(found) => limits(found),
        None => (CONCURRENCY_DEFAULT, None),
    };
    let timeout = fields.optional("timeout").and_then(|item| positive(&item)).unwrap_or(TIMEOUT_DEFAULT);
    let retry = fields.optional_map("retry").map_or_else(Retry::default, retry);
    let breaker = fields.optional_map("breaker").and_then(breaker);
    let ordered = fields.boolean("ordered", false);
    let response_max =
        fields.optional("response_max").and_then(|item| item.number_within(1_usize..=64 << 20));
    let operations = operations(&mut fields);
    let team = owner.as_ref().map(|owner| owner.team.clone()).unwrap_or_default();
    let subscribes = subscribes(fields.optional_entries("subscribes"), name.as_deref(), &team, &operations);
    let reconcile = super::reconcile::read(&mut fields);
    fields.finish();
    let name: Arc<str> = name?.into();
    Some(Connector {
        title: title.map_or_else(|| name.clone(), Into::into),
        name,
        owner: owner?,
        class,
        base_url: base_url?,
        auth: auth?,
        session,
        concurrency: limits.0,
        rate: limits.1,
        timeout,
        retry,
        breaker,
        ordered,
        sandbox: switches.sandbox,
        insecure: switches.insecure,
        allow_private: switches.allow_private,
        response_max: response_max.map_or(RESPONSE_MAX_DEFAULT, |found| found.value),
        operations,
        subscribes,
        reconcile,
    })
}

/// What loosens the checks of a whole contract.
#[derive(Debug, Clone, Copy)]
struct Switches {
    sandbox: bool,
    insecure: bool,
    allow_private: bool,
}

fn check_name(root: &Item<'_>, name: Spanned<String>) -> Option<String> {
    if name.value == *ENTITY {
        let message = format!("`{ENTITY}` is the way to other entities, which needs no connector");
        name.refuse(root.reader(), message, "give the connector another name");
        return None;
    }
    if is_name(&name.value) {
        return Some(name.value);
    }
    root.refuse(
        format!("`{}` is no name for a connector", name.value),
        "use lower-case letters, digits and `_`, beginning with a letter",
    );
    None
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn owner(item: &Item<'_>) -> Option<Owner> {
    let mut fields = item.fields()?;
    let team = fields.text("team");
    let escalate = fields.optional_text("escalate").map(|text| text.value).unwrap_or_default();
    fields.finish();
    Some(Owner { team: team?.value.into(), escalate: escalate.into() })
}

fn base_url(item: &Item<'_>, switches: Switches) -> Option<Setting> {
    let setting = setting(item, Secrecy::Open)?;
    let (Setting::Plain(text) | Setting::Ref { default: Some(text), .. }) = &setting else {
        return Some(setting);
    };
    match check_address(text, switches.insecure, switches.allow_private) {
        Ok(_) => Some(setting),
        Err(why) => {
            item.refuse(format!("the URL {why}"), "write an absolute URL such as https://api.example.com");
            None
        }
    }
}

/// Whether a setting may stand in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Secrecy {
    Open,
    /// Only as a reference; with a default only in a sandbox.
    Secret {
        sandbox: bool,
    },
}

fn setting(item: &Item<'_>, secrecy: Secrecy) -> Option<Setting> {
    if item.node().as_map().is_none() {
        if let Secrecy::Secret { .. } = secrecy {
            item.refuse(
                "a secret stands in the file",
                "write `{ref: env:NAME}`, and set NAME where the node runs",
            );
            return None;
        }
        return item.text().map(|text| Setting::Plain(text.value));
    }
    let mut fields = item.fields()?;
    let reference = fields.text("ref");
    let default = fields.optional("default");
    fields.finish();
    let reference = reference?;
    let known = reference
        .value
        .split_once(':')
        .is_some_and(|(kind, rest)| matches!(kind, "env" | "file") && !rest.is_empty());
    if !known {
        item.refuse(
            format!("`{}` refers to nothing known", reference.value),
            "write `env:NAME` or `file:/path`",
        );
        return None;
    }
    if let Some(default) = &default
        && secrecy == (Secrecy::Secret { sandbox: false })
    {
        default.refuse(
            "a secret has a default in the file",
            "remove it, or set `sandbox: true` if this connector only ever calls the sandbox",
        );
        return None;
    }
    let default = default.and_then(|item| item.text()).map(|text| text.value);
    Some(Setting::Ref { reference: reference.value, default })
}

#[derive(Debug, Clone, Copy)]
enum SchemeWord {
    None,
    Basic,
    ApiKey,
    Bearer,
    ClientCredentials,
}

fn auth(item: &Item<'_>, switches: Switches) -> Option<Auth> {
    let secret = Secrecy::Secret { sandbox: switches.sandbox };
    let mut fields = item.fields()?;
    let scheme = fields.choice(
        "scheme",
        &[
            ("none", SchemeWord::None),
            ("basic", SchemeWord::Basic),
            ("api_key", SchemeWord::ApiKey),
            ("bearer", SchemeWord::Bearer),
            ("oauth2_client_credentials", SchemeWord::ClientCredentials),
        ],
    )?;
    let mut get = |key: &str, secrecy| fields.required(key).and_then(|item| setting(&item, secrecy));
    let auth = match scheme.value {
        SchemeWord::None => Some(Auth::None),
        SchemeWord::Basic => {
            let (username, password) = (get("username", Secrecy::Open), get("password", secret));
            username.zip(password).map(|(username, password)| Auth::Basic { username, password })
        }
        SchemeWord::ApiKey => {
            let value = get("value", secret);
            let header = fields.text("header").and_then(|text| header_name(item, &text.value));
            header.zip(value).map(|(header, value)| Auth::ApiKey { header, value })
        }
        SchemeWord::Bearer => get("token", secret).map(|token| Auth::Bearer { token }),
        SchemeWord::ClientCredentials => {
            let client = get("client_id", Secrecy::Open).zip(get("client_secret", secret));
            let token_url = fields.required("token_url").and_then(|item| token_url(&item, switches));
            let scope = fields.optional_text("scope").map(|text| text.value);
            let styles = [("body", CredentialStyle::Body), ("basic", CredentialStyle::Basic)];
            let style = fields.optional_choice("style", &styles).map(|style| style.value).unwrap_or_default();
            client.zip(token_url).map(|((client_id, client_secret), token_url)| Auth::ClientCredentials {
                token_url,
                client_id,
                client_secret,
                scope,
                style,
            })
        }
    };
    fields.finish();
    auth
}

/// How a session is begun. Its headers stand as they are: they ask for it, and are no secrets.
fn session(mut fields: Fields<'_>) -> Option<Session> {
    let item = fields.item();
    let path = fields.text("path");
    if let Some(path) = path.as_ref().filter(|path| !path.value.starts_with('/')) {
        let fix = format!("write `/{}`", path.value);
        path.refuse(item.reader(), format!("the path `{}` has no leading slash", path.value), fix);
    }
    let header = |(name, item): (Spanned<String>, Item<'_>)| {
        let text = item.text()?.value;
        let value = HeaderValue::from_str(&text).ok();
        if value.is_none() {
            item.refuse("the value has a character that headers may not have", "use plain letters");
        }
        header_name(&item, &name.value).zip(value)
    };
    let headers = fields.optional_entries("headers").into_iter().filter_map(header).collect();
    let take = fields.text("take").and_then(|text| header_name(&item, &text.value));
    let lasts = fields.optional("lasts").and_then(|item| positive(&item)).unwrap_or(LASTS_DEFAULT);
    fields.finish();
    Some(Session { path: path?.value, headers, take: take?, lasts })
}

fn token_url(item: &Item<'_>, switches: Switches) -> Option<String> {
    let text = item.text()?.value;
    if text.starts_with('/') {
        return Some(text);
    }
    match check_address(&text, switches.insecure, switches.allow_private) {
        Ok(_) => Some(text),
        Err(why) => {
            item.refuse(
                format!("the token URL {why}"),
                "write an absolute URL, or a path after the base URL",
            );
            None
        }
    }
}

fn header_name(item: &Item<'_>, text: &str) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(text.as_bytes()).ok();
    if name.is_none() {
        item.refuse(format!("`{text}` is no header name"), "use letters, digits and `-`");
    }
    name
}

fn positive(item: &Item<'_>) -> Option<Duration> {
    let found = item.duration()?.value;
    if found.is_zero() {
        item.refuse("a time of zero", "write a time longer than that, e.g. `10s`");
        return None;
    }
    Some(found)
}

fn limits(mut fields: Fields<'_>) -> (u32, Option<Rate>) {
    let concurrency = fields.optional("concurrency").and_then(|item| item.number_within(1_u32..=1_000));
    let burst = fields.optional("burst").and_then(|item| item.number_within(1_u32..=10_000));
    let given = fields.optional("rate");
    let rate = given.as_ref().and_then(rate);
    if given.is_none()
        && let Some(burst) = &burst
    {
        fields
            .item()
            .refuse(format!("`burst: {}` without a rate", burst.value), "add `rate`, e.g. `rate: 50/s`");
    }
    fields.finish();
    // Without a burst, a tenth of a second's worth: smooth, and no token is lost between two turns of the clock.
    let of = |(calls, per): (u32, Duration)| {
        let tenth = u128::from(calls) * 100 / per.as_millis().max(1);
        let burst =
            burst.as_ref().map_or_else(|| u32::try_from(tenth).unwrap_or(u32::MAX).max(1), |b| b.value);
        Rate { calls, per, burst }
    };
    (concurrency.map_or(CONCURRENCY_DEFAULT, |found| found.value), rate.map(of))
}

fn rate(item: &Item<'_>) -> Option<(u32, Duration)> {
    let text = item.node().to_plain_text().or_else(|| item.text().map(|text| text.value))?;
    let parsed = text.split_once('/').and_then(|(calls, per)| {
        let per = match per.trim() {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            _ => return None,
        };
        let calls = calls.trim().parse::<u32>().ok().filter(|calls| (1..=1_000_000).contains(calls))?;
        Some((calls, per))
    });
    if parsed.is_none() {
        item.refuse(
            format!("`{text}` is no rate"),
            "write calls per second, minute or hour: `50/s`, `600/m`, `1000/h`",
        );
    }
    parsed
}

fn retry(mut fields: Fields<'_>) -> Retry {
    let or = Retry::default();
    let mut time = |key: &str, or| fields.optional(key).and_then(|item| positive(&item)).unwrap_or(or);
    let (base, cap, within) = (time("base", or.base), time("cap", or.cap), time("within", or.within));
    let attempts = fields.optional("attempts_max").and_then(|item| item.number_within(1_u32..=1_000_000));
    if base > cap {
        fields.item().refuse("`base` is longer than `cap`", "make `cap` the longest pause");
    }
    if base > within {
        let fix = "make `within` the time until an effect is given up";
        fields.item().refuse("`within` is over before the first retry, after `base`", fix);
    }
    fields.finish();
    Retry { base, cap, within, attempts_max: attempts.map_or(or.attempts_max, |found| found.value) }
}

fn breaker(mut fields: Fields<'_>) -> Option<BreakerRule> {
    let failures = fields.required("failures").and_then(|item| item.number_within(1_u32..=10_000));
    let open_for = fields.required("open_for").and_then(|item| positive(&item));
    fields.finish();
    Some(BreakerRule { failures: failures?.value, open_for: open_for? })
}

fn operations(fields: &mut Fields<'_>) -> BTreeMap<Arc<str>, Arc<Operation>> {
    let entries = fields.entries("operations").unwrap_or_default();
    if entries.is_empty() {
        fields.item().refuse("there are no operations", "add at least one under `operations`");
    }
    let mut all = BTreeMap::new();
    for (name, item) in entries {
        if !is_name(&name.value) {
            item.refuse(
                format!("`{}` is no name for an operation", name.value),
                "use lower-case letters, digits and `_`, beginning with a letter",
            );
        }
        let name: Arc<str> = name.value.into();
        if let Some(operation) = operation(name.clone(), &item) {
            all.insert(name, Arc::new(operation));
        }
    }
    all
}

/// The records that it wants to be told of, and by which of its operations.
fn subscribes(
    entries: Vec<(Spanned<String>, Item<'_>)>,
    name: Option<&str>,
    team: &str,
    operations: &BTreeMap<Arc<str>, Arc<Operation>>,
) -> BTreeMap<Arc<str>, Arc<Subscription>> {
    let mut all = BTreeMap::new();
    for (kind, item) in entries {
        if let Err(error) = check_kind(&kind.value) {
            kind.refuse(item.reader(), error.to_string(), "write the kind of a record, e.g. `customer`");
            continue;
        }
        let name = name.unwrap_or_default();
        let Some(read) = subscription::parse(&kind.value, name, team, &item) else { continue };
        for operation in read.operations().filter(|operation| !operations.contains_key(*operation)) {
            let names: Vec<&str> = operations.keys().map(|name| &**name).collect();
            let fix = match suggest(operation, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("use one of: {}", names.join(", ")),
            };
            item.refuse(format!("there is no operation `{operation}`"), fix);
        }
        all.insert(Arc::from(kind.value), Arc::new(read));
    }
    all
}

fn operation(name: Arc<str>, item: &Item<'_>) -> Option<Operation> {
    let mut fields = item.fields()?;
    let request = template(&mut fields);
    let timeout = fields.optional("timeout").and_then(|item| positive(&item));
    let probe = fields.optional_map("probe").and_then(probe);
    let idempotencies =
        [("header", Idempotency::Header), ("natural", Idempotency::Natural), ("none", Idempotency::None)];
    let idempotency = fields.optional_choice("idempotency", &idempotencies).map(|found| found.value);
    let uncertains = [("probe", Uncertain::Probe), ("resend", Uncertain::Resend), ("hold", Uncertain::Hold)];
    let uncertain = fields.optional_choice("uncertain", &uncertains).map(|found| found.value);
    let key_kept = fields.optional("key_kept").and_then(|item| positive(&item));
    let ask_first = fields.boolean("ask_first", false);
    let outcomes = fields.optional_list("outcomes").iter().filter_map(rule).collect();
    let has_probe = fields.node("probe").is_some();
    fields.finish();
    let request = request?;
    let reads = request.method == Method::GET || request.method == Method::HEAD;
    let idempotency = idempotency.unwrap_or(if reads { Idempotency::Natural } else { Idempotency::None });
    let uncertain = uncertain.unwrap_or(match (has_probe, idempotency) {
        (true, _) => Uncertain::Probe,
        (false, Idempotency::None) => Uncertain::Hold,
        (false, _) => Uncertain::Resend,
    });
    let operation =
        Operation { name, request, timeout, idempotency, uncertain, key_kept, ask_first, outcomes, probe };
    check_safety(item, &operation, has_probe);
    Some(operation)
}

/// Whether what an operation does about uncertainty fits what it says about repetition.
fn check_safety(item: &Item<'_>, operation: &Operation, has_probe: bool) {
    if operation.uncertain == Uncertain::Resend && operation.idempotency == Idempotency::None {
        item.refuse(
            "`uncertain: resend` with `idempotency: none` may apply an effect twice",
            "use `uncertain: probe` with a probe, or `uncertain: hold`; or say in `idempotency` why repeating is harmless",
        );
    }
    if operation.uncertain == Uncertain::Probe && !has_probe {
        item.refuse("`uncertain: probe` without a probe", "add `probe`, or use `uncertain: hold`");
    }
    if operation.ask_first && !has_probe {
        item.refuse("`ask_first` without a probe", "add `probe`, which says how to ask, or delete it");
    }
    if operation.idempotency == Idempotency::Header && !operation.request.mentions("key") {
        item.refuse(
            "`idempotency: header`, but nothing that is sent holds `key`",
            "send it, e.g. `headers: {Idempotency-Key: key}`",
        );
    }
    if operation.key_kept.is_some() && operation.idempotency != Idempotency::Header {
        item.refuse("`key_kept` without `idempotency: header`", "remove it, or send the key");
    }
    if has_probe && operation.uncertain == Uncertain::Hold && !operation.ask_first
        || has_probe && operation.uncertain == Uncertain::Resend && operation.key_kept.is_none()
    {
        item.warn("the probe is never used", "use `uncertain: probe`, or remove the probe");
    }
}

impl Template {
    /// Whether an expression of this template names `word`.
    fn mentions(&self, word: &str) -> bool {
        let pairs = self.query.iter().map(|(_, expr)| expr).chain(self.headers.iter().map(|(_, expr)| expr));
        let path = self.path.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Value(expr) => Some(expr),
        });
        let body = match &self.body {
            BodyTemplate::None => false,
            BodyTemplate::Json(tree) => tree.mentions(word),
            BodyTemplate::Form(fields) => fields.iter().any(|(_, expr)| names(expr, word)),
        };
        body || pairs.chain(path).any(|expr| names(expr, word))
    }
}

impl Tree {
    fn mentions(&self, word: &str) -> bool {
        match self {
            Self::Literal(_) => false,
            Self::Leaf(expr) => names(expr, word),
            Self::Map(parts) => parts.iter().any(|(_, part)| part.mentions(word)),
            Self::List(parts) => parts.iter().any(|part| part.mentions(word)),
        }
    }
}

fn names(expr: &Formula, word: &str) -> bool {
    expr.source().split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

fn template(fields: &mut Fields<'_>) -> Option<Template> {
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD];
    let words: Vec<_> = methods.iter().map(|method| (method.as_str(), method.clone())).collect();
    let method = fields.choice("method", &words).map(|method| method.value);
    let path = fields.required("path").and_then(|item| path(&item));
    let query = pairs(&fields.optional_entries("query"));
    let headers = headers(&fields.optional_entries("headers"));
    let (body, form) = (fields.optional("body"), fields.optional("form"));
    let method = method?;
    let carries = matches!(method, Method::POST | Method::PUT | Method::PATCH);
    if let Some(extra) = body.as_ref().or(form.as_ref()).filter(|_| !carries && method != Method::DELETE) {
        extra.refuse(format!("a {method} has no body"), "put it into `query`");
    }
    let body = match (body, form) {
        (Some(_), Some(form)) => {
            form.refuse("both `body` and `form`", "keep one of them");
            BodyTemplate::None
        }
        (Some(item), None) if item.is_null() => BodyTemplate::None,
        (Some(item), None) => tree(&item, &CALL_NAMES).map_or(BodyTemplate::None, BodyTemplate::Json),
        (None, Some(item)) => BodyTemplate::Form(pairs(&item.entries().unwrap_or_default())),
        (None, None) if carries => compile(&fields.item(), "input", &CALL_NAMES)
            .map_or(BodyTemplate::None, |input| BodyTemplate::Json(Tree::Leaf(input))),
        (None, None) => BodyTemplate::None,
    };
    Some(Template { method, path: path?, query, headers, body })
}

fn pairs(entries: &[(Spanned<String>, Item<'_>)]) -> Vec<(String, Formula)> {
    let pair =
        |(name, item): &(Spanned<String>, Item<'_>)| Some((name.value.clone(), expr(item, &CALL_NAMES)?));
    entries.iter().filter_map(pair).collect()
}

fn headers(entries: &[(Spanned<String>, Item<'_>)]) -> Vec<(HeaderName, Formula)> {
    let mut all = Vec::new();
    for (name, item) in entries {
        let header = header_name(item, &name.value);
        let expr = expr(item, &CALL_NAMES);
        if header.as_ref().is_some_and(|name| *name == http::header::AUTHORIZATION) {
            item.refuse("credentials stand in an operation", "put them under `auth`");
        }
        all.extend(header.zip(expr));
    }
    all
}

fn path(item: &Item<'_>) -> Option<Vec<Piece>> {
    let text = item.text()?.value;
    if !text.starts_with('/') {
        item.refuse(format!("the path `{text}` has no leading slash"), format!("write `/{text}`"));
        return None;
    }
    let mut pieces = Vec::new();
    let mut rest = text.as_str();
    while let Some(open) = rest.find('{') {
        let (before, after) = (&rest[..open], &rest[open + 1..]);
        let Some(close) = closing(after) else {
            item.refuse(format!("`{{` without `}}` in `{text}`"), "close it: `/orders/{input.id}`");
            return None;
        };
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(Piece::Value(compile(item, &after[..close], &CALL_NAMES)?));
        rest = &after[close + 1..];
    }
    pieces.push(Piece::Text(rest.to_owned()));
    let plain = |piece: &Piece| matches!(piece, Piece::Text(text) if text.contains(['?', '#', '}', ' ']));
    if pieces.iter().any(plain) {
        item.refuse(
            format!("`?`, `#`, `}}` or a space in the path `{text}`"),
            "put parameters into `query`, and encode the rest",
        );
        return None;
    }
    pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
    Some(pieces)
}

/// Where the brace that is open at the start of `text` closes: not in quotes, not within further braces.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_u32;
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '{') => depth += 1,
            (None, '}') if depth == 0 => return Some(at),
            (None, '}') => depth -= 1,
            (Some(_) | None, _) => {}
        }
    }
    None
}

fn rule(item: &Item<'_>) -> Option<Rule> {
    let mut fields = item.fields()?;
    let when = fields.required("when").and_then(|item| condition(&item));
    let meanings = [
        ("ok", Meaning::Ok),
        ("failed", Meaning::Failed),
        ("retry", Meaning::Retry),
        ("busy", Meaning::Busy),
        ("throttled", Meaning::Throttled),
        ("reauthenticate", Meaning::Reauthenticate),
    ];
    let is = fields.choice("is", &meanings).map(|is| is.value);
    let result_item = fields.optional("result");
    let result = result_item.as_ref().and_then(result);
    let detail = fields.optional("detail").and_then(|item| detail(&item));
    let wait_item = fields.optional("wait");
    let wait = wait_item.as_ref().and_then(|item| expr(item, &ANSWER_NAMES));
    fields.finish();
    let is = is?;
    if let Some(item) = result_item.filter(|_| is != Meaning::Ok) {
        item.refuse("only `is: ok` has a result", "remove `result`");
    }
    let repeats = matches!(is, Meaning::Retry | Meaning::Busy | Meaning::Throttled);
    if let Some(item) = wait_item.filter(|_| !repeats) {
        item.refuse("only `retry`, `busy` and `throttled` wait", "remove `wait`");
    }
    Some(Rule { when: when?, is, result, detail, wait })
}

fn probe(mut fields: Fields<'_>) -> Option<Probe> {
    let request = template(&mut fields);
    let found = fields.required("found").and_then(|item| condition(&item));
    let absent = fields.required("absent").and_then(|item| condition(&item));
    let result = fields.optional("result").and_then(|item| result(&item));
    let after = fields.optional_duration("after").map_or(PROBE_AFTER_DEFAULT, |after| after.value);
    if let Some(template) = &request
        && template.method != Method::GET
        && template.method != Method::HEAD
        && template.method != Method::POST
    {
        fields.item().refuse("a probe that changes something", "use GET, or POST for a search");
    }
    fields.finish();
    Some(Probe { request: request?, found: found?, absent: absent?, result, after })
}

/// A plain word or sentence is text; what has dots, quotes, brackets or operators, or is a name, is an expression.
fn detail(item: &Item<'_>) -> Option<Detail> {
    let text = item.text()?.value;
    let plain = text.chars().all(|c| c.is_alphanumeric() || matches!(c, ' ' | ',' | '_' | '-'));
    if plain && !ANSWER_NAMES.contains(&text.as_str()) {
        return Some(Detail::Text(text.into()));
    }
    expr(item, &ANSWER_NAMES).map(Detail::Value)
}

fn tree(item: &Item<'_>, known: &[&str]) -> Option<Tree> {
    match &item.node().kind {
        Kind::Map(_) => {
            let entry = |(name, part): &(Spanned<String>, Item<'_>)| {
                if name.value.ends_with('?') {
                    let message = "`?` leaves out nothing here: it would be a part of the name".to_owned();
                    let fix = "delete it, and write `default(…, null)` where the source may be absent";
                    name.refuse(part.reader(), message, fix);
                }
                Some((name.value.clone(), tree(part, known)?))
            };
            let parts: Vec<_> = item.entries()?.iter().map(entry).collect();
            parts.into_iter().collect::<Option<Vec<_>>>().map(Tree::Map)
        }
        Kind::List(_) => {
            let parts: Vec<_> = item.list()?.iter().map(|item| tree(item, known)).collect();
            parts.into_iter().collect::<Option<Vec<_>>>().map(Tree::List)
        }
        Kind::Text(_) => expr(item, known).map(Tree::Leaf),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) => {
            let value = from_json(item.node().to_json().as_bytes());
            if value.is_none() {
                item.refuse("a number that does not fit", "write a shorter one, or put it in quotes as text");
            }
            value.map(Tree::Literal)
        }
    }
}

fn expr(item: &Item<'_>, known: &[&str]) -> Option<Formula> {
    let source = match &item.node().kind {
        Kind::Bool(_) | Kind::Number(_) => item.node().to_plain_text()?,
        _ => item.text()?.value,
    };
    compile(item, &source, known)
}

/// An expression about an answer that is true or false.
fn condition(item: &Item<'_>) -> Option<Formula> {
    let source = item.node().to_plain_text().or_else(|| item.text().map(|text| text.value))?;
    match Formula::compile_bool(&source, &ANSWER_NAMES) {
        Ok(found) => Some(found),
        Err(error) => {
            let known = ANSWER_NAMES.join(", ");
            item.refuse(error, format!("compare something, e.g. `status == 200`; it may name {known}"));
            None
        }
    }
}

/// What a process gets to see of an answer: a map, whose keys it names, or an expression that gives one.
fn result(item: &Item<'_>) -> Option<Tree> {
    if !matches!(item.node().kind, Kind::Map(_) | Kind::Text(_)) {
        let message = format!("{} stands where a result belongs", item.node().describe());
        item.refuse(message, "write `result: {id: body.id}`, or delete it");
        return None;
    }
    tree(item, &ANSWER_NAMES)
}

fn compile(item: &Item<'_>, source: &str, known: &[&str]) -> Option<Formula> {
    match Formula::compile(source, known) {
        Ok(expr) => Some(expr),
        Err(error) => {
            item.refuse(error, format!("an expression here may name {}", known.join(", ")));
            None
        }
    }
}

#[cfg(test)]
mod tests;
