//! A message as a signed HTTP request: Standard Webhooks 1.0.0, as `config/sources/presets/standard-webhooks.yaml` has it.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use secrecy::{ExposeSecret as _, SecretString};

use crate::ingress::sign::{self, Signer};
use crate::ingress::verify::{
    self, Encoding, Parse, Scheme, Secret, SecretEncoding, Signature, TimestampRule, Unit, Verify,
};

use super::Error;
use super::traffic::Message;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a request is sent to: an address and a path.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Host and port, to connect to and for the `host` header.
    pub authority: String,
    /// Path and query.
    pub path: Uri,
}

/// Makes requests of messages.
#[derive(Debug)]
pub(super) struct Webhook {
    signer: Signer,
    target: Target,
    host: HeaderValue,
    run_id: String,
}

impl Target {
    /// Reads `http://host:port/path`.
    ///
    /// # Errors
    /// It is not that. TLS is not spoken: its cost would be measured too, on both sides.
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let wrong = || Error::Url(url.to_owned());
        let parts = url.parse::<Uri>().ok().ok_or_else(wrong)?.into_parts();
        let authority = parts.authority.ok_or_else(wrong)?;
        if parts.scheme.is_none_or(|scheme| scheme.as_str() != "http") || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let path = parts.path_and_query.map_or_else(Uri::default, Uri::from);
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self { authority: format!("{}:{port}", authority.host()), path })
    }
}

impl Webhook {
    /// For one run against one target. `run_id` begins the id of every message.
    pub(super) fn new(target: Target, secret: &SecretString, run_id: String) -> Result<Self, Error> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if run_id.is_empty() || run_id.len() > 64 || !run_id.chars().all(fits) {
            return Err(Error::RunId(run_id));
        }
        let secrets = vec![Secret::new("load", secret.expose_secret())];
        let signer = Signer::compile(&standard_webhooks(), secrets)
            .map_err(|mistakes| Error::Secret(mistakes.join("; ")))?;
        let host = HeaderValue::from_str(&target.authority)
            .ok()
            .ok_or_else(|| Error::Url(target.authority.clone()))?;
        Ok(Self { signer, target, host, run_id })
    }

    /// The id of a message.
    pub(super) fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.run_id)
    }

    /// The request that carries a message, signed at `now_ms` (milliseconds since the Unix epoch).
    pub(super) fn request(
        &self,
        message: &Message,
        now_ms: i64,
    ) -> Result<Request<Full<Bytes>>, sign::Error> {
        let mut headers = HeaderMap::with_capacity(6);
        let id = self.id(message.number).try_into().expect("a run's id and digits fit into a header");
        headers.insert(ID, id);
        let unsigned = verify::Request {
            method: Method::POST.as_str(),
            url: "",
            host: "",
            headers: &headers,
            body: &message.body,
        };
        let signed = self.signer.sign(&unsigned, now_ms)?;
        headers.extend(signed.headers);
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, JSON);
        let mut request = Request::new(Full::new(message.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.path.clone();
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// The preset, spelled out: the generator needs no directory of configuration.
fn standard_webhooks() -> Verify {
    Verify {
        secret_encoding: SecretEncoding::Base64,
        strip_prefix: Some("whsec_".into()),
        signature: Signature {
            headers: vec!["webhook-signature".into()],
            query: None,
            parse: Parse::VersionedList { item_sep: " ".into(), prefix: "v1,".into() },
            encoding: Encoding::Base64,
        },
        timestamp: Some(TimestampRule {
            from: "header:webhook-timestamp".into(),
            unit: Unit::S,
            tolerance: Duration::from_mins(5),
        }),
        ..Verify::new(Scheme::Hmac, Some("{header:webhook-id}.{ts}.{body}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::preset::Presets;
    use crate::ingress::verify::Verifier;
    use crate::load::traffic::{Distribution, Traffic};

    const NOW: i64 = 1_614_265_330_000;

    fn webhook(url: &str) -> Result<Webhook, Error> {
        let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        Webhook::new(Target::parse(url)?, &secret, "run-1".into())
    }

    #[test]
    fn the_description_is_that_of_the_preset() {
        let presets = Presets::builtin();
        let preset = presets.get("standard-webhooks").expect("it is part of the program");
        assert_eq!(standard_webhooks(), preset.verify);
    }

    #[test]
    fn a_request_is_verified_by_its_receiver() {
        let traffic = Traffic::new(1, 10, Distribution::Uniform, 0.0).expect("in range");
        let message = traffic.at(3);
        let request = webhook("http://127.0.0.1:7171/hooks/load")
            .expect("the target is right")
            .request(&message, NOW)
            .expect("it can be signed");
        assert_eq!(request.headers()["webhook-id"], "run-1-3");
        assert_eq!(request.headers()["host"], "127.0.0.1:7171");
        assert_eq!(request.uri(), "/hooks/load");
        let secrets = vec![Secret::new("current", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
        let verifier = Verifier::compile(&standard_webhooks(), secrets).expect("the description is right");
        let received = verify::Request {
            method: "POST",
            url: "/hooks/load",
            host: "127.0.0.1:7171",
            headers: request.headers(),
            body: &message.body,
        };
        verifier.verify(&received, NOW).expect("it is authentic");
    }

    #[test]
    fn what_cannot_be_sent_to_is_refused_with_the_fix() {
        for wrong in
            ["", "127.0.0.1:7171", "https://example.com/hooks/load", "http://", "/hooks/load", "http://u@h/"]
        {
            let told = webhook(wrong).expect_err(wrong).to_string();
            assert!(told.contains("http://127.0.0.1:7171/hooks/load"), "{told}");
        }
        assert_eq!(Target::parse("http://localhost").expect("a target").authority, "localhost:80");
    }

    #[test]
    fn a_run_id_that_would_spoil_a_signature_is_refused() {
        let target = || Target::parse("http://localhost/").expect("a target");
        let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        for wrong in ["", "a.b", "a b", "ü"] {
            assert!(matches!(Webhook::new(target(), &secret, wrong.into()), Err(Error::RunId(_))), "{wrong}");
        }
        assert!(matches!(
            Webhook::new(target(), &"whsec_!".to_owned().into(), "a".into()),
            Err(Error::Secret(_))
        ));
    }
}
