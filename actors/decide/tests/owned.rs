//! Owners of fields and revisions of sources, in cases as users write them.

use super::{hold, load};
use crate::process::check;

const PERSON: &str = r#"
process: person
version: 1
title: Person
owner: {team: people}
initial: new
fields:
  name: text
  email: {type: text, owner: crm, conflict: hold}
  phone: {type: text, owner: crm, conflict: accept}
  limit: {type: number, owner: erp, conflict: reject}
  address: {type: map, owner: crm}
messages:
  person.told: {is: event, starts: true, revision: "data.revision"}
  person.moved: {is: event}
  person.opened: {is: command}
  person.close: {is: command}
effects:
  ask_erp:
    call: erp.ask
    with: {key: "entity.key"}
    keep: {limit: "result.limit", email: "result.email"}
    failure: exception
  ask_shop:
    call: shop.ask
    with: {key: "entity.key"}
    keep: {email: "result.email"}
    failure: exception
"#;

/// The same assignment wherever a person is told of: each case is about its fields alone.
const SET: &str = r#"{name: "default(data.name, default(person.name, null))", email: "default(data.email, default(person.email, null))",
        phone: "default(data.phone, default(person.phone, null))", limit: "default(data.limit, default(person.limit, null))"}"#;

const STATES: &str = r#"states:
  new:
    on:
      person.told: {set: SET, to: known}
  known:
    on:
      person.told: {set: SET}
      person.opened: {call: [ask_erp, ask_shop], to: open}
  open:
    on:
      person.moved: {set: {address: "data.address"}}
      person.told: {set: SET}
  closed: {end: completed}
anywhere:
  person.close: {to: closed}
"#;

fn person() -> String {
    format!("{PERSON}{}", STATES.replace("SET", SET))
}

fn cases(steps: &str) {
    hold(&person(), &format!("process: person\ncases:\n  - name: it\n    key: P-1\n    steps:\n{steps}"));
}

#[test]
fn a_write_by_another_is_rejected_held_or_accepted_and_never_unseen() {
    cases(
        r#"
      - when: person.told
        from: crm
        data: {revision: 1, name: Ann, email: a@x, phone: "1"}
        then: {state: known, written_by: {email: crm, phone: crm, limit: nobody}}
      - when: person.told
        from: shop
        data: {revision: 1, name: Anna, email: b@x, phone: "2"}
        then:
          verdict: applied
          fields: {name: Anna, email: a@x, phone: "2"}
          written_by: {email: crm, phone: shop}
          exceptions: [{class: conflict, owner: people, summary: '`shop` says that email is "b@x"; `crm`, which owns it, says "a@x"'}]
      - when: person.told
        from: shop
        data: {revision: 2, limit: 500}
        then: {verdict: rejected, fields: {limit: null}, exceptions: [{class: conflict}]}
      - when: person.told
        from: erp
        data: {revision: 1, limit: 500}
        then: {verdict: applied, fields: {limit: 500}, written_by: {limit: erp}}
"#,
    );
}

#[test]
fn a_person_takes_the_new_value_or_keeps_the_owners() {
    let conflict = r"
      - {when: person.told, from: crm, data: {revision: 1, email: a@x}}
      - {when: person.told, from: shop, data: {revision: 1, email: b@x}, then: {exceptions: [{class: conflict}]}}
";
    let take = r"
      - {when: retry, then: {verdict: applied, fields: {email: b@x}, written_by: {email: operator}, exceptions: []}}
      - {when: person.told, from: shop, data: {revision: 2, email: c@x}, then: {fields: {email: b@x}, exceptions: [{class: conflict}]}}
      - {when: person.told, from: crm, data: {revision: 2, email: c@x}, then: {fields: {email: c@x}, exceptions: []}}
";
    let other = r"
      - {when: retry, set: {email: d@x, name: Dan}, then: {fields: {email: d@x, name: Dan}, exceptions: []}}
";
    let keep = r"
      - {when: resolve, then: {verdict: applied, fields: {email: a@x}, written_by: {email: crm}, exceptions: []}}
";
    for end in [take, other, keep] {
        cases(&format!("{conflict}{end}"));
    }
}

#[test]
fn a_conflict_is_opened_once_and_goes_when_both_agree() {
    let conflict = r"
      - {when: person.told, from: crm, data: {revision: 1, email: a@x}}
      - {when: person.told, from: shop, data: {revision: 1, email: b@x}, then: {exceptions: [{class: conflict}]}}
";
    for end in [
        "{when: person.told, from: shop, data: {revision: 2, email: b@x}, then: {exceptions: [{summary: b@x}]}}",
        "{when: person.told, from: shop, data: {revision: 2, email: c@x}, then: {exceptions: [{summary: c@x}]}}",
        "{when: person.told, from: shop, data: {revision: 2, email: a@x}, then: {exceptions: []}}",
        "{when: person.told, from: crm, data: {revision: 2, email: b@x}, then: {fields: {email: b@x}, exceptions: []}}",
        "{when: person.close, then: {ended: completed, exceptions: []}}",
    ] {
        cases(&format!("{conflict}      - {end}\n"));
    }
}

