//! Each step's refusal, rotation, and what a description may not say.

use http::HeaderValue;

use super::*;

const NOW: i64 = 1_614_265_330_000;
const BODY: &str = r#"{"id":"evt_1","type":"invoice.paid"}"#;

/// Slack's way: signature and timestamp in headers of their own.
fn description() -> Verify {
    Verify {
        signature: Signature {
            headers: vec!["x-signature".into()],
            query: None,
            parse: Parse::Prefix { prefix: "v0=".into() },
            encoding: Encoding::Hex,
        },
        timestamp: Some(TimestampRule {
            from: "header:x-timestamp".into(),
            unit: Unit::S,
            tolerance: std::time::Duration::from_mins(5),
        }),
        ..Verify::new(Scheme::Hmac, Some("v0:{ts}:{body}"))
    }
}

fn secret() -> Secret {
    Secret::new("current", "a secret")
}

fn request<'a>(headers: &'a HeaderMap, body: &'a str) -> Request<'a> {
    Request { method: "POST", url: "/hooks/x?token=a%20b", host: "h", headers, body: body.as_bytes() }
}

/// What a sender with these secrets sends at `at`.
fn signed(verify: &Verify, secrets: Vec<Secret>, at: i64) -> HeaderMap {
    let none = HeaderMap::new();
    let signer = crate::ingress::sign::Signer::compile(verify, secrets).unwrap();
    signer.sign(&request(&none, BODY), at).unwrap().headers
}

fn verdict(verifier: &Verifier, headers: &HeaderMap, now: i64) -> Result<Option<String>, Refusal> {
    let verified = verifier.verify(&request(headers, BODY), now)?;
    Ok(verified.key_id.map(|id| id.to_string()))
}

fn verifier() -> Verifier {
    Verifier::compile(&description(), vec![secret()]).unwrap()
}

fn sent() -> HeaderMap {
    signed(&description(), vec![secret()], NOW)
}

fn text(value: &'static str) -> HeaderValue {
    HeaderValue::from_static(value)
}

#[test]
fn a_signed_request_is_its_senders() {
    let verified = verifier().verify(&request(&sent(), BODY), NOW).unwrap();
    assert_eq!(verified.key_id.as_deref(), Some("current"));
    assert_eq!(verified.timestamp, Some(NOW));
}

#[test]
fn a_missing_header_is_refused() {
    for name in ["x-signature", "x-timestamp"] {
        let mut headers = sent();
        headers.remove(name);
        assert_eq!(verdict(&verifier(), &headers, NOW), Err(Refusal::MissingHeader(name.into())));
    }
}

#[test]
fn a_repeated_header_is_refused_even_when_both_values_are_right() {
    for name in ["x-signature", "x-timestamp"] {
        let mut headers = sent();
        let again = headers[name].clone();
        headers.append(name, again);
        assert_eq!(verdict(&verifier(), &headers, NOW), Err(Refusal::RepeatedHeader(name.into())));
    }
    let verify = Verify { signed: Some("{ts}{header:x-id}{body}".into()), ..description() };
    let verifier = Verifier::compile(&verify, vec![secret()]).unwrap();
    let mut headers = sent();
    assert_eq!(verdict(&verifier, &headers, NOW), Err(Refusal::MissingHeader("x-id".into())));
    headers.append("x-id", text("a"));
    headers.append("x-id", text("a"));
    assert_eq!(verdict(&verifier, &headers, NOW), Err(Refusal::RepeatedHeader("x-id".into())));
}

#[test]
fn a_malformed_signature_is_refused() {
    for value in ["", "v0=", "v1=00", "v0=zz", "v0=00", "00", "v0=é"] {
        let mut headers = sent();
        headers.insert("x-signature", HeaderValue::from_bytes(value.as_bytes()).unwrap());
        let got = verdict(&verifier(), &headers, NOW);
        assert!(matches!(got, Err(Refusal::MalformedSignature(_))), "{value}: {got:?}");
    }
}

#[test]
fn a_malformed_timestamp_is_refused() {
    for value in ["", "now", "1614265330.0", "-1", "0x60", "2021-03-25T05:09:27Z", "99999999999999999999"] {
        let mut headers = sent();
        headers.insert("x-timestamp", text(value));
        let got = verdict(&verifier(), &headers, NOW);
        assert!(matches!(got, Err(Refusal::MalformedTimestamp(_))), "{value}: {got:?}");
    }
}

