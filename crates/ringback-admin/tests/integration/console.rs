//! The files of the console and the headers of pages.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use ringback_admin::HttpSpec;

use crate::harness::{Answer, Harness};

/// Gets a path without a token, with more headers.
async fn get(harness: &Harness, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    harness
        .send(request.body(Body::empty()).expect("a request"))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_carry_the_headers_that_keep_them_safe() {
    let harness = Harness::new();
    let views = [
        "",
        "find",
        "explain",
        "problems",
        "map",
        "manage",
        "contact",
        "statistics",
        "audit",
        "node",
    ];
    let mut paths: Vec<String> = views
        .iter()
        .map(|view| format!("/console/{view}"))
        .collect();
    paths.push("/docs".to_owned());
    for path in paths {
        let answer = get(&harness, &path, &[]).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"));
        assert!(policy.ends_with("require-trusted-types-for 'script'"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert_eq!(answer.header("cross-origin-opener-policy"), "same-origin");
        assert!(!answer.text.contains("<style"), "{path}");
    }
    assert_eq!(get(&harness, "/console/other", &[]).await.status, 404);
    assert_eq!(
        get(&harness, "/console/files/app.js", &[]).await.status,
        404
    );
    let api = get(&harness, "/api/v1/agents", &[]).await;
    assert_eq!(api.header("cache-control"), "no-store");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_kept_for_good_and_the_page_is_asked_about() {
    let harness = Harness::new();
    let page = get(&harness, "/console/find", &[]).await;
    assert_eq!(page.header("cache-control"), "no-cache");
    let tag = page.header("etag").to_owned();
    let known = get(&harness, "/console/find", &[("if-none-match", &tag)]).await;
    assert_eq!(known.status, StatusCode::NOT_MODIFIED);
    assert_eq!(known.text, "");
    let (_, rest) = page.text.split_once("src=\"").expect("a script");
    let path = rest.split('"').next().expect("its path");
    let script = get(&harness, path, &[]).await;
    assert_eq!(
        script.header("cache-control"),
        "public, max-age=31536000, immutable"
    );
    assert_eq!(script.header("vary"), "accept-encoding");
    assert_eq!(script.header("content-encoding"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_console_there_is_no_page_and_no_session() {
    let harness = Harness::with(HttpSpec {
        console: false,
        ..HttpSpec::default()
    });
    for path in [
        "/",
        "/console",
        "/console/",
        "/console/find",
        "/api/v1/session",
    ] {
        assert_eq!(get(&harness, path, &[]).await.status, 404, "{path}");
    }
    assert_eq!(get(&harness, "/docs", &[]).await.status, 200);
}