#[test]
fn an_empty_field_is_filled_until_its_owner_speaks() {
    cases(
        r"
      - {when: person.told, from: shop, data: {revision: 1, email: b@x}, then: {written_by: {email: shop}, exceptions: []}}
      - {when: person.told, from: shop, data: {revision: 2, email: c@x}, then: {fields: {email: c@x}, exceptions: []}}
      - {when: person.told, from: erp, data: {revision: 1, email: d@x}, then: {fields: {email: c@x}, exceptions: [{class: conflict}]}}
      - {when: person.told, from: crm, data: {revision: 1, email: a@x}, then: {fields: {email: a@x}, written_by: {email: crm}}}
      - {when: person.told, from: shop, data: {revision: 3, email: c@x}, then: {fields: {email: a@x}}}
",
    );
}

#[test]
fn what_a_system_answers_is_its_word_and_a_person_gives_a_reason() {
    cases(
        r"
      - {when: person.told, from: crm, data: {revision: 1, email: a@x, limit: null}, then: {state: known}}
      - {when: person.opened, then: {state: open, calls: [ask_erp, ask_shop]}}
      - {when: ask_erp.ok, result: {limit: 9, email: e@x}, then: {fields: {limit: 9, email: a@x}, written_by: {limit: erp}, exceptions: [{class: conflict}]}}
      - {when: ask_shop.failed, then: {exceptions: [{class: conflict}, {class: failure}]}}
      - {when: retry, class: failure, set: {limit: 10}, then: {verdict: rejected, fields: {limit: 9}}}
      - {when: retry, class: failure, set: {email: z@x}, then: {verdict: applied, fields: {email: z@x}, written_by: {email: operator}, calls: [ask_shop]}}
",
    );
}

#[test]
fn an_answer_is_not_kept_where_only_the_owner_may_write() {
    // It reads, as `any` connector may answer; the checker tells of it, and at run time it is noted and left.
    let process = person().replace("keep: {email: \"result.email\"}", "keep: {limit: \"result.limit\"}");
    let told: Vec<_> = {
        let reader = crate::document::Reader::default();
        let node = reader.read("p.yaml", &process).expect("reads");
        let process = crate::process::parse::parse(&node, &process, &reader).expect("compiles");
        check::check(&process).iter().map(ToString::to_string).collect()
    };
    assert!(told.join("\n").contains("`limit` is never kept: `erp` owns it and `shop` answers"), "{told:?}");
}

#[test]
fn an_older_revision_and_a_repeated_one_have_no_effect() {
    cases(
        r#"
      - {when: person.told, from: crm, data: {revision: 5, name: Five}, then: {state: known}}
      - {when: person.told, from: crm, data: {revision: 4, name: Four}, then: {verdict: ignored, fields: {name: Five}}}
      - {when: person.told, from: crm, data: {revision: 5, name: Five}, then: {verdict: ignored, fields: {name: Five}}}
      - {when: person.told, from: shop, data: {revision: 4, name: Shop}, then: {verdict: applied, fields: {name: Shop}}}
      - {when: person.told, from: crm, data: {revision: 5, name: Again}, then: {verdict: applied, fields: {name: Again}}}
      - {when: person.told, from: crm, data: {revision: 10, name: Ten}, then: {verdict: applied, fields: {name: Ten}}}
      - {when: person.told, from: crm, data: {revision: "later", name: Word}, then: {verdict: deferred, exceptions: [{class: mapping, summary: cannot be compared}]}}
      - {when: resolve, then: {exceptions: []}}
"#,
    );
}

#[test]
fn a_message_that_waited_keeps_its_sender_and_its_revision() {
    cases(
        r"
      - {when: person.told, from: crm, data: {revision: 1, email: a@x}, then: {state: known}}
      - {when: person.moved, from: shop, data: {address: {city: Bonn}}, then: {verdict: deferred}}
      - {when: person.opened, from: crm, then: {state: open, fields: {address: {city: Bonn}}, written_by: {address: shop}}}
      - {when: person.moved, from: crm, data: {address: {city: Berlin}}, then: {written_by: {address: crm}}}
      - {when: person.moved, from: shop, data: {address: {city: Bonn}}, then: {fields: {address: {city: Berlin}}, exceptions: [{class: conflict}]}}
",
    );
}

#[test]
fn mistakes_about_owners_are_told() {
    for (from, to, told) in [
        ("owner: crm, conflict: hold", "conflict: hold", "a field without an owner has no conflicts"),
        ("owner: crm, conflict: hold", "owner: crm, conflict: held", "`held` is not allowed here"),
        (
            "{type: text, owner: crm, conflict: hold}",
            "{owner: crm}",
            "fields.email: the key `type` is missing",
        ),
        (
            "revision: \"data.revision\"",
            "revision: \"result.revision\"",
            "`result` in `result.revision` means nothing here",
        ),
    ] {
        let text = person();
        assert!(text.contains(from), "{from}");
        let text = text.replacen(from, to, 1);
        let reader = crate::document::Reader::default();
        let node = reader.read("p.yaml", &text).expect("reads");
        let process = crate::process::parse::parse(&node, &text, &reader);
        process.iter().flat_map(check::check).for_each(|problem| reader.note(problem));
        let said = reader.into_problems().to_string();
        assert!(said.contains(told), "{told}\n---\n{said}");
    }
    let process = load("p.yaml", &person());
    assert!(process.has_owners && process.ownership("address.city").is_some());
}