#[test]
fn an_old_and_a_future_request_are_refused() {
    let headers = sent();
    assert!(verdict(&verifier(), &headers, NOW + 300_000).is_ok());
    assert!(verdict(&verifier(), &headers, NOW - 300_000).is_ok());
    let tolerance = std::time::Duration::from_mins(5);
    let by = std::time::Duration::from_millis(300_001);
    assert_eq!(verdict(&verifier(), &headers, NOW + 300_001), Err(Refusal::TooOld { by, tolerance }));
    assert_eq!(verdict(&verifier(), &headers, NOW - 300_001), Err(Refusal::InTheFuture { by, tolerance }));
}

#[test]
fn a_renewed_timestamp_does_not_fit() {
    let mut headers = sent();
    headers.insert("x-timestamp", text("1614265999"));
    assert_eq!(verdict(&verifier(), &headers, 1_614_265_999_000), Err(Refusal::NoMatch));
}

#[test]
fn a_timestamp_that_is_there_twice_in_the_signature_is_refused() {
    let mut verify = description();
    verify.signature.parse = Parse::Kv { item_sep: ",".into(), kv_sep: "=".into(), pick: "v1".into() };
    verify.timestamp.as_mut().unwrap().from = "sig:t".into();
    let mut headers = signed(&verify, vec![secret()], NOW);
    let verifier = Verifier::compile(&verify, vec![secret()]).unwrap();
    assert!(verdict(&verifier, &headers, NOW).is_ok());
    let twice = format!("{},t=1", headers["x-signature"].to_str().unwrap());
    headers.insert("x-signature", twice.parse().unwrap());
    assert!(matches!(verdict(&verifier, &headers, NOW), Err(Refusal::MalformedTimestamp(_))));
}

#[test]
fn secrets_are_rotated_without_a_gap() {
    let old = || Secret::new("old", "an old secret").until(NOW + 1000);
    let new = || Secret::new("new", "a new secret").from(NOW - 1000);
    let verifier = Verifier::compile(&description(), vec![new(), old()]).unwrap();
    let by_old = signed(&description(), vec![Secret::new("x", "an old secret")], NOW);
    let by_new = signed(&description(), vec![Secret::new("x", "a new secret")], NOW);
    assert_eq!(verdict(&verifier, &by_old, NOW), Ok(Some("old".into())));
    assert_eq!(verdict(&verifier, &by_new, NOW), Ok(Some("new".into())));
    assert_eq!(verdict(&verifier, &by_old, NOW + 1000), Err(Refusal::NoMatch), "old is over");
    assert_eq!(verdict(&verifier, &by_new, NOW - 1001), Err(Refusal::NoMatch), "new is not yet");
    let only_old = Verifier::compile(&description(), vec![old()]).unwrap();
    assert_eq!(verdict(&only_old, &by_old, NOW + 1000), Err(Refusal::NoSecretValid));
}

#[test]
fn a_flood_of_signatures_is_refused() {
    let mut verify = description();
    verify.signature.parse = Parse::VersionedList { item_sep: " ".into(), prefix: "v1,".into() };
    let verifier = Verifier::compile(&verify, vec![secret()]).unwrap();
    let mut headers = sent();
    headers.insert("x-signature", "v1,00 ".repeat(129).parse().unwrap());
    assert_eq!(verdict(&verifier, &headers, NOW), Err(Refusal::TooManySignatures(128)));
}

