//! `webhook sign`, `verify` and `send`.

use serde_json::json;

use super::fake::{Fake, nowhere, problem};
use super::program::{Copy, Line, syncline};

/// The secret, id, time, body and signature that Standard Webhooks publish.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const AT: &str = "2021-02-25T15:02:10Z";
const BODY: &str = r#"{"test": 2432232314}"#;
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn webhook<'w>(words: impl IntoIterator<Item = &'w str>) -> Line {
    syncline(["webhook"].into_iter().chain(words)).env("SYNCLINE_CRM_SECRET", SECRET)
}

/// A file with this text, gone with the value.
fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn the_published_vector_is_signed() {
    let words = ["sign", "--source", "crm", "--body", "-", "--id", ID, "--at", AT];
    let ran = webhook(words).run_with(BODY).ended(0);
    assert_eq!(
        ran.out,
        format!("webhook-id: {ID}\nwebhook-timestamp: 1614265330\nwebhook-signature: {SIGNATURE}\n")
    );
    let ran = webhook(words.into_iter().chain(["-o", "json"])).run_with(BODY).ended(0);
    assert_eq!(ran.json()["webhook-signature"], SIGNATURE);
}

#[test]
fn what_was_signed_verifies_and_each_failure_names_its_step() {
    let body = file(BODY);
    let signed = format!("webhook-id: {ID}\nwebhook-timestamp: 1614265330\nwebhook-signature: {SIGNATURE}\n");
    let verify = |headers: &str, body: &str, at: &str| {
        let headers = file(headers);
        let words =
            ["verify", "--source", "crm", "--headers", headers.path().to_str().unwrap(), "--body", body];
        webhook(words.into_iter().chain(["--at", at])).run()
    };
    let path = body.path().to_str().unwrap();
    let ran = verify(&signed, path, AT).ended(0);
    assert!(ran.out.contains("match") && !ran.out.contains("FAILED"), "{}", ran.out);

    let with_break = file(&format!("{BODY}\n"));
    for (headers, body, at, step, hint) in [
        (signed.clone(), path, "2021-02-25T15:12:10Z", "freshness", ""),
        (signed.replace("v1,g0", "v1,g1"), path, AT, "match", ""),
        (signed.replace("webhook-signature", "x-signature"), path, AT, "headers", "webhook-signature"),
        (signed.replace("webhook-id:", "webhook-id: a\nwebhook-id:"), path, AT, "headers", "webhook-id"),
        (signed.replace("v1,g0", "v9,g0"), path, AT, "signature", ""),
        (
            signed.clone(),
            with_break.path().to_str().unwrap(),
            AT,
            "match",
            "white space at the end of the body",
        ),
    ] {
        let ran = verify(&headers, body, at).ended(1);
        assert!(ran.out.contains("FAILED") && ran.out.contains(hint), "{}", ran.out);
        assert!(ran.err.contains(&format!("step `{step}` failed")), "{step}: {}", ran.err);
        assert!(!ran.out.contains(SECRET) && !ran.err.contains(SECRET));
    }
    let ran = verify("no header", path, AT).ended(2);
    assert!(ran.err.contains(":1: `no header` is no header"), "{}", ran.err);
}

#[test]
fn what_is_sent_carries_a_signature_and_the_answer_is_shown() {
    let body = file(BODY);
    let words = ["send", "--source", "crm", "--body", body.path().to_str().unwrap(), "--id", ID];
    let fake = Fake::start(&[("POST /hooks/crm", 200, json!({"ok": true}))]);
    let ran = webhook(words.into_iter().chain(["--count", "2", "--node", &fake.url()])).run().ended(0);
    assert_eq!(ran.out.matches("200 OK").count(), 2, "{}", ran.out);
    let asked = fake.asked();
    assert_eq!(asked.len(), 2);
    for asked in asked {
        assert_eq!((asked.body.as_str(), asked.headers["webhook-id"].to_str().unwrap()), (BODY, ID));
        assert!(asked.headers["webhook-signature"].to_str().unwrap().starts_with("v1,"), "{asked:?}");
    }
    let refuses =
        Fake::start(&[("POST /hooks/crm", 401, problem(401, "The sender is not known", "not authentic"))]);
    let ran = webhook(words.into_iter().chain(["--node", &refuses.url()])).run().ended(3);
    assert!(ran.err.contains("401"), "{}", ran.err);
    let ran = webhook(words.into_iter().chain(["--node", &nowhere()])).run().ended(3);
    assert!(ran.err.contains("nothing answers at") && ran.err.contains("`syncline run`"), "{}", ran.err);
}

#[test]
fn wrong_input_is_told_with_what_there_is() {
    let sign = |source: &'static str, body: &'static str| ["sign", "--source", source, "--body", body];
    for (words, said) in [
        (sign("crn", "Cargo.toml"), "there is no source `crn`; there are: "),
        (sign("crm", "nowhere.json"), "cannot read nowhere.json"),
        (sign("warehouse", "Cargo.toml"), "SYNCLINE_WAREHOUSE_SECRET"),
    ] {
        let ran = webhook(words).run().ended(2);
        assert!(ran.err.contains(said), "{}", ran.err);
    }
    let ran = webhook(sign("crm", "Cargo.toml").into_iter().chain(["--at", "yesterday"])).run().ended(2);
    assert!(ran.err.contains("`yesterday` is no time"), "{}", ran.err);
    let ran =
        webhook(sign("crm", "Cargo.toml").into_iter().chain(["--event", "opportunity.won"])).run().ended(2);
    assert!(
        ran.err.contains("there are: account.changed, opportunity.amended, opportunity.cancelled"),
        "{}",
        ran.err
    );
    let copy = Copy::new().with("sources/crm.yaml", "preset: standard-webhooks", "preset: standrd-webhooks");
    let ran =
        webhook(sign("crm", "Cargo.toml").into_iter().chain(["--config-dir", copy.path()])).run().ended(2);
    assert!(ran.err.contains("syncline lint"), "{}", ran.err);
}

#[test]
fn a_sender_that_says_the_type_in_a_header_says_the_one_asked_for() {
    let copy = Copy::new().with("sources/crm.yaml", "preset: standard-webhooks", "preset: github");
    let words = ["sign", "--source", "crm", "--body", "Cargo.toml", "--config-dir", copy.path()];
    let ran = webhook(words.into_iter().chain(["--event", "opportunity.confirmed"])).run().ended(0);
    assert!(ran.out.contains("x-github-event: opportunity.confirmed\n"), "{}", ran.out);
    assert!(ran.out.contains("x-hub-signature-256: sha256="), "{}", ran.out);
}
