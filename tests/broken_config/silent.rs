//! What cannot be told apart from what someone may have meant, file kind by file kind, each with the reason. A line that covers
//! nothing any more fails the test, so this list only ever says what is so.

use super::mutate::How::{self, *};

/// A rule: what was done (empty: anything), to which paths, and why it is accepted.
pub(crate) type Rule = (&'static [How], &'static str, &'static str);

/// Words for people may be any.
const FREE: &[How] = &[Deleted, Words, Misspelled];
/// What may be left out.
const OPTIONAL: &[How] = &[Deleted];
/// What is free in shape: data that goes out, or fields of a system that is not ours.
const SHAPE: &[How] = &[Deleted, KeyMisspelled, Null, Map, List, Number, Misspelled];
/// What a mapping of a declared field may be instead.
const VALUE: &[How] = &[Deleted, Null, Misspelled];

/// In a pattern `*` is one key, `#` an item of a list, `**` all that follows. A reason that begins with `GAP` is of what is
/// clearly a mistake, and would take a look into another file to see.
pub(crate) fn rules(kind: &str) -> &'static [Rule] {
    match kind {
        "processes" => PROCESSES,
        "connectors" => CONNECTORS,
        "sources" => SOURCES,
        "presets" => PRESETS,
        "slos" => SLOS,
        _ => &[],
    }
}

const PROCESSES: &[Rule] = &[
    (FREE, "title", "for people"),
    (&[Words, Misspelled], "owner/*", "for people"),
    (FREE, "states/*/hold/owner", "a team's name; the process's owner has it when there is none"),
    (&[Number], "version", "any number is a version"),
    (OPTIONAL, "fields", "told at each expression that uses one"),
    (OPTIONAL, "fields/*/conflict", "has a default"),
    (OPTIONAL, "messages/*/revision", "optional"),
    (&[Misspelled], "messages/*/revision", "GAP: what sources send is not compared with `data.…`"),
    (OPTIONAL, "states/*/set", "told where its fields are read, unless another assigns them too"),
    (&[Deleted, Null], "states/*/set/*", "likewise"),
    (&[Map], "states/*/on/*/set/ids.*", "it is a map"),
    (&[Map], "anywhere/*/set/ids.*", "it is a map"),
    (SHAPE, "effects/*/with", "GAP: the contract's `input.…` is not compared with it"),
    (SHAPE, "effects/*/with/**", "GAP: the contract's `input.…` is not compared with it"),
    (
        &[Number, Null, List, Map, Deleted, Misspelled],
        "effects/*/keep/*",
        "GAP: the contract's `result` is not compared",
    ),
    (VALUE, "states/*/on/*/set/*", "GAP: what sources send is not compared with `data.…`"),
    (VALUE, "states/*/on/*/#/set/*", "GAP: the contract's `result` is not compared"),
    (VALUE, "anywhere/*/set/*", "GAP: what sources send is not compared with `data.…`"),
    (&[List], "states/*/on/*/set/lines", "it is a list"),
    (&[List], "anywhere/*/set/lines", "it is a list"),
    (&[Number], "states/*/on/*/set/amount", "it is a number"),
    (&[Map], "states/*/on/*/set/billing", "it is a map"),
    (&[Map], "states/*/on/*/set/shipping", "it is a map"),
    (&[Map], "anywhere/*/set/billing", "it is a map"),
    (&[Map], "anywhere/*/set/shipping", "it is a map"),
    (OPTIONAL, "states/*/on/*/set", "the message may say nothing more than that it came"),
    (OPTIONAL, "anywhere/*", "nothing need hold everywhere"),
    (OPTIONAL, "anywhere/*/set", "likewise"),
    (OPTIONAL, "anywhere/*/except", "it may hold everywhere"),
    (OPTIONAL, "anywhere/*/except/#", "likewise"),
    (OPTIONAL, "messages/*/out_of_turn", "has a default"),
    (OPTIONAL, "messages/*/business_key", "optional"),
    (&[Misspelled], "messages/*/business_key", "GAP: what sources send is not compared with `data.…`"),
    (OPTIONAL, "milestones", "optional; told where its effects are called no more"),
    (OPTIONAL, "milestones/*/escalate", "a person sees it all the same"),
    (OPTIONAL, "milestones/*/escalate/#", "likewise"),
    (OPTIONAL, "states/*/on/*", "a message may find no use in a state"),
    (OPTIONAL, "states/*/on/*/#", "a choice fewer; told at the state that is reached no more"),
    (OPTIONAL, "states/*/always/#", "likewise"),
    (OPTIONAL, "states/*/on/*/to", "an answer may be taken without effect"),
    (OPTIONAL, "states/*/on/*/#/to", "likewise"),
    (OPTIONAL, "states/*/on/*/when", "it may hold whatever is so"),
    (&[Deleted, Misspelled], "states/*/on/*/undo", "what was done may stand; the text in it is for people"),
    (OPTIONAL, "states/*/on/*/call", "an answer may be taken without a call"),
    (OPTIONAL, "states/*/on/*/call/#", "likewise"),
    (OPTIONAL, "states/*/on/*/#/call", "likewise"),
    (OPTIONAL, "states/*/on/*/#/call/#", "likewise"),
    (OPTIONAL, "states/*/always/#/call", "likewise"),
    (OPTIONAL, "states/*/always/#/call/#", "likewise"),
    (OPTIONAL, "states/*/after/*/#", "a choice fewer; told at the effect that is called no more"),
    (OPTIONAL, "states/*/after/*/#/call/#", "likewise"),
    (
        &[Deleted, Misspelled],
        "states/*/after/*/undo",
        "what was done may stand; the text in it is for people",
    ),
    (OPTIONAL, "states/*/after/*/set", "a timer need not set anything"),
    (VALUE, "states/*/after/*/set/*", "likewise"),
    (OPTIONAL, "states/*/after", "optional"),
    (OPTIONAL, "states/*/after/*", "optional"),
    (OPTIONAL, "states/*/hold", "a state need not wait for a person"),
    (OPTIONAL, "effects/*/keep", "nothing of an answer need be kept"),
    (OPTIONAL, "states/*/always", "told at the state that is reached no more"),
    (OPTIONAL, "states/*/always/#/when", "it may hold whatever is so"),
    (OPTIONAL, "states/*/at", "optional"),
    (OPTIONAL, "states/*/at/#", "optional"),
    (OPTIONAL, "states/*/at/#/set", "a date need not set anything"),
    (VALUE, "states/*/at/#/set/*", "likewise"),
    (OPTIONAL, "states/*/on/*/#/set", "an answer need not set anything"),
    (OPTIONAL, "anywhere", "nothing need hold everywhere"),
    (OPTIONAL, "milestones/*/reached_in/#", "another state reaches it too"),
    (OPTIONAL, "states/*/commit", "what was done may be undone"),
    (OPTIONAL, "states/*/hold/missing", "optional"),
    (&[Misspelled], "states/*/hold/reason", "the text in it is for people"),
    (&[Misspelled], "states/*/on/*/#/when", "GAP: the contract's `result` is not compared"),
];

