//! One HTTP call to another system, and how it can go wrong: surely not applied, or uncertain.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method};

/// How long a connection may take to come up. Past it the call was surely not applied.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an unused connection is kept.
const POOL_IDLE: Duration = Duration::from_mins(1);

/// A call to make.
#[derive(Clone)]
pub struct Request {
    /// The connector it belongs to.
    pub connector: Arc<str>,
    /// The operation, or `token` or `<operation> probe`.
    pub operation: Arc<str>,
    /// Method.
    pub method: Method,
    /// The whole URL, with its query.
    pub url: String,
    /// Headers; those that carry secrets are marked sensitive.
    pub headers: HeaderMap,
    /// Body; empty for none.
    pub body: Bytes,
    /// Time for the whole call, answer included.
    pub timeout: Duration,
    /// Bytes of the answer's body that are read; the rest is cut.
    pub response_max: usize,
    /// Whether names may resolve to private addresses.
    pub allow_private: bool,
}

/// Without the body, and with the query cut off: both may hold what logs must not.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.split('?').next().unwrap_or_default();
        f.debug_struct("Request")
            .field("connector", &self.connector)
            .field("operation", &self.operation)
            .field("method", &self.method)
            .field("url", &url)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// What the system answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, at most `response_max` bytes of it.
    pub body: Bytes,
    /// Whether the body was longer than that.
    pub cut: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The call certainly had no effect: the connection never came up. Safe to try again.
    #[error("not sent: {0}")]
    Unsent(String),
    /// The call may have had its effect: it timed out, or the connection was cut. Ask before trying again.
    #[error("no answer: {0}")]
    Lost(String),
}

/// Makes calls. The simulation puts simulated systems behind it.
#[async_trait]
pub trait Wire: fmt::Debug + Send + Sync + 'static {
    /// Makes one call. Never follows a redirect, never tries twice.
    async fn send(&self, request: Request) -> Result<Response, WireError>;
}

/// Why no client could be made. Nothing was started; the text says what to look at.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up outgoing HTTPS: {0}; look at this machine's root certificates")]
pub struct WireSetup(String);

/// Real HTTP/1.1 and HTTP/2 over rustls, with pooled connections. Takes no proxy from the environment, follows no redirect and
/// unpacks no compression. Names that resolve to private addresses are refused unless the request allows them, so that a name
/// server cannot turn a connector against the inner network; the address that was checked is the one connected to.
#[derive(Clone)]
pub struct HttpWire {
    guarded: reqwest::Client,
    private: reqwest::Client,
}

impl fmt::Debug for HttpWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpWire").finish_non_exhaustive()
    }
}

impl HttpWire {
    /// Sets up the clients; no connection is made yet.
    pub fn new() -> Result<Self, WireSetup> {
        // A second installation answers with the first provider, which is the same one: only this crate installs any.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = |resolver: Resolver| {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .no_proxy()
                .referer(false)
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(POOL_IDLE)
                .user_agent(concat!("syncline/", env!("CARGO_PKG_VERSION")))
                .dns_resolver(Arc::new(resolver))
                .build()
                .map_err(|error| WireSetup(chain(&error)))
        };
        Ok(Self {
            guarded: client(Resolver { allow_private: false })?,
            private: client(Resolver { allow_private: true })?,
        })
    }
}

#[async_trait]
impl Wire for HttpWire {
    async fn send(&self, request: Request) -> Result<Response, WireError> {
        let client = if request.allow_private { &self.private } else { &self.guarded };
        let call = client
            .request(request.method, &request.url)
            .headers(request.headers)
            .timeout(request.timeout)
            .body(request.body);
        let mut answer = call.send().await.map_err(|error| why(&error))?;
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let mut body = Vec::new();
        let mut cut = false;
        while let Some(chunk) = answer.chunk().await.map_err(|error| why(&error))? {
            let room = request.response_max - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                cut = true;
                break;
            }
        }
        Ok(Response { status, headers, body: body.into(), cut })
    }
}

fn why(error: &reqwest::Error) -> WireError {
    // The URL may hold what logs must not: only the causes are told.
    let text = chain(error);
    if error.is_connect() || error.is_builder() {
        return WireError::Unsent(text);
    }
    if error.is_timeout() {
        return WireError::Lost("timed out".to_owned());
    }
    WireError::Lost(text)
}

