//! Secrets by reference: settings, sources and connectors say where a secret is, never what it is.
//!
//! `env:NAME` is an environment variable, `file:/path` a file (as mounted by an orchestrator). A secret is read when it is
//! needed, so that a rotated file takes effect without a restart.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A secret file longer than this, in bytes, is refused: it is not a secret.
const LENGTH_MAX: u64 = 64 * 1024;

/// Where a secret is, e.g. `env:SYNCLINE_CRM_SECRET` or `file:/run/secrets/crm`. It may be shown; what it names may not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretRef {
    /// An environment variable, by name.
    Env(String),
    /// A file, by path; one line break at its end is not part of the secret.
    File(PathBuf),
}

/// Why there is no secret. No variant holds any part of one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not a reference; it is not shown, as it may be the secret itself.
    #[error(
        "it must be a reference, not the secret itself: write `env:NAME` for an environment variable, or `file:/path` for a file"
    )]
    NotAReference,
    /// The variable is not set.
    #[error("`env:{0}`: the environment variable is not set; set it, or change the reference")]
    Unset(String),
    /// The variable, or the file, holds nothing.
    #[error("`{0}`: the secret is empty; put the secret there")]
    Empty(SecretRef),
    /// The variable, or the file, does not hold text.
    #[error("`{0}`: the secret is not UTF-8 text; write it as text, e.g. in base64")]
    NotText(SecretRef),
    /// The file is too long to be a secret.
    #[error("`{0}`: the file is longer than {LENGTH_MAX} bytes; name the file that holds only the secret")]
    TooLong(SecretRef),
    /// The file cannot be read.
    #[error("`file:{}`: the file cannot be read: {source}; check the path and who may read it", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl SecretRef {
    /// Reads the secret now.
    ///
    /// # Errors
    /// When it is not there, is empty, or is not text.
    pub fn resolve(&self) -> Result<SecretString, Error> {
        self.resolve_in(|name| std::env::var_os(name).map(|value| value.into_string().ok()))
    }

    /// Reads the secret now, with `variable` for the environment: `None` when a variable is not set, `Some(None)` when it
    /// is not text.
    fn resolve_in(
        &self,
        variable: impl FnOnce(&str) -> Option<Option<String>>,
    ) -> Result<SecretString, Error> {
        let text = match self {
            Self::Env(name) => variable(name).ok_or_else(|| Error::Unset(name.clone()))?,
            Self::File(path) => self.read(path)?,
        };
        match text.ok_or_else(|| Error::NotText(self.clone()))? {
            text if text.is_empty() => Err(Error::Empty(self.clone())),
            text => Ok(text.into()),
        }
    }

    fn read(&self, path: &Path) -> Result<Option<String>, Error> {
        let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(LENGTH_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > LENGTH_MAX {
            return Err(Error::TooLong(self.clone()));
        }
        let Ok(mut text) = String::from_utf8(bytes) else { return Ok(None) };
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Ok(Some(text))
    }
}

impl FromStr for SecretRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some(("env", name)) if is_variable(name) => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(PathBuf::from(path))),
            _ => Err(Error::NotAReference),
        }
    }
}

/// Letters, digits and `_`: what every shell and orchestrator can set.
fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A format's own message would show what stands there, which may be the secret.
        let text = String::deserialize(deserializer)
            .map_err(|_shows_it| serde::de::Error::custom(Error::NotAReference))?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    fn reference(text: &str) -> SecretRef {
        text.parse().unwrap()
    }

    #[test]
    fn a_secret_is_read_from_the_environment() {
        let secret = reference("env:TOKEN").resolve_in(|name| {
            assert_eq!(name, "TOKEN");
            Some(Some("s3cret".to_owned()))
        });
        assert_eq!(secret.unwrap().expose_secret(), "s3cret");
    }

    #[test]
    fn a_secret_is_read_from_a_file_without_its_last_line_break() {
        let dir = tempfile::tempdir().unwrap();
        for (stored, read) in [("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), ("a\nb\n\n", "a\nb\n")] {
            let path = dir.path().join("token");
            std::fs::write(&path, stored).unwrap();
            assert_eq!(SecretRef::File(path).resolve().unwrap().expose_secret(), read);
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = reference("env:TOKEN").resolve_in(|_| Some(Some("s3cret".to_owned()))).unwrap();
        assert!(!format!("{secret:?}").contains("s3cret"));
        let error = "whsec_plainly".parse::<SecretRef>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("plainly"), "{error}");
        for pasted in ["\"whsec_plainly\"", "12345678"] {
            let error = serde_json::from_str::<SecretRef>(pasted).unwrap_err().to_string();
            assert!(!error.contains("plainly") && !error.contains("1234"), "{error}");
            assert!(error.contains("write `env:NAME`"), "{error}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_the_fix() {
        let said = |result: Result<SecretString, Error>| result.unwrap_err().to_string();
        assert_eq!(
            said(reference("env:TOKEN").resolve_in(|_| None)),
            "`env:TOKEN`: the environment variable is not set; set it, or change the reference"
        );
        assert!(said(reference("env:TOKEN").resolve_in(|_| Some(Some(String::new())))).contains("is empty"));
        assert!(said(reference("env:TOKEN").resolve_in(|_| Some(None))).contains("not UTF-8"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert!(said(SecretRef::File(path.clone()).resolve()).contains("check the path"));
        std::fs::write(&path, "\n").unwrap();
        assert!(said(SecretRef::File(path.clone()).resolve()).contains("is empty"));
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(said(SecretRef::File(path.clone()).resolve()).contains("not UTF-8"));
        std::fs::write(&path, vec![b'x'; 64 * 1024 + 1]).unwrap();
        assert!(said(SecretRef::File(path).resolve()).contains("longer than"));
    }

    #[test]
    fn a_reference_reads_as_it_is_written() {
        for text in ["env:SYNCLINE_TOKEN", "file:/run/secrets/token"] {
            assert_eq!(reference(text).to_string(), text);
        }
        for text in ["", "env:", "file:", "env:A-B", "vault:x", "TOKEN"] {
            assert!(text.parse::<SecretRef>().is_err(), "{text}");
        }
    }
}