const CONNECTORS: &[Rule] = &[
    (FREE, "title", "for people"),
    (&[Words, Misspelled], "owner/*", "for people"),
    (OPTIONAL, "session", "optional"),
    (&[Misspelled], "session/path", "the vendor's path"),
    (&[Misspelled], "session/take", "the vendor's header"),
    (OPTIONAL, "session/lasts", "has a default"),
    (SHAPE, "session/headers", "the vendor's names"),
    (
        &[Deleted, KeyMisspelled, Misspelled, Words, Number, Empty],
        "session/headers/*",
        "the vendor's names and values",
    ),
    (OPTIONAL, "class", "has a default"),
    (OPTIONAL, "class/*", "has a default"),
    (OPTIONAL, "reconcile", "optional"),
    (OPTIONAL, "reconcile/*", "optional"),
    (OPTIONAL, "reconcile/*/policy", "has a default"),
    (OPTIONAL, "reconcile/*/at", "then only on demand"),
    (OPTIONAL, "reconcile/*/when", "then every entity"),
    (&[Misspelled], "reconcile/*/when", "the text in it is a state's name, or any other"),
    (&[Misspelled], "reconcile/*/fields/*/ours", "a text of its own"),
    (&[Misspelled], "reconcile/*/list/key", "GAP: the contract's `result` is not compared"),
    (OPTIONAL, "reconcile/*/absent", "has a default"),
    (&[Deleted, KeyMisspelled], "reconcile/*/fields/*", "fewer may be compared, under names of their own"),
    (SHAPE, "reconcile/*/with", "what an operation does without, or a text of its own"),
    (SHAPE, "reconcile/*/with/*", "what an operation does without, or a text of its own"),
    (SHAPE, "reconcile/*/repair/with", "what an operation does without, or a text of its own"),
    (SHAPE, "reconcile/*/repair/with/*", "what an operation does without, or a text of its own"),
    (OPTIONAL, "subscribes", "optional"),
    (OPTIONAL, "subscribes/*", "optional"),
    (&[Deleted, Misspelled], "subscribes/*/when", "optional; the text in it is any"),
    (OPTIONAL, "subscribes/*/create", "optional"),
    (OPTIONAL, "subscribes/*/id", "optional"),
    (OPTIONAL, "subscribes/*/required", "has a default"),
    (SHAPE, "subscribes/*/with/*", "what an operation does without, or a text of its own"),
    (SHAPE, "operations/*/probe/body", "the vendor's shape"),
    (SHAPE, "operations/*/probe/body/**", "the vendor's shape"),
    (OPTIONAL, "limits", "has a default"),
    (OPTIONAL, "limits/*", "has a default"),
    (&[Number], "limits/*", "any number is a limit"),
    (OPTIONAL, "retry", "has a default"),
    (OPTIONAL, "retry/*", "has a default"),
    (&[Number], "retry/attempts_max", "any number is a limit"),
    (OPTIONAL, "breaker", "optional"),
    (&[Number], "breaker/failures", "any number is a limit"),
    (OPTIONAL, "timeout", "has a default"),
    (OPTIONAL, "ordered", "optional"),
    (OPTIONAL, "auth/scope", "optional"),
    (&[Words, Misspelled], "auth/scope", "the vendor's word"),
    (&[Misspelled], "auth/header", "the vendor's word"),
    (&[Misspelled], "auth/token_url", "the vendor's address"),
    (&[Misspelled], "auth/*/ref", "any variable may be set"),
    (&[Misspelled], "base_url/ref", "any variable may be set"),
    (FREE, "auth/*/default", "any text is a name or a secret of the sandbox"),
    (&[Words], "auth/*", "a user name may stand in the file"),
    (&[Deleted, Misspelled], "base_url/default", "any host may be"),
    (&[Misspelled], "operations/*/path", "the vendor's path"),
    (&[Misspelled], "operations/*/probe/path", "the vendor's path"),
    (SHAPE, "operations/*/body", "the vendor's shape; a misspelt `input.…` is a GAP"),
    (SHAPE, "operations/*/body/**", "the vendor's shape; a misspelt `input.…` is a GAP"),
    (SHAPE, "operations/*/headers", "the vendor's names"),
    (SHAPE, "operations/*/headers/*", "the vendor's names"),
    (SHAPE, "operations/*/query", "the vendor's names"),
    (SHAPE, "operations/*/query/*", "the vendor's names"),
    (SHAPE, "operations/*/probe/query", "the vendor's names"),
    (SHAPE, "operations/*/probe/query/*", "the vendor's names"),
    (OPTIONAL, "operations/*/idempotency", "has a default"),
    (OPTIONAL, "operations/*/uncertain", "has a default"),
    (OPTIONAL, "operations/*/key_kept", "optional"),
    (OPTIONAL, "operations/*/ask_first", "has a default"),
    (OPTIONAL, "operations/*/probe", "optional where nothing else asks for it"),
    (OPTIONAL, "operations/*/probe/after", "has a default"),
    (OPTIONAL, "operations/*/outcomes", "has a default: by status"),
    (OPTIONAL, "operations/*/outcomes/#", "has a default: by status"),
    (&[Misspelled], "operations/*/outcomes/#/when", "what a system answers is not described"),
    (FREE, "operations/*/outcomes/#/detail", "for people"),
    (&[Deleted, Number], "operations/*/outcomes/#/wait", "optional; any number is a time"),
    (&[Misspelled], "operations/*/outcomes/#/wait", "the names in it are the vendor's"),
    (
        &[Deleted, Map, Misspelled],
        "operations/*/outcomes/#/result",
        "GAP: `result.…` of processes is not compared",
    ),
    (SHAPE, "operations/*/outcomes/#/result/*", "GAP: `result.…` of processes is not compared"),
    (
        &[Deleted, Map, Misspelled],
        "operations/*/probe/result",
        "GAP: `result.…` of processes is not compared",
    ),
    (SHAPE, "operations/*/probe/result/*", "GAP: `result.…` of processes is not compared"),
];