/// The causes of an error, outermost left out because it holds the URL.
fn chain(error: &reqwest::Error) -> String {
    let mut parts = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if parts.last() != Some(&text) {
            parts.push(text);
        }
        cause = error.source();
    }
    if parts.is_empty() { "the request could not be made".to_owned() } else { parts.join(": ") }
}

struct Resolver {
    allow_private: bool,
}

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let local = is_local_name(&name);
            let may = |at: &SocketAddr| {
                allow_private
                    || match reach(at.ip()) {
                        Reach::Public => true,
                        Reach::Loopback => local,
                        Reach::Private => false,
                    }
            };
            if let Some(refused) = found.iter().find(|at| !may(at)) {
                let text = format!(
                    "{name} is at {}, which is private; set `allow_private: true` on the connector if it is yours",
                    refused.ip()
                );
                return Err(text.into());
            }
            Ok(Box::new(found.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

/// Whether a host name means this machine by definition (RFC 6761).
pub(super) fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}

/// How far away an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Public,
    Loopback,
    /// Private, link-local, shared, unspecified, multicast, broadcast or reserved.
    Private,
}

/// How far away `ip` is; addresses that embed an IPv4 address count as that one.
pub(super) fn reach(ip: IpAddr) -> Reach {
    match ip {
        IpAddr::V4(v4) => reach_v4(v4),
        IpAddr::V6(v6) => reach_v6(v6),
    }
}

fn reach_v4(ip: Ipv4Addr) -> Reach {
    let [a, b, c, _] = ip.octets();
    if ip.is_loopback() {
        return Reach::Loopback;
    }
    let shared = a == 100 && (64..128).contains(&b);
    let reserved = a == 0 || a >= 240 || (a == 198 && (18..20).contains(&b)) || (a, b, c) == (192, 0, 0);
    let private = ip.is_private() || ip.is_link_local() || ip.is_multicast() || ip.is_documentation();
    if private || shared || reserved { Reach::Private } else { Reach::Public }
}

/// The IPv4 address in two segments.
fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low))
}

fn reach_v6(ip: Ipv6Addr) -> Reach {
    if ip.is_loopback() {
        return Reach::Loopback;
    }
    if let Some(v4) = ip.to_ipv4_mapped() {
        return reach_v4(v4);
    }
    let part = ip.segments();
    // NAT64 (64:ff9b::/96) and 6to4 (2002::/16) carry an IPv4 address.
    if (part[0], part[1]) == (0x64, 0xff9b) {
        return reach_v4(embedded(part[6], part[7]));
    }
    if part[0] == 0x2002 {
        return reach_v4(embedded(part[1], part[2]));
    }
    let global = (part[0] & 0xe000) == 0x2000 && (part[0], part[1]) != (0x2001, 0x0db8);
    if global { Reach::Public } else { Reach::Private }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_addresses_are_told_from_public_ones_in_every_writing() {
        let of = |text: &str| reach(text.parse().expect("an address"));
        for inner in [
            "10.1.2.3",
            "192.168.0.1",
            "172.16.9.9",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::ffff:10.0.0.1",
            "fe80::1",
            "fd00::1",
            "::",
            "64:ff9b::a9fe:a9fe",
            "2002:a00:1::1",
            "ff02::1",
        ] {
            assert_eq!(of(inner), Reach::Private, "{inner}");
        }
        for loopback in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(of(loopback), Reach::Loopback, "{loopback}");
        }
        for public in ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808"] {
            assert_eq!(of(public), Reach::Public, "{public}");
        }
    }

    #[test]
    fn a_request_in_a_log_shows_neither_body_nor_query_nor_headers() {
        let request = Request {
            connector: "erp".into(),
            operation: "create".into(),
            method: Method::POST,
            url: "https://erp.example/orders?token=canary".to_owned(),
            headers: [(http::header::AUTHORIZATION, "canary".parse().expect("a value"))]
                .into_iter()
                .collect(),
            body: Bytes::from_static(b"canary"),
            timeout: Duration::from_secs(1),
            response_max: 1,
            allow_private: false,
        };
        assert!(!format!("{request:?}").contains("canary"));
    }
}
