//! A masked field must not leave under another name, or as part of a sentence: it would be shown whole there.

use super::Checker;
use crate::document::Place;
use crate::expr::Expr;
use crate::process::Process;

impl Checker<'_> {
    pub(super) fn masks(&mut self) {
        let process = self.process;
        if process.mask.is_empty() {
            return;
        }
        for (name, def) in &process.effects {
            for (key, expr) in def.input.leaves("with") {
                self.unmasked(&def.place, &format!("effects.{name}.with.{key}"), key, expr);
            }
            for (field, mapping) in &def.keep {
                for (key, expr) in mapping.leaves(field) {
                    self.unmasked(&def.place, &format!("effects.{name}.keep.{field}"), key, expr);
                }
            }
        }
        for (name, state) in &process.states {
            let sentences = state
                .hold
                .iter()
                .flat_map(|hold| [Some(&hold.reason), hold.missing.as_ref(), hold.owner_by.as_ref()]);
            for expr in sentences.flatten() {
                self.unmasked(&state.place, &format!("states.{name}.hold"), "", expr);
            }
            for (field, mapping) in &state.set {
                for (key, expr) in mapping.leaves(field) {
                    self.unmasked(&state.place, &format!("states.{name}.set.{field}"), key, expr);
                }
            }
        }
        for (_, _, path, transition) in self.transitions() {
            if let Some(expr) = &transition.undo {
                self.unmasked(&transition.place, &path, "", expr);
            }
            for (field, mapping) in &transition.set {
                for (key, expr) in mapping.leaves(field) {
                    self.unmasked(&transition.place, &format!("{path}.{field}"), key, expr);
                }
            }
        }
    }

    /// `key` is what the value stands under.
    fn unmasked(&mut self, place: &Place, path: &str, key: &str, expr: &Expr) {
        for (message, fix) in shown_whole(self.process, key, expr) {
            self.error(place, path, message, fix);
        }
    }
}

/// Masked fields of `process` that `expr` would show whole where its value stands under `key`: what is wrong, and a fix.
pub fn shown_whole(process: &Process, key: &str, expr: &Expr) -> Vec<(String, String)> {
    let mask = &process.mask;
    if mask.covers(key) {
        return Vec::new();
    }
    let plain: String = expr.source().split_whitespace().collect();
    let shown = |reference: &Vec<String>| {
        let [root, field, ..] = &reference[..] else { return None };
        let word = format!("{root}.{field}");
        let is_masked = *root == *process.name && mask.covers(field);
        if !is_masked || !plain.replace(&format!("masked({word})"), "").contains(&word) {
            return None;
        }
        let message = format!("`{word}` is masked, and is shown whole here");
        let fix =
            format!("write `masked({word})`, or hand it on under a name that is masked, e.g. `{field}`");
        Some((message, fix))
    };
    expr.references().iter().filter_map(shown).collect()
}

#[cfg(test)]
mod tests {
    use crate::document::Reader;
    use crate::process::{check, parse};

    const PROCESS: &str = r##"
process: payee
version: 1
owner: {team: treasury, escalate: "#treasury"}
initial: received
fields: {iban: {type: text, mask: true}, name: text, text: text}
messages:
  payee.seen: {is: event, starts: true}
effects:
  pay:
    call: bank.pay
    with: {to: {iban: "payee.iban"}, name: "payee.name"}
    failure: ignore
states:
  received:
    on:
      payee.seen: {set: {iban: "data.iban", name: "data.name"}, to: held}
  held:
    hold: {reason: "'is ' + masked(payee.iban) + ' right?'"}
    call: [pay]
    on:
      retry: {to: done}
      pay.ok: {to: done}
  done: {end: completed}
"##;

    fn problems(text: &str) -> String {
        let reader = Reader::default();
        let node = reader.read("payee.yaml", text).unwrap();
        let process = parse::parse(&node, text, &reader).unwrap();
        for problem in check::check(&process) {
            reader.note(problem);
        }
        reader.into_problems().to_string()
    }

    #[test]
    fn what_is_masked_is_handed_on_only_masked() {
        assert_eq!(problems(PROCESS), "");
        for (from, to, path) in [
            ("iban: \"payee.iban\"", "account: \"payee.iban\"", "effects.pay.with.account"),
            ("\"payee.name\"", "\"payee.name + payee.iban\"", "effects.pay.with.name"),
            ("masked(payee.iban)", "payee.iban", "states.held.hold"),
            ("masked(payee.iban)", "masked(payee.iban) + payee.iban", "states.held.hold"),
            ("pay.ok: {to", "pay.ok: {set: {text: \"payee.iban\"}, to", "states.held.on[\"pay.ok\"].text"),
            ("pay.ok: {to", "pay.ok: {when: \"payee.iban != ''\", set: {iban: \"payee.iban\"}, to", ""),
        ] {
            assert!(PROCESS.contains(from), "{from}");
            let found = problems(&PROCESS.replacen(from, to, 1));
            let told = format!(
                "{path}: `payee.iban` is masked, and is shown whole here\n    fix: write `masked(payee.iban)`"
            );
            assert_eq!(found.contains(&told), !path.is_empty(), "{to}: {found}");
        }
    }
}
