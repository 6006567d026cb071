//! `lint` and `test`.

use serde_json::json;

use super::program::{Copy, syncline};

#[test]
fn the_shipped_integration_has_no_problems() {
    let ran = syncline(["lint", "config", "--deny-warnings"]).run().ended(0);
    assert!(ran.out.ends_with(" files checked, no problems\n"), "{}", ran.out);
    assert_eq!(syncline(["lint", "config", "-o", "json"]).run().ended(0).json(), json!([]));
}

#[test]
fn every_mistake_is_told_with_its_line_a_caret_and_a_fix() {
    let copy = Copy::new()
        .with("processes/order.yaml", "call: [check_account]", "call: [chek_account]")
        .with("sources/crm.yaml", "dec(item.Quantity)", "dec(item.Quantity")
        .with("schemas/warehouse/shipment.confirmed.v1.json", "{", "[");
    let ran = syncline(["lint", copy.path()]).run().ended(1);
    let place = format!(
        "{}:207:5  states.account_check.call: there is no effect `chek_account`",
        copy.file("processes/order.yaml").display()
    );
    for said in [
        place.as_str(),
        "\n    207 |     call: [chek_account]\n        |     ^\n    fix: did you mean `check_account`?\n",
        "sources/crm.yaml:44:25",
        "missing ')'",
        "schemas/warehouse/shipment.confirmed.v1.json:",
    ] {
        assert!(ran.out.contains(said), "{said:?} is not in\n{}", ran.out);
    }
    assert!(ran.out.ends_with(" files\n") && ran.out.contains(" 1 warning in "), "{}", ran.out);
    assert_eq!(ran.err, "");
}

#[test]
fn mistakes_are_also_data() {
    let copy = Copy::new().with("connectors/tax.yaml", "connector: tax", "connector: tax\nspeed: 9");
    let found = syncline(["lint", copy.path(), "-o", "json"]).run().ended(1).json();
    let found = found.as_array().unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["severity"], "error");
    assert_eq!(found[0]["file"], copy.file("connectors/tax.yaml").to_str().unwrap());
    assert!(found[0]["line"].as_u64().unwrap() > 1, "{found:?}");
    assert!(found[0]["message"].as_str().unwrap().contains("speed"), "{found:?}");
    assert!(found[0]["fix"].is_string(), "{found:?}");
}

