//! The frame of every page, and the page that says what went wrong.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::visitor::Visitor;
use crate::problem::Problem;

/// No script, nothing from elsewhere, in no frame; nothing stays in caches.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
];

/// A page, ready to be sent.
pub(super) struct Page {
    status: StatusCode,
    markup: Markup,
}

impl Page {
    /// A page with a title and content. `visitor` is none where it is not known who looks.
    pub(super) fn new(title: &str, visitor: Option<&Visitor>, content: &Markup) -> Self {
        Self { status: StatusCode::OK, markup: frame(title, visitor, content) }
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        (self.status, HEADERS, self.markup.into_string()).into_response()
    }
}

/// A problem as a page.
pub(super) struct Failure(Problem);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let title = match self.0.status() {
            StatusCode::NOT_FOUND => "There is no such thing",
            StatusCode::FORBIDDEN => "This is not allowed",
            StatusCode::CONFLICT => "That was not possible",
            StatusCode::SERVICE_UNAVAILABLE => "Not now; please try again in a moment",
            status if status.is_server_error() => "Something is broken",
            _ => "That was not understood",
        };
        let content = html! {
            h1 { (title) }
            p.said { (self.0.detail()) }
            p { a href="/exceptions" { "To the exceptions" } }
        };
        Page::new(title, None, &content).with_status(self.0.status()).into_response()
    }
}

fn frame(title: &str, visitor: Option<&Visitor>, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Syncline" }
                link rel="stylesheet" href="/console.css";
                link rel="icon" href="data:,";
            }
            body {
                header {
                    a.brand href="/exceptions" { "Syncline" }
                    @if let Some(visitor) = visitor {
                        nav aria-label="Pages" {
                            a href="/exceptions" { "Exceptions" }
                            a href="/processes" { "Processes" }
                            a href="/slo" { "Objectives" }
                            a href="/integrations" { "Integrations" }
                            a href="/reconciliations" { "Reconciliation" }
                            a href="/drift" { "Drift" }
                        }
                        form action="/search" role="search" {
                            input type="search" name="q" required placeholder="Order, invoice or other number"
                                aria-label="Find an entity";
                            button { "Find" }
                        }
                        @if visitor.is_signed_in {
                            form.out method="post" action="/logout" {
                                span { (visitor.who.0) }
                                button.plain { "Sign out" }
                            }
                        }
                    }
                }
                main { (content) }
            }
        }
    }
}
