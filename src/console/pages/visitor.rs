//! Who looks at a page: by a token that the browser keeps in a cookie, or, without tokens, whoever sits at this machine.

use axum::extract::{Form, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{PreEscaped, html};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::layout::{Failure, Page};
use super::words::encoded;
use crate::api::Who;
use crate::config::Role;
use crate::console::Desk;
use crate::guard::{is_from_another_site, is_loopback};
use crate::problem::Problem;

const COOKIE: &str = "syncline_token";

/// Seconds until one must sign in again: a working day.
const SIGNED_IN_FOR: u32 = 12 * 60 * 60;

/// Someone who may read pages.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) who: Who,
    pub(super) may_decide: bool,
    /// Whether there is something to sign out of.
    pub(super) is_signed_in: bool,
}

impl FromRequestParts<Desk> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, Response> {
        if desk.guard.is_open() {
            let checked = desk.guard.check(&parts.headers, Role::Viewer);
            let who = checked.map_err(|problem| Failure::from(problem).into_response())?;
            return Ok(Self { who, may_decide: true, is_signed_in: false });
        }
        let token = token(&parts.headers).ok_or_else(|| ask_again(parts))?;
        let known = desk.guard.check_token(&token, Role::Viewer);
        let who = known.map_err(|_of_an_old_token| sign_in(&wanted(parts), None))?;
        let may_decide = desk.guard.check_token(&token, Role::Operator).is_ok();
        Ok(Self { who, may_decide, is_signed_in: true })
    }
}

/// Someone who may change something, by a form of ours.
pub(super) struct Decider(pub(super) Who);

impl FromRequestParts<Desk> for Decider {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, Response> {
        same_site(&parts.headers).map_err(IntoResponse::into_response)?;
        let visitor = Visitor::from_request_parts(parts, desk).await?;
        if visitor.may_decide {
            return Ok(Self(visitor.who));
        }
        let detail = format!("`{}` may look but not decide; ask an operator", visitor.who.0);
        Err(Failure::from(forbidden(detail)).into_response())
    }
}

/// Sends those who are not signed in to the form, and everyone else where they wanted to go.
#[derive(Debug, Deserialize)]
pub(super) struct SignIn {
    token: String,
    #[serde(default)]
    to: String,
}

/// `POST /login`.
pub(super) async fn login(
    State(desk): State<Desk>,
    headers: HeaderMap,
    Form(SignIn { token, to }): Form<SignIn>,
) -> Result<Response, Failure> {
    same_site(&headers)?;
    let to = here(&to);
    let token = token.trim();
    if desk.guard.is_open() || desk.guard.check_token(token, Role::Viewer).is_ok() {
        let cookie = cookie(&headers, &encoded(token), SIGNED_IN_FOR);
        return Ok(([(header::SET_COOKIE, cookie)], Redirect::to(to)).into_response());
    }
    Ok(sign_in(to, Some("This token is not known. Check that it was copied whole.")))
}

/// `POST /logout`.
pub(super) async fn logout(headers: HeaderMap) -> Result<Response, Failure> {
    same_site(&headers)?;
    Ok(([(header::SET_COOKIE, cookie(&headers, "", 0))], Redirect::to("/exceptions")).into_response())
}

fn same_site(headers: &HeaderMap) -> Result<(), Failure> {
    if is_from_another_site(headers) {
        return Err(forbidden("a page of another site sent this form; nothing was done").into());
    }
    Ok(())
}

fn forbidden(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", "This is not allowed", detail)
}

fn token(headers: &HeaderMap) -> Option<String> {
    let pairs = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let mut pairs = pairs.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, value)| *name == COOKIE && !value.is_empty())?;
    percent_decode_str(value).decode_utf8().ok().map(Into::into)
}

/// No script sees it and no other site can have it sent. Only a loopback address is ever served without TLS.
fn cookie(headers: &HeaderMap, value: &str, seconds: u32) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let secure = if host.is_some_and(is_loopback) { "" } else { "; Secure" };
    format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}

/// The form, or, when a link of another site led here, a page that asks once more: the browser keeps the cookie to itself
/// until the question comes from us.
fn ask_again(parts: &Parts) -> Response {
    let to = wanted(parts);
    if parts.headers.get("sec-fetch-site").is_none_or(|site| site != "cross-site") {
        return sign_in(&to, None);
    }
    let content = html! {
        (PreEscaped("<meta http-equiv=\"refresh\" content=\"0\">"))
        p { a href=(to) { "Go on" } }
    };
    Page::new("One moment", None, &content).into_response()
}

fn sign_in(to: &str, said: Option<&str>) -> Response {
    let content = html! {
        form.sign-in method="post" action="/login" {
            h1 { "Sign in" }
            @if let Some(said) = said { p.said { (said) } }
            label { "Your access token"
                input type="password" name="token" required autofocus autocomplete="current-password";
            }
            input type="hidden" name="to" value=(to);
            button { "Sign in" }
            p.quiet { "Whoever runs Syncline gives you a token. It stays in this browser for 12 hours." }
        }
    };
    Page::new("Sign in", None, &content).with_status(StatusCode::UNAUTHORIZED).into_response()
}

/// Where a request wanted to go, if it can be asked again.
fn wanted(parts: &Parts) -> String {
    let path = parts.uri.path_and_query().map_or("/exceptions", |path| path.as_str());
    if parts.method.is_safe() { here(path).to_owned() } else { "/exceptions".to_owned() }
}

/// `to` if it leads to a page of ours, else the first page.
fn here(to: &str) -> &str {
    let odd = |c: char| c.is_control() || c == '\\';
    if to.starts_with('/') && !to.starts_with("//") && !to.contains(odd) { to } else { "/exceptions" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_leads_only_to_pages_of_ours() {
        for to in ["/", "/exceptions?class=hold", "/entities/order/A%2F7"] {
            assert_eq!(here(to), to);
        }
        for to in ["", "https://evil.example", "//evil.example", "/\\evil.example", "/\n/evil", "exceptions"]
        {
            assert_eq!(here(to), "/exceptions", "{to}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let headers = |text: &str| HeaderMap::from_iter([(header::COOKIE, text.parse().unwrap())]);
        assert_eq!(token(&headers("a=b; syncline_token=s%3Be%3Dcret; c=d")).as_deref(), Some("s;e=cret"));
        for none in ["a=b", "syncline_token=", "xsyncline_token=a", "syncline_token", "syncline_token=%FF"] {
            assert_eq!(token(&headers(none)), None, "{none}");
        }
    }
}