#[test]
fn tokens_in_headers_and_queries_are_compared_whole() {
    let header = Verify {
        signature: Signature { headers: vec!["x-token".into()], ..Signature::default() },
        ..Verify::new(Scheme::HeaderToken, None)
    };
    let by_header = Verifier::compile(&header, vec![Secret::new("t", "a b")]).unwrap();
    for (value, fits) in [("a b", true), ("a b ", true), ("a", false), ("a bc", false), ("A b", false)] {
        let mut headers = HeaderMap::new();
        headers.insert("x-token", text(value));
        assert_eq!(verdict(&by_header, &headers, NOW).is_ok(), fits, "{value:?}");
    }
    let query = Verify {
        signature: Signature { query: Some("token".into()), ..Signature::default() },
        ..Verify::new(Scheme::QueryToken, None)
    };
    let by_query = Verifier::compile(&query, vec![Secret::new("t", "a b")]).unwrap();
    let none = HeaderMap::new();
    let ask = |url| by_query.verify(&Request { url, ..request(&none, BODY) }, NOW).map(drop);
    assert_eq!(ask("/hooks/x?a=1&token=a%20b"), Ok(()));
    assert_eq!(ask("/hooks/x?token=a%20c"), Err(Refusal::NoMatch));
    assert_eq!(ask("/hooks/x"), Err(Refusal::MissingQuery("token".into())));
    assert_eq!(ask("/hooks/x?token=a%20b&token=a%20b"), Err(Refusal::RepeatedQuery("token".into())));
    assert!(matches!(ask("/hooks/x?token="), Err(Refusal::MalformedSignature(_))));
}

#[test]
fn path_query_host_and_base64url_can_be_signed() {
    let mut verify = Verify { signed: Some("{host}{path}?{query}|{ts}{body}".into()), ..description() };
    verify.signature.encoding = Encoding::Base64url;
    verify.algorithm = Algorithm::Sha512;
    let headers = signed(&verify, vec![secret()], NOW);
    let verifier = Verifier::compile(&verify, vec![secret()]).unwrap();
    let request = request(&headers, BODY);
    assert!(verifier.verify(&request, NOW).is_ok());
    for other in [
        Request { host: "g", ..request },
        Request { url: "/hooks/x", ..request },
        Request { url: "/hooks/y?token=a%20b", ..request },
    ] {
        assert_eq!(verifier.verify(&other, NOW), Err(Refusal::NoMatch));
    }
    verify.url.public_base = Some("https://h/".into());
    assert!(
        Verifier::compile(&verify, vec![secret()])
            .unwrap()
            .verify(&Request { host: "proxy", ..request }, NOW)
            .is_ok()
    );
}

#[test]
fn unsigned_requests_pass_only_where_it_is_said_aloud() {
    let mut verify = Verify::new(Scheme::None, None);
    let mistakes = Verifier::compile(&verify, vec![]).unwrap_err();
    assert!(mistakes[0].contains("allow_unsigned"), "{mistakes:?}");
    verify.allow_unsigned = true;
    let verifier = Verifier::compile(&verify, vec![]).unwrap();
    assert_eq!(verdict(&verifier, &HeaderMap::new(), NOW), Ok(None));
}

#[test]
fn explain_names_the_step_that_failed_and_tells_no_secret() {
    let failed = |headers: &HeaderMap, body: &str, now: i64| {
        let steps = verifier().explain(&request(headers, body), now);
        let told = format!("{steps:?}");
        assert!(!told.contains("a secret"), "{told}");
        let expected = sent()["x-signature"].to_str().unwrap()[3..].to_owned();
        assert!(!told.contains(&expected), "{told}");
        steps.iter().filter(|step| !step.ok).map(|step| step.name).collect::<Vec<_>>()
    };
    let headers = sent();
    assert_eq!(failed(&headers, BODY, NOW), Vec::<&str>::new());
    assert_eq!(failed(&headers, BODY, 0), ["freshness"]);
    assert_eq!(failed(&headers, "{}", NOW), ["match"]);
    assert_eq!(failed(&headers, &format!("{BODY}\n"), NOW), ["match", "hint"]);
    let mut headers = sent();
    headers.insert("x-signature", text("v0=00"));
    assert_eq!(failed(&headers, BODY, NOW), ["signature"]);
    headers.remove("x-signature");
    assert_eq!(failed(&headers, BODY, NOW), ["headers"]);
}

#[test]
fn explain_says_when_a_secret_is_over() {
    let verifier = Verifier::compile(&description(), vec![secret().until(NOW - 1)]).unwrap();
    let steps = verifier.explain(&request(&sent(), BODY), NOW);
    let last = steps.last().unwrap();
    assert_eq!(last.name, "hint");
    assert!(
        last.detail.contains("\"current\" fits, but was valid only before 2021-02-25T"),
        "{}",
        last.detail
    );
}

