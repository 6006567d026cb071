use super::super::{Files, read, shipped};
use super::*;

/// What changes when `edit` is done to the shipped files: `breaks` or `changes`, what and which, and the words.
fn told(edit: impl FnOnce(&mut Files)) -> Vec<(bool, String, String)> {
    let old_files = shipped();
    let mut new_files = old_files.clone();
    edit(&mut new_files);
    let integration = |files: &Files| {
        let read = read(files, "");
        read.integration.unwrap_or_else(|| panic!("{}", read.problems))
    };
    let (old, new) = (integration(&old_files), integration(&new_files));
    let found = difference((&old, &old_files), (&new, &new_files));
    found
        .changes
        .into_iter()
        .map(|one| (one.breaking, format!("{} {}", one.what, one.name), one.change))
        .collect()
}

fn replaced(files: &mut Files, file: &str, from: &str, to: &str) {
    let text = files.get_mut(file).unwrap_or_else(|| panic!("{file} is shipped"));
    assert!(text.contains(from), "{file} has no {from}");
    *text = text.replacen(from, to, 1);
}

#[test]
fn nothing_changes_between_two_that_are_the_same() {
    assert_eq!(told(|_| {}), []);
}

#[test]
fn a_changed_text_under_the_same_version_breaks_and_under_a_new_one_does_not() {
    let title =
        |files: &mut Files| replaced(files, "processes/order.yaml", "title: Order to cash", "title: Order");
    let found = told(title);
    assert_eq!((found.len(), found[0].0, found[0].1.as_str()), (1, true, "process order 2"), "{found:?}");
    assert!(found[0].2.contains("give it version 3"), "{found:?}");
    let found = told(|files| {
        let text = files["processes/order.yaml"].replacen("version: 2", "version: 3", 1);
        let text = text.replace("  cancel_reason: text", "  cancel_reason: text\n  priority: text");
        files.insert("processes/order.v3.yaml".into(), text);
    });
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].0, found[0].1.as_str()), (false, "process order 3"));
    assert!(found[0].2.contains("fields +priority"), "{found:?}");
}

#[test]
fn what_senders_rely_on_breaks_them_when_it_goes() {
    let found = told(|files| drop(files.remove("sources/warehouse.yaml")));
    assert!(
        found.contains(&(true, "source warehouse".into(), "is gone: what it sends is answered 401".into())),
        "{found:?}"
    );
    let schema = "schemas/crm/opportunity.cancelled.v1.json";
    let tighter = |files: &mut Files| {
        replaced(files, schema, "\"OrderNumber__c\"\n", "\"OrderNumber__c\", \"Reason__c\"\n");
    };
    let found = told(tighter);
    assert_eq!(
        (found.len(), found[0].0, found[0].1.as_str()),
        (1, true, "schema crm opportunity.cancelled 1")
    );
    assert!(found[0].2.contains("`/data/Reason__c` is required"), "{found:?}");
    let found = told(|files| replaced(files, schema, "\"maxLength\": 500", "\"maxLength\": 600"));
    assert_eq!((found.len(), found[0].0), (1, false), "{found:?}");
    let found = told(|files| {
        replaced(files, "sources/crm.yaml", "schemas: {\"1\": crm/opportunity.cancelled.v1.json}", "");
    });
    assert!(
        found.iter().any(|(breaks, name, _)| *breaks && name == "schema crm opportunity.cancelled 1"),
        "{found:?}"
    );
}

#[test]
fn a_new_version_of_a_schema_comes_with_its_verdict() {
    let found = told(|files| {
        let text = files["schemas/crm/opportunity.cancelled.v1.json"].replace("\"const\": 1", "\"const\": 2");
        files.insert("schemas/crm/opportunity.cancelled.v2.json".into(), text);
        let one = "schemas: {\"1\": crm/opportunity.cancelled.v1.json}";
        let two =
            "schemas: {\"1\": crm/opportunity.cancelled.v1.json, \"2\": crm/opportunity.cancelled.v2.json}";
        replaced(files, "sources/crm.yaml", one, two);
    });
    let new = (
        false,
        "schema crm opportunity.cancelled 2".to_owned(),
        "is new and as compatible as was declared".to_owned(),
    );
    assert!(found.contains(&new), "{found:?}");
}

#[test]
fn a_call_that_live_instances_make_must_not_go() {
    let found = told(|files| {
        let text = files["processes/order.yaml"].replacen("version: 2", "version: 3", 1);
        let text = text.replace("call: support.create_ticket", "call: notify.send");
        let text = text.replace(
            "      external_id: \"entity.key\"\n      requester",
            "      to: \"'x'\"\n      requester",
        );
        files.remove("processes/order.yaml");
        files.remove("processes/order.test.yaml");
        files.insert("processes/order.v2.yaml".into(), text);
        files.remove("connectors/support.yaml");
        // It asks the support desk for equipment.
        files.retain(|name, _| !name.contains("employee") && name != "sources/hr.yaml");
    });
    let gone = found.iter().find(|(_, name, _)| name == "connector support").expect("it is told");
    assert!(gone.0 && gone.2.contains("live instances"), "{gone:?}");
    let old = found.iter().find(|(_, name, _)| name == "process order 2").expect("it is told");
    assert!(!old.0 && old.2.contains("the store keeps"), "{old:?}");
}

#[test]
fn another_objective_is_told_and_breaks_nobody() {
    let slo = "slos/order-booked.yaml";
    let found = told(|files| replaced(files, slo, "target: 0.95", "target: 0.99"));
    let change = "was 95% of `order` reach `booked` in time, over 28 days; is 99% of `order` reach `booked` in time, over 28 days";
    assert_eq!(found, [(false, "objective order-booked".into(), change.into())]);
    let found = told(|files| drop(files.remove(slo)));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(!found[0].0 && found[0].2.starts_with("is gone: 95%"), "{found:?}");
}
