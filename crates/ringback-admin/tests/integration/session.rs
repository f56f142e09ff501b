//! Sessions of the console: what a cookie opens, and what it does not.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use ringback_admin::HttpSpec;
use serde_json::{Value, json};

use crate::harness::{ADMINISTRATOR, Answer, Harness, text};

/// A session, as a browser has it.
struct Browser<'h> {
    harness: &'h Harness,
    cookie: String,
    csrf: String,
    /// What the session answer said.
    session: Value,
}

impl<'h> Browser<'h> {
    /// Signs in.
    async fn new(harness: &'h Harness, token: &str) -> Self {
        let answer = sign_in(harness, token, &[]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let cookie = answer.header("set-cookie");
        let session = answer.json()["data"].clone();
        Self {
            harness,
            cookie: cookie.split(';').next().expect("a cookie").to_owned(),
            csrf: text(&session["csrf_token"]),
            session,
        }
    }

    /// Sends a request with the cookie and, if so wished, the CSRF token.
    async fn ask(&self, method: &str, path: &str, body: &str, with_csrf: bool) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("cookie", format!("theme=dark; {}", self.cookie));
        if with_csrf {
            request = request.header("x-csrf-token", &self.csrf);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Body::from(body.to_owned()));
        self.harness.send(request.expect("a request")).await
    }

    /// The status of such a request.
    async fn status(&self, method: &str, path: &str, body: &str, with_csrf: bool) -> u16 {
        self.ask(method, path, body, with_csrf)
            .await
            .status
            .as_u16()
    }
}