#[test]
fn warnings_fail_only_where_they_are_denied() {
    let copy = Copy::new().with(
        "processes/order.yaml",
        "\neffects:\n",
        "\neffects:\n  forgotten:\n    call: crm.get_account\n    with: {account_id: order.account_id}\n    failure: ignore\n",
    );
    let ran = syncline(["lint", copy.path()]).run().ended(0);
    assert!(
        ran.out.contains("warning: effects.forgotten: effect `forgotten` is never called"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("0 errors, 1 warning in "), "{}", ran.out);
    syncline(["lint", copy.path(), "--deny-warnings"]).run().ended(1);
}

#[test]
fn a_directory_without_an_integration_is_wrong_input() {
    for (directory, said) in [("nowhere", "nowhere"), ("scripts", "name the directory that has them")] {
        for command in ["lint", "test"] {
            let ran = syncline([command, directory]).run().ended(2);
            assert!(ran.err.starts_with("error: ") && ran.err.contains(said), "{}", ran.err);
        }
    }
}

/// What is told of one test file.
fn file(files: &serde_json::Value, name: &str) -> serde_json::Value {
    let of = |file: &&serde_json::Value| file["file"].as_str().unwrap().ends_with(name);
    files.as_array().unwrap().iter().find(of).unwrap_or_else(|| panic!("{name}: {files}")).clone()
}

#[test]
fn the_shipped_cases_pass() {
    let ran = syncline(["test", "config"]).run().ended(0);
    assert!(ran.out.contains("\n  ok    an invoiced order is not cancelled\n"), "{}", ran.out);
    assert!(ran.out.contains(" cases passed, 0 failed"), "{}", ran.out);
    assert!(!ran.out.contains("no case "), "{}", ran.out);
    let files = syncline(["test", "config", "-o", "json"]).run().ended(0).json();
    let order = file(&files, "order.test.yaml");
    assert_eq!(order["cases"].as_array().unwrap().len(), 22);
    assert_eq!(order["cases"][0]["failure"], json!(null));
}

#[test]
fn a_broken_expectation_shows_where_and_what_differs() {
    let copy =
        Copy::new().with("processes/order.test.yaml", "state: customer, calls", "state: booking, calls");
    let ran = syncline(["test", copy.path()]).run().ended(1);
    for said in [
        "  FAIL  a confirmed order is booked, shipped, invoiced and reported back\n",
        "order.test.yaml:51:9: when check_account.ok\n",
        "- state: \"booking\"\n",
        "+ state: \"customer\"\n",
        " cases passed, 1 failed",
    ] {
        assert!(ran.out.contains(said), "{said:?} is not in\n{}", ran.out);
    }
    let files = syncline(["test", copy.path(), "-o", "json"]).run().ended(1).json();
    let failure = &file(&files, "order.test.yaml")["cases"][0]["failure"];
    assert_eq!(failure["differences"], json!(["- state: \"booking\"", "+ state: \"customer\""]));
}

#[test]
fn a_filter_picks_cases_and_one_that_picks_none_is_wrong_input() {
    let ran = syncline(["test", "config", "--filter", "tax engine"]).run().ended(0);
    assert!(ran.out.contains("2 cases passed, 0 failed"), "{}", ran.out);
    let ran = syncline(["test", "config", "--filter", "zebra"]).run().ended(2);
    assert!(ran.err.contains("no case has `zebra` in its name"), "{}", ran.err);
}

#[test]
fn states_that_no_case_comes_to_are_named() {
    let ran = syncline(["test", "config", "--filter", "tax engine"]).run().ended(0);
    assert!(!ran.out.contains("no case comes to"), "the cases left out count: {}", ran.out);
    let copy =
        Copy::new().with("processes/order.test.yaml", "calculate_tax.failed\n", "calculate_tax.dead\n");
    let ran = syncline(["test", copy.path()]).run().ended(1);
    assert!(ran.out.contains("no case comes to: tax_hold"), "{}", ran.out);
}

#[test]
fn time_outs_effects_and_milestones_that_no_case_comes_to_are_named() {
    for (from, to, told) in [
        ("wait: 1h", "run: true", "no case waits for: customer.1h\n"),
        ("parent_id: ACC-0}", "parent_id: null}", "no case calls: check_parent\n"),
        ("wait: 3d", "wait: 2d", "no case misses: shipped\n"),
    ] {
        let mut cases = std::fs::read_to_string("config/processes/order.test.yaml").unwrap();
        assert!(cases.contains(from), "{from}");
        cases = cases.replace(from, to);
        let copy = Copy::new();
        std::fs::write(copy.file("processes/order.test.yaml"), cases).unwrap();
        let ran = syncline(["test", copy.path()]).run();
        assert!(ran.out.contains(told), "{told}\n{}", ran.out);
    }
}

#[test]
fn a_case_may_be_about_an_entity_that_is_bound_to_a_region() {
    let (unbound, bound) = ("cancelled\n    steps", "cancelled\n    key: \"@eu:SO-1\"\n    steps");
    let copy = Copy::new().with("processes/order.test.yaml", unbound, bound);
    let ran = syncline(["test", copy.path()]).run().ended(0);
    assert!(ran.out.contains(" cases passed, 0 failed"), "{}", ran.out);
}

#[test]
fn a_test_file_that_does_not_read_is_told_by_lint_and_by_test() {
    for (old, new, said) in [
        ("cases:\n", "cases: [\n", "order.test.yaml:47:"),
        ("state: customer, calls", "state: custmer, calls", "fix: did you mean `customer`?"),
        ("process: order\n", "process: ordr\n", "there is no such process `ordr`"),
        ("back\n    steps", "back\n    key: \"@eu\"\n    steps", "order.test.yaml:48:10  cases[0].key: "),
        ("back\n    steps", "back\n    key: \"@eu\"\n    steps", "names no region: write `@eu:4711`"),
        ("process: order\n", "proces: order\n", "nothing says which process is tested"),
    ] {
        let copy = Copy::new().with("processes/order.test.yaml", old, new);
        let ran = syncline(["lint", copy.path()]).run().ended(1);
        assert!(ran.out.contains(said), "{said:?} is not in\n{}", ran.out);
        let ran = syncline(["test", copy.path()]).run().ended(2);
        assert!(ran.err.contains(said), "{said:?} is not in\n{}", ran.err);
    }
}

#[test]
fn nothing_is_tested_while_the_integration_has_mistakes() {
    let copy = Copy::new().with("processes/order.yaml", "call: [check_account]", "call: [chek_account]");
    let ran = syncline(["test", copy.path()]).run().ended(2);
    assert!(ran.err.contains("so nothing was tested") && ran.err.contains("chek_account"), "{}", ran.err);
}