const SOURCES: &[Rule] = &[
    (OPTIONAL, "class", "has a default"),
    (OPTIONAL, "class/*", "has a default"),
    (OPTIONAL, "optional", "a node without its secret does not start then"),
    (FREE, "title", "for people"),
    (&[Words, Misspelled], "owner/*", "for people"),
    (&[Misspelled], "source", "GAP: it is not compared with the name of its file"),
    (OPTIONAL, "secrets/#", "one of them is enough"),
    (OPTIONAL, "secrets/#/optional", "optional"),
    (&[Words, Misspelled], "secrets/#/id", "a name of its own"),
    (&[Misspelled], "secrets/#/ref", "any variable may be set"),
    (OPTIONAL, "messages/*", "a system may send less"),
    (OPTIONAL, "messages/*/version", "optional"),
    (OPTIONAL, "messages/*/schemas", "GAP: a version without schemas is not missed"),
    (OPTIONAL, "messages/*/schemas/*", "GAP: likewise"),
    (OPTIONAL, "messages/*/send/#", "GAP: a message that becomes nothing is always refused"),
    (OPTIONAL, "messages/*/send/#/time", "optional"),
    (
        &[Null, List, Map, Number],
        "messages/*/send/#/map",
        "GAP: what a process reads is not compared with it",
    ),
    (
        SHAPE,
        "messages/*/send/#/map/**",
        "a text of its own, or what a process can do without; GAP: what it takes a value for is not compared with it",
    ),
];