/// Asks to sign in, with more headers.
async fn sign_in(harness: &Harness, token: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder()
        .method("POST")
        .uri("/api/v1/session")
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = json!({ "token": token }).to_string();
    harness
        .send(request.body(Body::from(body)).expect("a request"))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_an_environment_opens_what_its_token_opens() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let browser = Browser::new(&harness, &tenant.token).await;
    assert_eq!(browser.session["kind"], "environment");
    assert_eq!(browser.session["environment"]["name"], "Acme");
    assert_eq!(browser.session["token"]["id"], tenant.token_id.as_str());
    assert_eq!(browser.session["expires_at"], "2026-11-22T00:00:00.000Z");
    assert_eq!(
        browser.status("GET", "/api/v1/agents", "", false).await,
        200
    );
    assert_eq!(
        browser.status("GET", "/api/v1/problems", "", false).await,
        200
    );
    assert_eq!(
        browser.status("GET", "/api/v1/status", "", false).await,
        403
    );
    let choice = json!({ "environment_id": tenant.environment }).to_string();
    assert_eq!(
        browser
            .status("PATCH", "/api/v1/session", &choice, true)
            .await,
        403
    );

    // Unsafe methods need what only a page of ours can read.
    let number = r#"{"number":"+551130000001"}"#;
    let refused = browser
        .ask("POST", "/api/v1/phone-numbers", number, false)
        .await;
    assert_eq!(refused.json()["code"], "CSRF_TOKEN_INVALID");
    let made = browser
        .ask("POST", "/api/v1/phone-numbers", number, true)
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);

    let shown = browser.ask("GET", "/api/v1/session", "", false).await;
    assert_eq!(shown.json()["data"], browser.session);
    assert_eq!(
        browser.status("DELETE", "/api/v1/session", "", false).await,
        403
    );
    let ended = browser.ask("DELETE", "/api/v1/session", "", true).await;
    assert!(ended.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(
        browser.status("GET", "/api/v1/agents", "", false).await,
        401
    );
    let shown = browser.ask("GET", "/api/v1/session", "", false).await;
    assert_eq!(shown.json()["data"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_administrator_acts_in_the_environment_that_was_chosen() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let browser = Browser::new(&harness, ADMINISTRATOR).await;
    assert_eq!(browser.session["kind"], "administrator");
    assert_eq!(
        browser.status("GET", "/api/v1/status", "", false).await,
        200
    );
    assert_eq!(
        browser.status("GET", "/api/v1/agents", "", false).await,
        403
    );
    let unknown = r#"{"environment_id":"01964f3e-6a00-7000-8000-0000000000e1"}"#;
    let refused = browser.ask("PATCH", "/api/v1/session", unknown, true).await;
    assert_eq!(refused.fields(), ["environment_id"]);
    let choice = json!({ "environment_id": tenant.environment }).to_string();
    let chosen = browser.ask("PATCH", "/api/v1/session", &choice, true).await;
    assert_eq!(
        chosen.json()["data"]["environment"]["id"],
        tenant.environment.as_str()
    );
    assert_eq!(
        browser.status("GET", "/api/v1/agents", "", false).await,
        200
    );
    let number = r#"{"number":"+551130000001"}"#;
    let path = "/api/v1/phone-numbers";
    assert_eq!(browser.status("POST", path, number, true).await, 201);
    assert_eq!(
        browser.status("GET", "/api/v1/status", "", false).await,
        200
    );
    // The token itself stays outside.
    let bearer = harness
        .ask(ADMINISTRATOR, "GET", "/api/v1/agents", "")
        .await;
    assert_eq!(bearer.status, StatusCode::FORBIDDEN);
    let misspelled = r#"{"environment":null}"#;
    let same = browser
        .ask("PATCH", "/api/v1/session", misspelled, true)
        .await;
    assert_eq!(same.header("x-ignored-fields"), "environment");
    assert_eq!(same.json(), chosen.json());
    let none = r#"{"environment_id":null}"#;
    assert_eq!(
        browser.status("PATCH", "/api/v1/session", none, true).await,
        200
    );
    assert_eq!(
        browser.status("GET", "/api/v1/agents", "", false).await,
        403
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_token_and_after_twelve_hours() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let browser = Browser::new(&harness, &tenant.token).await;
    let administrator = Browser::new(&harness, ADMINISTRATOR).await;
    let path = format!(
        "/api/v1/environments/{}/tokens/{}",
        tenant.environment, tenant.token_id
    );
    harness.done(ADMINISTRATOR, "DELETE", &path, "").await;
    assert_eq!(
        browser.status("GET", "/api/v1/agents", "", false).await,
        401
    );
    let shown = browser.ask("GET", "/api/v1/session", "", false).await;
    assert_eq!(shown.json()["data"], Value::Null);

    harness.clock.advance(12 * 3_600 - 1);
    assert_eq!(
        administrator
            .status("GET", "/api/v1/status", "", false)
            .await,
        200
    );
    harness.clock.advance(1);
    assert_eq!(
        administrator
            .status("GET", "/api/v1/status", "", false)
            .await,
        401
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_holds_on_every_server_of_the_log_and_ends_on_all_of_them() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let environment = Browser::new(&harness, &tenant.token).await;
    let administrator = Browser::new(&harness, ADMINISTRATOR).await;
    let chosen = json!({"environment_id": tenant.environment}).to_string();
    let path = "/api/v1/session";
    assert_eq!(
        administrator.status("PATCH", path, &chosen, true).await,
        200
    );

    // A server that reads the log from its beginning, as one does that starts again.
    let other = harness.beside();
    let there = |browser: &Browser<'_>| Browser {
        harness: &other,
        cookie: browser.cookie.clone(),
        csrf: browser.csrf.clone(),
        session: browser.session.clone(),
    };
    let (environment_there, administrator_there) = (there(&environment), there(&administrator));
    let shown = environment_there.ask("GET", path, "", false).await;
    assert_eq!(shown.json()["data"], environment.session);
    let agents = "/api/v1/agents";
    assert_eq!(
        administrator_there.status("GET", agents, "", false).await,
        200
    );
    let body = r#"{"name":"n","label":"l","direction":"inbound"}"#;
    assert_eq!(
        environment_there.status("POST", agents, body, false).await,
        403
    );
    assert_eq!(
        environment_there.status("POST", agents, body, true).await,
        201
    );

    assert_eq!(
        environment_there.status("DELETE", path, "", true).await,
        200
    );
    // A change of its own brings the first server up to the log.
    harness.tenant("+551140000000").await;
    assert_eq!(environment.status("GET", agents, "", false).await, 401);
    assert_eq!(administrator.status("GET", agents, "", false).await, 200);

    // Whoever has changed the administrator's token has ended its sessions.
    let changed = harness.beside_of("another-administrator-secret");
    let there = Browser {
        harness: &changed,
        ..there(&administrator)
    };
    assert_eq!(there.status("GET", agents, "", false).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nothing_can_be_stored_one_can_sign_in_and_out() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let stored = Browser::new(&harness, ADMINISTRATOR).await;
    harness.memory.fail(true);
    let browser = Browser::new(&harness, ADMINISTRATOR).await;
    let path = "/api/v1/session";
    let chosen = json!({"environment_id": tenant.environment}).to_string();
    for browser in [&browser, &stored] {
        assert_eq!(browser.status("PATCH", path, &chosen, true).await, 200);
        let agents = browser.status("GET", "/api/v1/agents", "", false).await;
        assert_eq!(agents, 200);
    }
    assert_eq!(browser.status("DELETE", path, "", true).await, 200);
    assert_eq!(
        browser.status("GET", "/api/v1/status", "", false).await,
        401
    );
    // That a stored one ended cannot be stored: whoever signs out is told so.
    assert_eq!(stored.status("DELETE", path, "", true).await, 503);
    harness.memory.fail(false);
    assert_eq!(stored.status("DELETE", path, "", true).await, 200);
    assert_eq!(stored.status("GET", "/api/v1/status", "", false).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_failed_tries_are_followed_by_a_wait() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let mut answers = Vec::new();
    for token in ["", "wrong", "talq_", "Bearer x", "\u{0}"] {
        answers.push(sign_in(&harness, token, &[]).await.text);
        let answer = harness.ask("wrong", "GET", "/api/v1/agents", "").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    answers.dedup();
    assert_eq!(
        answers,
        [r#"{"success":false,"message":"Unauthenticated."}"#]
    );
    let refused = sign_in(&harness, &tenant.token, &[]).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.json()["code"], "TOO_MANY_FAILURES");
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    // Whoever has a token is not kept from using it.
    harness
        .done(&tenant.token, "GET", "/api/v1/agents", "")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_cannot_sign_one_in() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    for origin in ["https://elsewhere.example", "null", "localhost"] {
        let answer = sign_in(&harness, &tenant.token, &[("origin", origin)]).await;
        assert_eq!(answer.json()["code"], "FOREIGN_ORIGIN", "{origin}");
    }
    let ours = [("origin", "http://localhost")];
    assert_eq!(sign_in(&harness, &tenant.token, &ours).await.status, 200);
    let form = Request::builder()
        .method("POST")
        .uri("/api/v1/session")
        .header("content-type", "text/plain")
        .body(Body::from(json!({ "token": tenant.token }).to_string()))
        .expect("a request");
    let answer = harness.send(form).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_are_secure_where_a_trusted_proxy_says_https() {
    let https = [("x-forwarded-proto", "https")];
    let cookie = |answer: &Answer| answer.header("set-cookie").to_owned();
    let harness = Harness::new();
    let plain = cookie(&sign_in(&harness, ADMINISTRATOR, &https).await);
    assert!(plain.starts_with("ringback_session="), "{plain}");
    assert!(
        plain.ends_with("; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200"),
        "{plain}"
    );
    drop(harness);
    let harness = Harness::with(HttpSpec {
        trusted_proxies: vec!["127.0.0.1".into()],
        ..HttpSpec::default()
    });
    let secure = cookie(&sign_in(&harness, ADMINISTRATOR, &https).await);
    assert!(secure.starts_with("__Host-ringback_session="), "{secure}");
    assert!(secure.ends_with("; Max-Age=43200; Secure"), "{secure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_token_counts_before_a_cookie() {
    let harness = Harness::new();
    let tenant = harness.tenant("+551130000000").await;
    let browser = Browser::new(&harness, &tenant.token).await;
    for (token, status) in [("wrong", 401), (ADMINISTRATOR, 403), (&tenant.token, 201)] {
        let request = Request::builder()
            .method("POST")
            .uri("/api/v1/phone-numbers")
            .header("cookie", &browser.cookie)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Body::from(r#"{"number":"+551130000001"}"#))
            .expect("a request");
        assert_eq!(harness.send(request).await.status.as_u16(), status);
    }
}
