//! From a contract to what calls need: settings looked up, addresses checked, secrets at hand.

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use super::auth::{ClientCredentials, Scheme, sensitive};
use super::contract::{Auth, Connector, Setting};
use super::wire::{Reach, is_local_name, reach};

/// What the settings of a connector refer to.
#[derive(Debug)]
pub(super) struct Resolved {
    /// The base URL, without a slash at its end.
    pub(super) base: String,
    pub(super) scheme: Scheme,
}

impl Resolved {
    /// Of what is not called over the network.
    pub(super) fn nowhere() -> Self {
        Self { base: String::new(), scheme: Scheme::None }
    }
}

/// The value of a reference: `env:NAME` from the environment, `file:/path` from a file, without white space at its end. `None` when
/// there is none, or nothing in it.
pub fn surroundings(reference: &str) -> Option<String> {
    let text = match reference.split_once(':')? {
        ("env", name) => std::env::var(name).ok()?,
        ("file", path) => std::fs::read_to_string(path).ok()?,
        _ => return None,
    };
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Looks up every setting of `connector` and checks its addresses. Reports every problem, never a secret.
pub(super) fn resolve(
    connector: &Connector,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Resolved, Vec<String>> {
    let mut finding = Finding { connector, lookup, problems: Vec::new() };
    let base = finding.base();
    let scheme = finding.scheme(base.as_ref());
    match (base, scheme, finding.problems.is_empty()) {
        (Some(base), Some(scheme), true) => {
            Ok(Resolved { base: base.as_str().trim_end_matches('/').to_owned(), scheme })
        }
        _ => Err(finding.problems),
    }
}

struct Finding<'a> {
    connector: &'a Connector,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

impl Finding<'_> {
    fn problem(&mut self, text: &str) {
        self.problems.push(format!("connector {}: {text}", self.connector.name));
    }

    fn value(&mut self, what: &str, setting: &Setting) -> Option<SecretString> {
        let (reference, default) = match setting {
            Setting::Plain(text) => return Some(text.clone().into()),
            Setting::Ref { reference, default } => (reference, default),
        };
        let found = (self.lookup)(reference).or_else(|| default.clone());
        if found.is_none() {
            self.problem(&format!("{what} refers to {reference}, where there is nothing: set it"));
        }
        found.map(Into::into)
    }

    fn base(&mut self) -> Option<Url> {
        let text = self.value("base_url", &self.connector.base_url)?;
        self.address("base_url", text.expose_secret())
    }

    /// A URL that may be called: HTTPS, or HTTP on this machine; nothing private unless the contract says so.
    fn address(&mut self, what: &str, text: &str) -> Option<Url> {
        match check_address(text, self.connector.insecure, self.connector.allow_private) {
            Ok(url) => Some(url),
            Err(why) => {
                self.problem(&format!("{what} {why}"));
                None
            }
        }
    }

    fn scheme(&mut self, base: Option<&Url>) -> Option<Scheme> {
        match &self.connector.auth {
            Auth::None => Some(Scheme::None),
            Auth::Basic { username, password } => {
                let username = self.value("auth.username", username);
                let password = self.value("auth.password", password);
                Some(Scheme::basic(&username?, &password?))
            }
            Auth::ApiKey { header, value } => {
                let value = self.value("auth.value", value)?;
                let value = self.header("auth.value", value.expose_secret())?;
                Some(Scheme::Fixed(header.clone(), value))
            }
            Auth::Bearer { token } => {
                let token = self.value("auth.token", token)?;
                let value = self.header("auth.token", &format!("Bearer {}", token.expose_secret()))?;
                Some(Scheme::Fixed(http::header::AUTHORIZATION, value))
            }
            Auth::ClientCredentials { token_url, client_id, client_secret, scope, style } => {
                let client_id = self.value("auth.client_id", client_id);
                let client_secret = self.value("auth.client_secret", client_secret);
                let token_url = if token_url.starts_with('/') {
                    format!("{}{token_url}", base?.as_str().trim_end_matches('/'))
                } else {
                    self.address("auth.token_url", token_url)?.into()
                };
                Some(Scheme::ClientCredentials(ClientCredentials {
                    token_url,
                    client_id: client_id?,
                    client_secret: client_secret?,
                    scope: scope.clone(),
                    style: *style,
                }))
            }
        }
    }

    fn header(&mut self, what: &str, text: &str) -> Option<http::HeaderValue> {
        let value = sensitive(text);
        if value.is_none() {
            self.problem(&format!(
                "{what} has a character that headers may not have: look for a line break in it"
            ));
        }
        value
    }
}

/// Reads a URL and checks whether it may be called. The error is the rest of a sentence.
pub(super) fn check_address(text: &str, insecure: bool, allow_private: bool) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    let shown = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password: put them under `auth`".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("`{shown}` has a query or fragment: put them into operations"));
    }
    let host = url.host_str().unwrap_or_default();
    let reach = host.trim_matches(['[', ']']).parse().ok().map(reach);
    if reach == Some(Reach::Private) && !allow_private {
        return Err(format!("`{shown}` is a private address: set `allow_private: true` if it is yours"));
    }
    let here = reach == Some(Reach::Loopback) || is_local_name(host);
    match url.scheme() {
        "https" => Ok(url),
        "http" if here || insecure => Ok(url),
        "http" => Err(format!(
            "`{shown}` is plain HTTP: use https, or set `insecure: true` knowing that others can read it"
        )),
        _ => Err(format!("`{shown}` is neither https nor http")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_this_machine_and_nothing_private_unless_said() {
        let may = |text| check_address(text, false, false).is_ok();
        assert!(
            may("https://erp.example/api/") && may("http://127.0.0.1:7700/erp") && may("http://[::1]:80")
        );
        assert!(may("http://localhost:1"));
        for refused in [
            "http://erp.example",
            "https://10.0.0.8/api",
            "https://169.254.169.254/latest",
            "https://[::ffff:169.254.169.254]/",
            "https://2852039166/",
            "https://0x7f.1.evil.example@10.0.0.1/",
            "ftp://erp.example",
            "https://user:pw@erp.example",
            "https://erp.example?key=1",
            "erp.example",
        ] {
            assert!(!may(refused), "{refused}");
        }
        assert!(check_address("http://10.0.0.8", true, true).is_ok());
        assert!(check_address("http://10.0.0.8", false, true).is_err(), "private is not yet insecure");
    }
}
