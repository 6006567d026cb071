//! What does verifying one webhook cost, and which part of ingress is that? An HMAC-SHA256 over 500 bytes must be a few
//! microseconds on one core: far below an fsync or a JSON parse, so that no cache or thread pool is worth its complexity.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::HeaderMap;
use syncline::ingress::sign::Signer;
use syncline::ingress::verify::{
    Encoding, Parse, Request, Scheme, Secret, Signature, TimestampRule, Unit, Verifier, Verify,
};

const NOW: i64 = 1_614_265_330_000;

/// Standard Webhooks.
fn description() -> Verify {
    Verify {
        signature: Signature {
            headers: vec!["webhook-signature".into()],
            query: None,
            parse: Parse::VersionedList { item_sep: " ".into(), prefix: "v1,".into() },
            encoding: Encoding::Base64,
        },
        timestamp: Some(TimestampRule {
            from: "header:webhook-timestamp".into(),
            unit: Unit::S,
            tolerance: std::time::Duration::from_mins(5),
        }),
        ..Verify::new(Scheme::Hmac, Some("{header:webhook-id}.{ts}.{body}"))
    }
}

fn verify(c: &mut Criterion) {
    let secrets = || {
        vec![Secret::new("current", "a secret of thirty-two bytes, ok"), Secret::new("old", "an older one")]
    };
    let body = vec![b'x'; 500];
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".parse().expect("visible ASCII"));
    let unsigned = headers.clone();
    let request = |headers: &'static HeaderMap, body: &'static [u8]| Request {
        method: "POST",
        url: "/hooks/crm",
        host: "",
        headers,
        body,
    };
    let body: &'static [u8] = body.leak();
    let unsigned: &'static HeaderMap = Box::leak(Box::new(unsigned));
    let one = || secrets().into_iter().take(1).collect();
    let signer = Signer::compile(&description(), one()).expect("the description is right");
    let signed = signer.sign(&request(unsigned, body), NOW).expect("it can be signed");
    headers.extend(signed.headers);
    let headers: &'static HeaderMap = Box::leak(Box::new(headers));
    let mut group = c.benchmark_group("verify");
    group.throughput(Throughput::Elements(1));
    for (name, secrets) in
        [("hmac-sha256 500 B, 1 secret", one()), ("hmac-sha256 500 B, 2 secrets", secrets())]
    {
        let verifier = Verifier::compile(&description(), secrets).expect("the description is right");
        group.bench_function(name, |b| {
            b.iter(|| verifier.verify(&request(headers, body), NOW).expect("it is authentic"));
        });
    }
    group.finish();
}

criterion_group!(benches, verify);
criterion_main!(benches);
