//! A state that waits for a person says what for, as long as it lasts.

use std::sync::Arc;

use super::{Draft, Told};
use crate::decision::{ExceptionClass, Rejection};
use crate::expr::Expr;
use crate::process::{Hold, StateDef};
use crate::value::Value;

impl Draft<'_> {
    /// Opens the hold of the state just entered.
    pub(super) fn hold(&mut self, state: &StateDef, told: &Told) -> Result<(), Rejection> {
        let Some(hold) = &state.hold else { return Ok(()) };
        let Said { reason, detail, owner } = self.said(hold, state, told)?;
        self.open(ExceptionClass::Hold, None, reason, detail, &owner);
        Ok(())
    }

    /// After what has come in: a hold that lasts and says something else now is opened anew, so that what has come meanwhile is no
    /// longer asked for. One that cannot be evaluated any more stands as it was.
    pub(super) fn renew_hold(&mut self) {
        let process = self.process;
        let Some(state) = process.states.get(&self.state.status) else { return };
        let (Some(hold), None) = (&state.hold, self.state.ending) else { return };
        let Some(open) = self.state.exceptions.values().find(|e| e.class == ExceptionClass::Hold) else {
            return;
        };
        let Ok(Said { reason, detail, owner }) = self.said(hold, state, &Told::nothing()) else { return };
        if *open.summary == *reason && open.detail == detail && open.owner == owner {
            return;
        }
        self.close_all(
            |exception| exception.class == ExceptionClass::Hold,
            "it waits for something else now",
        );
        self.open(ExceptionClass::Hold, None, reason, detail, &owner);
    }

    /// What it waits for, and who owes it.
    fn said(&self, hold: &Hold, state: &StateDef, told: &Told) -> Result<Said, Rejection> {
        let scope = self.scope(told);
        let evaluate = |expr: &Expr| {
            expr.eval(&scope.borrowed())
                .map_err(|e| Rejection::Expression(format!("hold at {}: {e}", state.place).into()))
        };
        let missing = hold.missing.as_ref().map(evaluate).transpose()?.unwrap_or(Value::Null);
        // As it is kept, so that one that says the same stays the same.
        let owner = match &hold.owner_by {
            Some(owner) => self.owner_or_team(&evaluate(owner)?.to_plain_text()),
            None => self.owner_or_team(&hold.owner),
        };
        let reason = evaluate(&hold.reason)?.to_plain_text();
        Ok(Said { reason, detail: Value::map([("missing", missing)]), owner })
    }
}

/// What a hold says when it is opened.
struct Said {
    reason: String,
    detail: Value,
    owner: Arc<str>,
}

#[cfg(test)]
mod tests {
    use crate::document::Reader;
    use crate::process::{parse, test};

    const PROCESS: &str = r##"
process: parcel
version: 1
owner: {team: post, escalate: "#post"}
initial: received
fields: {missing: list, note: text}
messages:
  parcel.seen: {is: event, starts: true}
  parcel.noted: {is: event}
effects: {}
states:
  received:
    on:
      parcel.seen: {set: {missing: "data.missing"}, to: held}
  held:
    hold: {reason: "'lacks ' + join(parcel.missing, ', ')", missing: "parcel.missing"}
    on:
      parcel.seen:
        - when: "size(data.missing) == 0"
          to: done
        - set: {missing: "data.missing"}
      parcel.noted: {set: {note: "data.note"}}
      retry: {to: done}
    after:
      1d: {to: done}
  done: {end: completed}
"##;

    const CASES: &str = r#"
process: parcel
cases:
  - name: a hold says what is missing now, and its time runs on
    steps:
      - when: parcel.seen
        data: {missing: [sender, weight]}
        then: {state: held, exceptions: [{class: hold, summary: "lacks sender, weight"}]}
      - wait: 20h
      - when: parcel.seen
        data: {missing: [weight]}
        then: {state: held, exceptions: [{class: hold, summary: "lacks weight"}]}
      - wait: 4h
        then: {state: done, exceptions: []}
  - name: what changes nothing about it leaves it as it is
    steps:
      - when: parcel.seen
        data: {missing: [weight]}
      - when: parcel.noted
        data: {note: fragile}
        then: {state: held, exceptions: [{class: hold, summary: "lacks weight"}]}
      - when: parcel.seen
        data: {missing: []}
        then: {state: done, exceptions: []}
"#;

    #[test]
    fn a_hold_that_lasts_says_what_it_waits_for_now() {
        let reader = Reader::default();
        let node = reader.read("parcel.yaml", PROCESS).unwrap();
        let process = parse::parse(&node, PROCESS, &reader).unwrap();
        let cases = reader.read("parcel.test.yaml", CASES).unwrap();
        assert_eq!(reader.into_problems().to_string(), "");
        for case in test::run(&cases, &process) {
            assert!(case.failure.is_none(), "{}: {:?}", case.name, case.failure);
        }
    }
}