const PRESETS: &[Rule] = &[
    (&[Words, Misspelled, Empty], "title", "for people"),
    (&[Words, Misspelled, Empty], "docs", "for people"),
    (OPTIONAL, "ack", "has a default"),
    (OPTIONAL, "handshake", "has a default"),
    (OPTIONAL, "identify/dedupe", "has a default"),
    (OPTIONAL, "identify/dedupe/#", "one of them may be enough"),
    (&[Deleted, Null], "identify/each", "one message per request is usual"),
    (OPTIONAL, "identify/id/#", "one of them may be enough"),
    (&[Misspelled], "identify/id", "the vendor's name"),
    (&[Misspelled], "identify/id/#", "the vendor's name"),
    (&[Misspelled], "identify/dedupe/#", "the vendor's name"),
    (&[Deleted, Null, Misspelled], "identify/type", "optional; the vendor's name"),
    (OPTIONAL, "verify/algorithm", "has a default"),
    (OPTIONAL, "verify/secret_encoding", "has a default"),
    (OPTIONAL, "verify/signature/encoding", "has a default"),
    (OPTIONAL, "verify/signature/parse", "has a default"),
    (OPTIONAL, "verify/signature/headers/#", "one of them is enough"),
    (&[Misspelled], "verify/signature/headers/#", "the vendor's name"),
    (&[Words, Misspelled, Number], "verify/signature/parse/*", "the vendor's separators and names"),
    (&[Deleted, Null, List, Number], "verify/signature/parse/segments/#", "told at `parse` as a whole"),
    (&[Misspelled], "verify/signed", "text around the parts is the vendor's"),
    (&[Deleted, Null, Words, Empty, Misspelled], "verify/strip_prefix", "the vendor's, and optional"),
    (&[Deleted, Null, Words, Empty, Misspelled], "verify/private_prefix", "the vendor's, and optional"),
    (OPTIONAL, "verify/timestamp/tolerance", "has a default"),
    (&[Misspelled], "verify/timestamp/from", "the vendor's name"),
    (OPTIONAL, "verify/expect", "optional"),
    (&[Deleted, Words, Empty, Misspelled, KeyMisspelled], "verify/expect/*", "the vendor's header and value"),
    (OPTIONAL, "verify/url", "optional"),
    (&[Deleted, Null, Empty, Misspelled], "verify/url/decode", "the vendor's characters"),
];

/// Which rule covers this, if one does.
pub(crate) fn covers(rules: &[Rule], how: How, path: &[String]) -> Option<usize> {
    rules.iter().position(|(hows, pattern, _)| {
        (hows.is_empty() || hows.contains(&how)) && matches(&pattern.split('/').collect::<Vec<_>>(), path)
    })
}

fn matches(pattern: &[&str], path: &[String]) -> bool {
    match (pattern, path) {
        (["**"], [_, ..]) | ([], []) => true,
        ([word, pattern @ ..], [key, path @ ..]) => (*word == "*" || word == key) && matches(pattern, path),
        _ => false,
    }
}

const SLOS: &[Rule] = &[
    (&[Misspelled], "metadata/name", "a name of its own"),
    (&[Misspelled], "spec/indicator/metadata/name", "a name of its own"),
    (OPTIONAL, "spec/indicator/spec/ratioMetric/counter", "has a default"),
    (FREE, "metadata/displayName", "for people"),
    (FREE, "spec/description", "for people"),
    (FREE, "spec/objectives/#/displayName", "for people"),
];
