//! Asks a node over HTTP, and says in plain words what it answers.

use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Failure;
use crate::secret::SecretRef;

/// Time for one request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Which node, and who asks.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct To {
    /// The node's address.
    #[arg(
        long,
        value_name = "URL",
        env = "SYNCLINE_NODE",
        default_value = "http://127.0.0.1:7171",
        global = true
    )]
    node: String,
    /// The bearer token, by reference: `env:NAME` or `file:/path`. Without it, the token in `SYNCLINE_TOKEN` if there is one.
    #[arg(long, value_name = "REF", env = "SYNCLINE_TOKEN_REF", global = true)]
    token: Option<SecretRef>,
}

/// A node to ask.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<SecretRef>,
}

/// A client that follows nothing and takes no proxy from the environment.
pub(super) fn http() -> Result<reqwest::Client, Failure> {
    // A second installation answers with the first provider, which is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().timeout(TIMEOUT);
    client.build().map_err(|error| Failure::Broken(format!("cannot set up HTTP: {error}")))
}

/// The token that the environment has for whoever uses this program.
fn own_token() -> Option<SecretRef> {
    let name = "SYNCLINE_TOKEN";
    std::env::var_os(name).filter(|token| !token.is_empty()).map(|_token| SecretRef::Env(name.to_owned()))
}

impl Client {
    pub(super) fn new(to: &To) -> Result<Self, Failure> {
        let base = Url::parse(&to.node)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && !url.cannot_be_a_base())
            .ok_or_else(|| {
                Failure::Input(format!("`{}` is no address: write --node http://127.0.0.1:7171", to.node))
            })?;
        let token = to.token.clone().or_else(own_token);
        Ok(Self { http: http()?, base, token })
    }

    /// `path` are the parts of the URL's path; each is escaped.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, Failure> {
        self.ask::<(), T>(Method::GET, path, query, None).await
    }

    pub(super) async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &B,
    ) -> Result<T, Failure> {
        self.ask(Method::POST, path, &[], Some(body)).await
    }

    /// Brings bytes, again and again for `patience` while the node is away or has no room. Only for what may be brought twice.
    pub(super) async fn bring<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        body: Vec<u8>,
        patience: Duration,
    ) -> Result<T, Failure> {
        let body = bytes::Bytes::from(body);
        let (mut pause, mut waited) = (Duration::from_millis(100), Duration::ZERO);
        loop {
            let request = self.request(Method::POST, path, query)?.body(body.clone());
            let failure = match self.exchange(request).await {
                Ok((status, bytes)) if status.is_success() => return self.read(&bytes),
                Ok((status, bytes)) if !matches!(status.as_u16(), 429 | 502 | 503 | 504) => {
                    return Err(refused(status, &bytes));
                }
                Ok((status, bytes)) => refused(status, &bytes),
                Err(failure) => failure,
            };
            if waited >= patience {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    async fn ask<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&B>,
    ) -> Result<T, Failure> {
        let mut request = self.request(method, path, query)?;
        if let Some(body) = body {
            request = request.json(body);
        }
        let (status, bytes) = self.exchange(request).await?;
        if status.is_success() { self.read(&bytes) } else { Err(refused(status, &bytes)) }
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<reqwest::RequestBuilder, Failure> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Failure::Input(format!("`{}` is no address", self.base)))?
            .pop_if_empty()
            .extend(path);
        let mut request = self.http.request(method, url).query(query);
        if let Some(token) = &self.token {
            let token = token.resolve().map_err(|error| Failure::Input(error.to_string()))?;
            request = request.bearer_auth(token.expose_secret());
        }
        Ok(request)
    }

    async fn exchange(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<(StatusCode, bytes::Bytes), Failure> {
        let response = request.send().await.map_err(|error| unreachable(self.base.as_str(), &error))?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(|error| unreachable(self.base.as_str(), &error))?;
        Ok((status, bytes))
    }

    fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(bytes).map_err(|error| {
            Failure::Refused(format!("{} answers what this program does not understand: {error}", self.base))
        })
    }

    /// Sends a command under a key of its own.
    pub(super) async fn command(
        &self,
        entity: &str,
        command: &str,
        data: serde_json::Value,
    ) -> Result<crate::api::Outcome, Failure> {
        let key = format!("cli-{:016x}", crate::clock::seed());
        let body = serde_json::json!({"entity": entity, "command": command, "data": data});
        let request = self.request(Method::POST, &["v1", "commands"], &[])?;
        let (status, bytes) = self.exchange(request.header("Idempotency-Key", key).json(&body)).await?;
        if status.is_success() { self.read(&bytes) } else { Err(refused(status, &bytes)) }
    }
}

/// Why there is no answer from `at`, and what to do.
pub(super) fn unreachable(at: &str, error: &reqwest::Error) -> Failure {
    if error.is_timeout() {
        return Failure::Refused(format!("{at} did not answer in {} seconds", TIMEOUT.as_secs()));
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if error.is_connect() {
        let fix = "start a node (`syncline run`), or name another with --node";
        return Failure::Refused(format!("nothing answers at {at} ({cause}); {fix}"));
    }
    Failure::Refused(format!("{at}: {cause}"))
}

/// A problem (RFC 9457) as a sentence.
fn refused(status: StatusCode, body: &[u8]) -> Failure {
    let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| problem.get(key).and_then(serde_json::Value::as_str);
    let said = match (text("title"), text("detail")) {
        (Some(title), Some(detail)) => format!("{title}: {detail}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => format!("the node answers {status}"),
    };
    match status.as_u16() {
        401 => Failure::Refused(format!("{said}; name a token with --token env:NAME")),
        400 | 422 => Failure::Input(said),
        404 | 409 => Failure::Failed(said),
        _ => Failure::Refused(said),
    }
}