#[test]
fn neither_a_verifier_nor_a_secret_shows_its_value() {
    let told = format!("{:?} {:?}", verifier(), secret());
    assert!(!told.contains("a secret"), "{told}");
    let none = HeaderMap::new();
    let signature = Signature { headers: vec!["x-token".into()], ..Signature::default() };
    let verify = Verify { signature, ..Verify::new(Scheme::HeaderToken, None) };
    let signer = crate::ingress::sign::Signer::compile(&verify, vec![secret()]).unwrap();
    let told = format!("{signer:?} {:?}", signer.sign(&request(&none, BODY), NOW).unwrap());
    assert!(!told.contains("a secret"), "{told}");
}

/// Every mistake names its key.
#[test]
fn every_mistake_of_a_description_is_told_at_once() {
    let mut verify = description();
    verify.signed = Some("{secret}{url}{nothing}".into());
    verify.signature.headers = vec!["x y".into()];
    verify.signature.parse = Parse::Kv { item_sep: String::new(), kv_sep: "=".into(), pick: "v1".into() };
    verify.timestamp.as_mut().unwrap().from = "sig:#0".into();
    verify.timestamp.as_mut().unwrap().tolerance = std::time::Duration::ZERO;
    verify.expect.insert("a b".into(), "c".into());
    verify.allow_unsigned = true;
    let secrets = vec![Secret::new("a", ""), Secret::new("a", "x\n"), Secret::new("b", "x").from(2).until(1)];
    let mistakes = Verifier::compile(&verify, secrets).unwrap_err().join("\n");
    for told in [
        "has no {body}",
        "has no {ts}",
        "{secret} is only",
        "`verify.url.public_base`: is missing",
        "{nothing}",
        "\"x y\" is not a header",
        "`verify.signature.parse.item_sep`: is empty",
        "sig:#0 needs",
        "`verify.timestamp.tolerance`",
        "`verify.expect`",
        "`verify.allow_unsigned`",
        "the id \"a\" is there twice",
        "\"a\" is empty",
        "line break",
        "never valid",
    ] {
        assert!(mistakes.contains(told), "{told:?} is not in:\n{mistakes}");
    }
}

#[test]
fn mistakes_of_each_scheme_are_told() {
    let told = |verify: Verify, value: &str, said: &str| {
        let mistakes = Verifier::compile(&verify, vec![Secret::new("s", value)]).unwrap_err().join("\n");
        assert!(mistakes.contains(said), "{said:?} is not in:\n{mistakes}");
        assert!(!mistakes.contains(value), "a secret is in:\n{mistakes}");
    };
    told(Verify { signed: None, ..description() }, "sesame", "`verify.signed`: is missing");
    told(Verify { signed: Some("{body}".into()), ..description() }, "sesame", "renew the timestamp");
    told(Verify { timestamp: None, ..description() }, "sesame", "`verify.timestamp`: is missing");
    told(Verify { scheme: Scheme::Digest, ..description() }, "sesame", "has no {secret}");
    told(Verify { secret_encoding: SecretEncoding::Base64, ..description() }, "s€same", "is not base64");
    told(Verify { secret_encoding: SecretEncoding::Hex, ..description() }, "sesame", "is not hexadecimal");
    told(Verify { strip_prefix: Some("sesame".into()), ..description() }, "sesame", "empty after its prefix");
    told(Verify { scheme: Scheme::Ed25519, ..description() }, "sesame", "not a public key");
    told(Verify::new(Scheme::Basic, None), "sesame", "user:password");
    told(Verify::new(Scheme::Bearer, Some("{body}")), "sesame", "`verify.signed`: is only for");
    told(Verify::new(Scheme::HeaderToken, None), "sesame", "`verify.signature.headers`: is empty");
    told(Verify::new(Scheme::QueryToken, None), "sesame", "`verify.signature.query`: is missing");
    let mut several = description();
    several.signature.headers = vec!["x-signature-*".into()];
    several.signature.parse = Parse::Positional { item_sep: ",".into(), skip: 1 };
    several.timestamp.as_mut().unwrap().from = "sig:#0".into();
    told(several, "sesame", "exactly one header");
    assert!(Verifier::compile(&description(), vec![]).unwrap_err()[0].contains("`secrets`: is empty"));
}
