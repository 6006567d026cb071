//! Every shipped preset against what its vendor published, from the preset file alone; and laws that hold for all of them.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test itself")]

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use syncline::ingress::identify::Identifier;
use syncline::ingress::preset::{Preset, Presets};
use syncline::ingress::sign::{Signer, identity_headers};
use syncline::ingress::verify::{Refusal, Request, Scheme, Secret, Verifier};

/// The address at which the vendors' examples are received.
const BASE: &str = "https://www.example.com";

/// All presets by name.
fn presets() -> BTreeMap<String, Preset> {
    let presets = Presets::builtin();
    let by_name = |name: &str| (name.to_owned(), presets.get(name).unwrap().clone());
    presets.names().map(by_name).collect()
}

/// A preset as a source of that vendor has it: with the public address, which no preset can know.
fn preset(name: &str) -> Preset {
    let mut preset = presets().remove(name).unwrap_or_else(|| panic!("no preset {name}"));
    preset.verify.url.public_base = Some(BASE.to_owned());
    preset
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
    };
    pairs.iter().map(pair).collect()
}

fn post<'a>(url: &'a str, headers: &'a HeaderMap, body: &'a str) -> Request<'a> {
    Request { method: "POST", url, host: "internal:8080", headers, body: body.as_bytes() }
}

/// Verifies under a preset; says the id of the secret that fitted.
fn check(name: &str, secrets: Vec<Secret>, request: &Request<'_>, now: i64) -> Result<String, Refusal> {
    let verifier = Verifier::compile(&preset(name).verify, secrets).unwrap();
    verifier.verify(request, now).map(|verified| verified.key_id.unwrap().to_string())
}

fn current(value: &str) -> Vec<Secret> {
    vec![Secret::new("current", value)]
}

/// It fits with the vendor's secret and with no other.
fn assert_vector(name: &str, secret: &str, request: &Request<'_>, now: i64) {
    assert_eq!(check(name, current(secret), request, now), Ok("current".into()), "{name}");
    let last = secret.len() - 1;
    let wrong = match &secret[last..] {
        "=" => format!("{}A{}", &secret[..last - 2], &secret[last - 1..]),
        other => format!("{}{}", &secret[..last], if other == "x" { "y" } else { "x" }),
    };
    if let Ok(verifier) = Verifier::compile(&preset(name).verify, current(&wrong)) {
        assert_eq!(verifier.verify(request, now), Err(Refusal::NoMatch), "{name} with a wrong secret");
    }
}

#[test]
fn github_publishes_this_vector() {
    let signed = headers(&[(
        "X-Hub-Signature-256",
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
    )]);
    assert_vector("github", "It's a Secret to Everybody", &post("/", &signed, "Hello, World!"), 0);
}

const MESSAGE: (&str, &str, &str) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", r#"{"test": 2432232314}"#);

#[test]
fn standard_webhooks_publish_a_vector_with_a_shared_secret() {
    let (id, ts, body) = MESSAGE;
    for (name, list) in [
        ("standard-webhooks", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ("netsuite", "v1a,AAAA v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ] {
        let signed = headers(&[("webhook-id", id), ("webhook-timestamp", ts), ("webhook-signature", list)]);
        assert_vector(
            name,
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            &post("/", &signed, body),
            1_614_265_330_000,
        );
    }
}

#[test]
fn standard_webhooks_publish_a_vector_with_a_key_pair() {
    let (id, ts, body) = MESSAGE;
    let signature =
        "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==";
    let signed = headers(&[("webhook-id", id), ("webhook-timestamp", ts), ("webhook-signature", signature)]);
    let private = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=";
    for key in ["whpk_ZlN4eg7dSSqi0moX9hQUk3orrOouK3QVQSlJa248c/g=", private] {
        assert_vector("standard-webhooks-ed25519", key, &post("/", &signed, body), 1_614_265_330_000);
    }
    let signer = Signer::compile(&preset("standard-webhooks-ed25519").verify, current(private)).unwrap();
    let unsigned = headers(&[("webhook-id", id)]);
    let ours = signer.sign(&post("/", &unsigned, body), 1_614_265_330_000).unwrap().headers;
    assert_eq!(ours["webhook-signature"], signature);
}

const HUBSPOT_SECRET: &str = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy";

#[test]
fn hubspot_publishes_vectors_for_the_versions_1_and_2() {
    let signed = headers(&[
        ("X-HubSpot-Signature", "232db2615f3d666fe21a8ec971ac7b5402d33b9a925784df3ca654d05f4817de"),
        ("X-HubSpot-Signature-Version", "v1"),
    ]);
    let body = r#"[{"eventId":1,"subscriptionId":12345,"portalId":62515,"occurredAt":1564113600000,"subscriptionType":"contact.creation","attemptNumber":0,"objectId":123,"changeSource":"CRM","changeFlag":"NEW","appId":54321}]"#;
    assert_vector("hubspot-v1", HUBSPOT_SECRET, &post("/webhook_uri", &signed, body), 0);
    let two = check("hubspot-v2", current(HUBSPOT_SECRET), &post("/webhook_uri", &signed, body), 0);
    assert!(matches!(two, Err(Refusal::UnexpectedHeader { .. })), "{two:?}");

    let signed = headers(&[
        ("X-HubSpot-Signature", "9569219f8ba981ffa6f6f16aa0f48637d35d728c7e4d93d0d52efaa512af7900"),
        ("X-HubSpot-Signature-Version", "v2"),
    ]);
    let body = r#"{"example_field":"example_value"}"#;
    assert_vector("hubspot-v2", HUBSPOT_SECRET, &post("/webhook_uri", &signed, body), 0);
}

#[test]
fn hubspot_version_3_signs_the_public_address_with_listed_escapes_undone() {
    let now = 1_614_265_330_000;
    let body = r#"{"example_field":"example_value"}"#;
    for (url, signature) in [
        ("/webhook_uri", "tpCufWLOupRpVXpoJy1Cdw0BOVgWjilpkfjxyo2w2OQ="),
        ("/webhook_uri?e=a%40b.c", "D/eSyuQPoTQgwU3EI9QaEQuP2y3EjEeoa52My6NmG40="),
        ("/webhook_uri?e=a@b.c", "D/eSyuQPoTQgwU3EI9QaEQuP2y3EjEeoa52My6NmG40="),
    ] {
        let signed = headers(&[
            ("X-HubSpot-Signature-v3", signature),
            ("X-HubSpot-Request-Timestamp", "1614265330000"),
        ]);
        assert_vector("hubspot-v3", HUBSPOT_SECRET, &post(url, &signed, body), now);
    }
}

#[test]
fn recurly_publishes_this_vector() {
    let body = r#"{"id":"rjxwmwedwqug","object_type":"account","site_id":"qc326l1hl8k9","event_type":"created","event_time":"2022-09-13T21:18:40Z","account_code":"adfas23zzz14123"}"#;
    let secret = "354fab5bd35f5a0d50845ee7e30165244468b13c2c343f104e4e730a59326d9d";
    let signature = "ad24699f3beaa24c9af2cc7ada3ce4c835da0090194241b9d3add83d27f14bc3";
    let other = "00".repeat(32);
    for value in [
        format!("1663103925004,{signature}"),
        format!("1663103925004,{other},{signature}"),
        format!("1663103925004,{signature},{other}"),
    ] {
        let signed = headers(&[("recurly-signature", &value)]);
        assert_vector("recurly", secret, &post("/", &signed, body), 1_663_103_925_004);
    }
}

const OWN: &str = r#"{"id":"evt_1","type":"invoice.paid"}"#;

#[test]
fn stripe_signs_with_both_secrets_while_one_is_rolled() {
    let now = 1_614_265_330_000;
    let new = "v1=1c85623cfb52e27f927d9e4eac778cbe54c3d4f90b17edce4689e027779c4380";
    let old = "v1=c0ff9270dc441d15cf980a24e6c9d5c4ba64bdc302eaf0ba28e0a5eef66c690a";
    let other = "v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39";
    let one = headers(&[("Stripe-Signature", &format!("t=1614265330,{new},{other}"))]);
    assert_vector("stripe", "whsec_test_secret", &post("/", &one, OWN), now);
    let both = headers(&[("Stripe-Signature", &format!("t=1614265330,{new},{old}"))]);
    assert_vector("stripe", "whsec_test_secret", &post("/", &both, OWN), now);
    assert_vector("stripe", "whsec_old_secret", &post("/", &both, OWN), now);
    let secrets = vec![Secret::new("old", "whsec_old_secret"), Secret::new("new", "whsec_test_secret")];
    assert_eq!(check("stripe", secrets, &post("/", &one, OWN), now), Ok("new".into()));
}

#[test]
fn shopify_and_zendesk_match_vectors_of_our_own() {
    for name in ["X-Shopify-Hmac-SHA256", "Shopify-Hmac-Sha256"] {
        let signed = headers(&[(name, "ji0rV7bSSeMQjwdI+rrMi6bvBATyTNAtmtZ47g/np1Q=")]);
        assert_vector("shopify", "shpss_test_secret", &post("/", &signed, OWN), 0);
    }
    let signed = headers(&[
        ("X-Zendesk-Webhook-Signature", "qmpKa3awnTLGalmPhroSQ1R08a6SCHSt0Z4okTlxrdw="),
        ("X-Zendesk-Webhook-Signature-Timestamp", "2021-03-25T05:09:27Z"),
    ]);
    let secret = "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==";
    assert_vector("zendesk", secret, &post("/", &signed, OWN), 1_616_648_967_000);
}

#[test]
fn docusign_may_send_a_header_for_each_of_its_keys() {
    let verify = preset("docusign").verify;
    let none = HeaderMap::new();
    let secrets = ["one", "two", "three"].map(|text| Secret::new(text, text)).to_vec();
    let signed = Signer::compile(&verify, secrets).unwrap().sign(&post("/", &none, OWN), 0).unwrap().headers;
    assert_eq!(signed.len(), 3);
    assert!(signed.contains_key("x-docusign-signature-3"));
    assert_eq!(check("docusign", current("three"), &post("/", &signed, OWN), 0), Ok("current".into()));
    assert_eq!(check("docusign", current("four"), &post("/", &signed, OWN), 0), Err(Refusal::NoMatch));
}

#[test]
fn worldpay_names_the_key_and_no_other_is_tried() {
    let verify = preset("worldpay").verify;
    let none = HeaderMap::new();
    let secrets = vec![Secret::new("1", "first"), Secret::new("2", "second")];
    let signed =
        Signer::compile(&verify, secrets.clone()).unwrap().sign(&post("/", &none, OWN), 0).unwrap().headers;
    assert!(signed["event-signature"].to_str().unwrap().contains(",2/SHA256/"));
    assert_eq!(check("worldpay", vec![secrets[1].clone()], &post("/", &signed, OWN), 0), Ok("2".into()));
    let renamed = vec![Secret::new("3", "second")];
    assert_eq!(check("worldpay", renamed, &post("/", &signed, OWN), 0), Err(Refusal::UnknownKey("1".into())));
    let swapped = vec![Secret::new("1", "second"), Secret::new("2", "first")];
    assert_eq!(check("worldpay", swapped, &post("/", &signed, OWN), 0), Err(Refusal::NoMatch));
}

#[test]
fn basic_credentials_are_compared_whole() {
    for (value, fits) in [
        ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", true),
        ("bAsIc QWxhZGRpbjpvcGVuIHNlc2FtZQ==", true),
        ("Basic QWxhZGRpbjpvcGVuIHNlc2Ft", false),
        ("Basic QWxhZGRpbg==", false),
        ("Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", false),
    ] {
        let signed = headers(&[("Authorization", value)]);
        for name in ["chargebee", "zuora", "basic"] {
            let got = check(name, current("Aladdin:open sesame"), &post("/", &signed, OWN), 0);
            assert_eq!(got.is_ok(), fits, "{name} {value}: {got:?}");
        }
    }
}

#[test]
fn every_preset_is_sound() {
    assert_eq!(presets().len(), 21, "a preset came or went: {:?}", presets().keys());
    for name in presets().into_keys() {
        let preset = preset(&name);
        assert!(preset.docs.starts_with("https://"), "{name}");
        assert_eq!(preset.mistakes(), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn every_preset_identifies_what_its_vendor_sends() {
    let plain = r#"{"id":"evt_1","type":"invoice.paid"}"#;
    let hubspot = r#"[{"eventId":7,"portalId":1,"subscriptionId":2,"occurredAt":1564113600000,"subscriptionType":"deal.change"}]"#;
    let standard = r#"{"type":"order.paid","data":{}}"#;
    let samples = [
        ("standard-webhooks", standard, "d-1", "order.paid", "d-1"),
        ("standard-webhooks-ed25519", standard, "d-1", "order.paid", "d-1"),
        ("netsuite", standard, "d-1", "order.paid", "d-1"),
        ("github", "{}", "d-1", "t-1", "d-1"),
        ("slack", r#"{"event_id":"Ev1","event":{"type":"message"}}"#, "Ev1", "message", "Ev1"),
        ("stripe", plain, "evt_1", "invoice.paid", "evt_1"),
        ("shopify", "{}", "d-1", "t-1", "a.myshopify.com|d-1"),
        ("hubspot-v3", hubspot, "7", "deal.change", "1|2|7|1564113600000"),
        ("hubspot-v1", hubspot, "7", "deal.change", "1|2|7|1564113600000"),
        (
            "hubspot-v2",
            "{}",
            "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "workflow",
            "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        ),
        (
            "recurly",
            r#"{"id":"r1","object_type":"account","event_type":"created"}"#,
            "r1",
            "created",
            "account|created|r1",
        ),
        (
            "zendesk",
            r#"{"id":"z1","type":"zen:event-type:user.created"}"#,
            "z1",
            "zen:event-type:user.created",
            "z1",
        ),
        (
            "docusign",
            r#"{"event":"envelope-completed","retryCount":0,"generatedDateTime":"2022-09-13T21:18:40Z","data":{"envelopeId":"e1"}}"#,
            "e1|envelope-completed|2022-09-13T21:18:40Z",
            "envelope-completed",
            "e1|envelope-completed|2022-09-13T21:18:40Z",
        ),
        (
            "zuora",
            r#"{"objectId":"o1","event":"InvoicePosted"}"#,
            "d-1",
            "InvoicePosted",
            "d-1|o1|InvoicePosted",
        ),
        (
            "chargebee",
            r#"{"id":"ev_1","event_type":"invoice_generated"}"#,
            "ev_1",
            "invoice_generated",
            "ev_1",
        ),
        ("worldpay", r#"{"eventId":"w1","eventDetails":{"type":"authorized"}}"#, "w1", "authorized", "w1"),
        (
            "sap-event-mesh",
            r#"{"specversion":"1.0","id":"s1","source":"/S4/1","type":"sap.s4.beh.businesspartner.v1.BusinessPartner.Changed.v1"}"#,
            "s1",
            "sap.s4.beh.businesspartner.v1.BusinessPartner.Changed.v1",
            "/S4/1|s1",
        ),
        ("salesforce-bearer", plain, "evt_1", "invoice.paid", "evt_1"),
        ("bearer", plain, "evt_1", "invoice.paid", "evt_1"),
        ("basic", plain, "evt_1", "invoice.paid", "evt_1"),
        ("header-token", plain, "evt_1", "invoice.paid", "evt_1"),
    ];
    let names: Vec<&str> = samples.iter().map(|sample| sample.0).collect();
    assert!(presets().keys().all(|name| names.contains(&name.as_str())), "a preset has no sample");
    for (name, body, id, kind, dedupe) in samples {
        let identify = preset(name).identify;
        let mut headers = identity_headers(&identify, "d-1", "t-1").unwrap();
        headers.insert("x-shopify-shop-domain", HeaderValue::from_static("a.myshopify.com"));
        let messages = Identifier::compile(&identify).unwrap().messages(&headers, body.as_bytes()).unwrap();
        let identity = messages[0].identity.clone().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(identity.id, id, "{name}");
        assert_eq!(identity.event_type.as_deref(), Some(kind), "{name}");
        assert_eq!(identity.dedupe, dedupe, "{name}");
    }
}

/// A secret as this preset's vendor hands it out.
fn secret_for(preset: &Preset) -> &'static str {
    match (preset.verify.scheme, preset.verify.strip_prefix.as_deref()) {
        (Scheme::Ed25519, _) => "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=",
        (_, Some("whsec_")) => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        _ => "user:a secret of some length",
    }
}

/// The request with one bit of one header turned; `None` when it cannot be a header then.
fn turned(headers: &HeaderMap, name: &HeaderName, at: usize, bit: u8) -> Option<HeaderMap> {
    let mut bytes = headers[name].as_bytes().to_vec();
    let at = at % bytes.len();
    bytes[at] ^= bit;
    let mut turned = headers.clone();
    turned.insert(name, HeaderValue::from_bytes(&bytes).ok()?);
    Some(turned)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// For every preset: what its sender signs verifies; with one bit of body, signature, timestamp or token turned it does not.
    #[test]
    fn what_is_signed_verifies_and_what_is_touched_does_not(
        body in prop::collection::vec(any::<u8>(), 1..200),
        now in 1_000_000_000_000_i64..9_999_999_999_999,
        query in "[a-z%40?=&/]{0,12}",
        at in any::<prop::sample::Index>(),
        // Not 32: that turns the case of a letter, which in hex means the same.
        bit in prop::sample::select(vec![1_u8, 2, 4]),
    ) {
        for (name, mut preset) in presets() {
            preset.verify.url.public_base = Some(BASE.to_owned());
            let secret = current(secret_for(&preset));
            let signer = Signer::compile(&preset.verify, secret.clone()).unwrap();
            let verifier = Verifier::compile(&preset.verify, secret).unwrap();
            let url = format!("/hooks/{name}?{query}");
            let mut headers = identity_headers(&preset.identify, "msg_1", "t").unwrap();
            let unsigned = Request { method: "POST", url: &url, host: "", headers: &headers, body: &body };
            let signed = signer.sign(&unsigned, now).unwrap().headers;
            headers.extend(signed.clone());
            let request = Request { method: "POST", url: &url, host: "", headers: &headers, body: &body };
            prop_assert!(verifier.verify(&request, now).is_ok(), "{}: {:?}", name, verifier.explain(&request, now));
            let all_ok = verifier.explain(&request, now).iter().all(|step| step.ok);
            prop_assert!(all_ok);

            if preset.verify.signed.is_some() {
                let mut touched = body.clone();
                touched[at.index(body.len())] ^= bit;
                let request = Request { body: &touched, ..request };
                prop_assert_eq!(verifier.verify(&request, now), Err(Refusal::NoMatch), "{}: body", name);
            }
            for header in signed.keys() {
                let at = at.index(1000);
                let Some(touched) = turned(&headers, header, at, bit) else { continue };
                let request = Request { headers: &touched, ..request };
                prop_assert!(verifier.verify(&request, now).is_err(), "{}: {} {:?}", name, header, touched);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever stands in the headers that decide: refused with a step's name, and no panic.
    #[test]
    fn garbage_is_refused(
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..3),
        nearly in "(v1,|v1a,|sha256=|v0=|t=|1/SHA256/|Basic |Bearer )?[0-9]{0,14}[,./ =]?[0-9a-fA-F+/=,]{0,90}",
        body in prop::collection::vec(any::<u8>(), 0..100),
        url in "[/?&=%a-f0-9:]{0,20}",
        now in any::<i64>(),
    ) {
        for (name, preset) in presets() {
            let mut verify = preset.verify.clone();
            verify.url.public_base = Some(BASE.to_owned());
            let verifier = Verifier::compile(&verify, current(secret_for(&preset))).unwrap();
            let mut headers = HeaderMap::new();
            for field in verify.signature.headers.iter().map(|header| header.replace('*', "1")).chain(
                ["authorization", "webhook-id"].map(str::to_owned),
            ).chain(verify.timestamp.iter().filter_map(|rule| rule.from.strip_prefix("header:").map(str::to_owned))) {
                for value in values.iter().map(Vec::as_slice).chain([nearly.as_bytes()]).take(values.len()) {
                    let Ok(value) = HeaderValue::from_bytes(value) else { continue };
                    headers.append(field.parse::<HeaderName>().unwrap(), value);
                }
                headers.entry(field.parse::<HeaderName>().unwrap()).or_insert(nearly.parse().unwrap());
            }
            for (field, value) in &verify.expect {
                headers.insert(field.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            let request = Request { method: "POST", url: &url, host: "", headers: &headers, body: &body };
            prop_assert!(verifier.verify(&request, now).is_err(), "{}", name);
            prop_assert!(verifier.explain(&request, now).iter().any(|step| !step.ok), "{}", name);
            let _messages = Identifier::compile(&preset.identify).unwrap().messages(&headers, &body);
        }
    }
}

/// Every single byte, not a sample of them.
#[test]
fn no_byte_of_a_signature_or_timestamp_may_be_turned() {
    for (name, mut preset) in presets() {
        preset.verify.url.public_base = Some(BASE.to_owned());
        let secret = current(secret_for(&preset));
        let now = 1_614_265_330_000;
        let mut headers = identity_headers(&preset.identify, "msg_1", "t").unwrap();
        let signer = Signer::compile(&preset.verify, secret.clone()).unwrap();
        let signed = signer.sign(&post("/", &headers, OWN), now).unwrap().headers;
        headers.extend(signed.clone());
        let verifier = Verifier::compile(&preset.verify, secret).unwrap();
        assert!(verifier.verify(&post("/", &headers, OWN), now).is_ok(), "{name}");
        for header in signed.keys() {
            for at in 0..headers[header].len() {
                for bit in [1, 2, 4] {
                    let Some(touched) = turned(&headers, header, at, bit) else { continue };
                    let got = verifier.verify(&post("/", &touched, OWN), now);
                    assert!(got.is_err(), "{name}: {:?}", touched[header]);
                }
            }
        }
    }
}
