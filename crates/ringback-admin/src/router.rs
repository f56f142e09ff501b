//! Every path, and who may ask for it.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use arrayvec::ArrayString;
use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::handler::Handler;
use axum::http::header::{CACHE_CONTROL, HOST, LOCATION, STRICT_TRANSPORT_SECURITY, USER_AGENT};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, any, on};
use ringback_engine::Via;
use tower_http::catch_panic::CatchPanicLayer;
use uuid::Uuid;

use crate::api::Api;
use crate::auth::{
    Asked, Audience, MAX_REQUEST_ID, administrator_only, anyone_with_a_token, tenants_only,
};
use crate::body::Drained;
use crate::client::{Client, ConnectedFrom};
use crate::console;
use crate::docs;
use crate::error::ApiError;
use crate::handler::{
    self, agents, audit, backup, batch, callback, calls, cluster, connectors, contacts, decisions,
    environments, erasures, export, lookup, number_audit, numbers, opt_outs, platforms, problems,
    reload, remembered, session, statistics, status, targets,
};
use crate::ignored::{self, IgnoredFields};
use crate::observer::AnsweredRequest;

/// The HTTP API as a service.
pub fn router(api: Api) -> Router {
    let mut routes = routes();
    let to_docs = async || (StatusCode::FOUND, [(LOCATION, "/docs")]);
    let get = MethodFilter::GET;
    routes.router = routes
        .router
        .route("/docs/", on(get, to_docs))
        .route("/docs/page.css", on(get, docs::style))
        .route("/docs/pt-br", on(get, docs::portuguese))
        .route("/", on(get, console::redirect))
        .route("/console", on(get, console::redirect))
        .route("/console/", on(get, console::start))
        .route("/console/{view}", on(get, console::view))
        .route("/console/files/{name}", on(get, console::file));
    finish(routes, api)
}

/// The probes alone, for addresses of their own.
pub(crate) fn probes(api: Api) -> Router {
    finish(probe_routes(), api)
}

/// Makes a service of routes.
fn finish(routes: Routes, api: Api) -> Router {
    let paths = routes.listed.iter().map(|(_, _, path)| *path).collect();
    let observer = Observer {
        api: api.clone(),
        paths: Arc::new(paths),
    };
    routes
        .router
        .fallback(async || ApiError::NoSuchPath)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(observer, observe))
        .with_state(api)
}

/// What is asked by those who watch the server.
fn probe_routes() -> Routes {
    use Audience::Anyone;
    use MethodFilter as M;

    Routes::default()
        .add(Anyone, M::GET, "/healthz", handler::probes::alive)
        .add(Anyone, M::GET, "/readyz", handler::probes::ready)
        .add(Anyone, M::GET, "/metrics", handler::probes::metrics)
}

/// Every path.
fn routes() -> Routes {
    use Audience::{Administrator, AnyToken, Anyone, Tenants};
    use MethodFilter as M;

    add_connectors(probe_routes())
        .add(Anyone, M::GET, "/docs", docs::page)
        .add(Anyone, M::GET, "/api/v1/openapi.json", docs::description)
        .add(Anyone, M::GET, "/api/v1/session", session::show)
        .add(Anyone, M::POST, "/api/v1/session", session::open)
        .add(Anyone, M::PATCH, "/api/v1/session", session::choose)
        .add(Anyone, M::DELETE, "/api/v1/session", session::end)
        .add(Tenants, M::GET, "/api/v1/agents", agents::list)
        .add(Tenants, M::POST, "/api/v1/agents", agents::create)
        .add(Tenants, M::GET, "/api/v1/agents/{id}", agents::show)
        .add(Tenants, M::PATCH, "/api/v1/agents/{id}", agents::update)
        .add(Tenants, M::DELETE, "/api/v1/agents/{id}", agents::delete)
        .add(
            Tenants,
            M::PUT,
            "/api/v1/agents/{id}/calling",
            agents::set_calling,
        )
        .add(
            Tenants,
            M::POST,
            "/api/v1/agents/{id}/publish",
            agents::publish,
        )
        .add(
            Tenants,
            M::POST,
            "/api/v1/agents/{id}/unpublish",
            agents::unpublish,
        )
        .add(
            Tenants,
            M::POST,
            "/api/v1/agents/{id}/callback",
            callback::set,
        )
        .add(
            Tenants,
            M::PUT,
            "/api/v1/agents/{id}/callback",
            callback::replace,
        )
        .add(
            Tenants,
            M::DELETE,
            "/api/v1/agents/{id}/callback",
            callback::remove,
        )
        .add(Tenants, M::GET, "/api/v1/callback-agents", callback::list)
        .add(
            Tenants,
            M::GET,
            "/api/v1/callback-agents/source-agents",
            callback::source_agents,
        )
        .add(
            Tenants,
            M::GET,
            "/api/v1/callback-agents/stats",
            statistics::environment,
        )
        .add(
            Tenants,
            M::GET,
            "/api/v1/callback-agents/{id}",
            statistics::agent,
        )
        .add(
            Tenants,
            M::POST,
            "/api/v1/callback-agents/{id}/check-constraints",
            callback::check,
        )
        .add(Tenants, M::GET, "/api/v1/phone-numbers", numbers::list)
        .add(Tenants, M::POST, "/api/v1/phone-numbers", numbers::create)
        .add(
            Tenants,
            M::GET,
            "/api/v1/phone-numbers/audit",
            number_audit::audit,
        )
        .add(
            Tenants,
            M::PATCH,
            "/api/v1/phone-numbers/{id}",
            numbers::update,
        )
        .add(
            Tenants,
            M::DELETE,
            "/api/v1/phone-numbers/{id}",
            numbers::delete,
        )
        .add(Tenants, M::GET, "/api/v1/calls", remembered::calls)
        .add(Tenants, M::POST, "/api/v1/calls", calls::record)
        .add(Tenants, M::POST, "/api/v1/calls/batch", batch::record)
        .add(Tenants, M::GET, "/api/v1/contacts", remembered::contacts)
        .add(Tenants, M::GET, "/api/v1/contacts/{number}", contacts::show)
        .add(
            Tenants,
            M::DELETE,
            "/api/v1/contacts/{number}",
            contacts::forget,
        )
        .add(
            Tenants,
            M::GET,
            "/api/v1/contacts/{number}/export",
            contacts::export,
        )
        .add(
            Tenants,
            M::POST,
            "/api/v1/contacts/reassigned",
            contacts::reassign_many,
        )
        .add(
            Tenants,
            M::POST,
            "/api/v1/contacts/{number}/reassigned",
            contacts::reassign,
        )
        .add(Tenants, M::GET, "/api/v1/opt-outs", opt_outs::list)
        .add(Tenants, M::POST, "/api/v1/opt-outs/batch", opt_outs::record)
        .add(Tenants, M::GET, "/api/v1/opt-outs/{number}", opt_outs::show)
        .add(Tenants, M::PUT, "/api/v1/opt-outs/{number}", opt_outs::put)
        .add(
            Tenants,
            M::DELETE,
            "/api/v1/opt-outs/{number}",
            opt_outs::end,
        )
        .add(Tenants, M::GET, "/api/v1/connectors", connectors::list)
        .add(Tenants, M::POST, "/api/v1/connectors", connectors::create)
        .add(Tenants, M::GET, "/api/v1/connectors/{id}", connectors::show)
        .add(
            Tenants,
            M::PATCH,
            "/api/v1/connectors/{id}",
            connectors::update,
        )
        .add(
            Tenants,
            M::DELETE,
            "/api/v1/connectors/{id}",
            connectors::delete,
        )
        .add(
            Tenants,
            M::POST,
            "/api/v1/connectors/{id}/rotate",
            connectors::rotate,
        )
        .add(Tenants, M::GET, "/api/v1/route", lookup::look_up)
        .add(Tenants, M::POST, "/api/v1/route", lookup::route)
        .add(
            Tenants,
            M::POST,
            "/api/v1/routed-calls/{sid}/answered",
            lookup::answered,
        )
        .add(Tenants, M::GET, "/api/v1/decisions", decisions::list)
        .add(
            Tenants,
            M::GET,
            "/api/v1/decisions/stream",
            decisions::follow,
        )
        .add(Tenants, M::GET, "/api/v1/problems", problems::list)
        .add(Tenants, M::GET, "/api/v1/targets", targets::list)
        .add(Tenants, M::POST, "/api/v1/targets/state", targets::hold)
        .add(Administrator, M::POST, "/api/v1/reload", reload::reload)
        .add(AnyToken, M::GET, "/api/v1/audit", audit::list)
        .add(AnyToken, M::POST, "/api/v1/audit/{id}/undo", audit::undo)
        .add(AnyToken, M::GET, "/api/v1/export/{kind}", export::export)
        .add(Administrator, M::GET, "/api/v1/status", status::show)
        .add(Administrator, M::GET, "/api/v1/backup", backup::backup)
        .add(Administrator, M::GET, "/api/v1/erasures", erasures::list)
        .add(Administrator, M::GET, "/api/v1/cluster", cluster::show)
        .add(
            Administrator,
            M::POST,
            "/api/v1/cluster/recover",
            cluster::recover,
        )
        .add(
            Administrator,
            M::DELETE,
            "/api/v1/cluster/nodes/{node}",
            cluster::forget,
        )
        .add(
            Anyone,
            M::GET,
            "/api/v1/cluster/snapshot",
            cluster::snapshot,
        )
        .add(
            Administrator,
            M::GET,
            "/api/v1/refused-calls",
            status::refused_calls,
        )
        .add(
            Administrator,
            M::GET,
            "/api/v1/environments",
            environments::list,
        )
        .add(
            Administrator,
            M::POST,
            "/api/v1/environments",
            environments::create,
        )
        .add(
            Administrator,
            M::GET,
            "/api/v1/environments/{id}",
            environments::show,
        )
        .add(
            Administrator,
            M::PATCH,
            "/api/v1/environments/{id}",
            environments::update,
        )
        .add(
            Administrator,
            M::DELETE,
            "/api/v1/environments/{id}",
            environments::delete,
        )
        .add(
            Administrator,
            M::GET,
            "/api/v1/environments/{id}/tokens",
            environments::list_tokens,
        )
        .add(
            Administrator,
            M::POST,
            "/api/v1/environments/{id}/tokens",
            environments::create_token,
        )
        .add(
            Administrator,
            M::DELETE,
            "/api/v1/environments/{id}/tokens/{token_id}",
            environments::delete_token,
        )
}

/// Adds the addresses of connectors. Which methods they have depends on the connector, so the handler says.
fn add_connectors(mut routes: Routes) -> Routes {
    let path = "/lookup/{key}";
    routes.router = routes.router.route(path, any(platforms::ask));
    for method in [MethodFilter::GET, MethodFilter::POST] {
        routes.listed.push((Audience::Anyone, method, path));
    }
    routes
}

/// A router in the making, and the list of what is in it.
#[derive(Default)]
struct Routes {
    /// What has been added.
    router: Router<Api>,
    /// The same as a list: who may ask, the method, the path.
    listed: Vec<(Audience, MethodFilter, &'static str)>,
}

impl Routes {
    /// Adds a path with a method.
    fn add<H, T>(
        mut self,
        audience: Audience,
        method: MethodFilter,
        path: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Api>,
        T: 'static,
    {
        let endpoint = on(method, handler);
        // Other methods of the path are answered without a look at the token.
        let endpoint = match audience {
            Audience::Anyone => endpoint,
            Audience::Tenants => endpoint.route_layer(middleware::from_fn(tenants_only)),
            Audience::Administrator => {
                endpoint.route_layer(middleware::from_fn(administrator_only))
            }
            Audience::AnyToken => endpoint.route_layer(middleware::from_fn(anyone_with_a_token)),
        };
        self.router = self.router.route(path, endpoint);
        self.listed.push((audience, method, path));
        self
    }
}

/// What [`observe`] needs.
#[derive(Clone)]
struct Observer {
    /// Where answers are counted.
    api: Api,
    /// The patterns of all paths.
    paths: Arc<HashSet<&'static str>>,
}

/// Names the request and the fields of its body that were ignored, counts and logs its answer, and sees
/// to it that its body is read.
async fn observe(State(observer): State<Observer>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let request_id = request_id(request.headers());
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched
        .and_then(|path| observer.paths.get(path.as_str()))
        .copied();
    let is_api = request.uri().path().starts_with("/api/");
    let mut request = request.map(Drained::wrap);
    // Those who look at the token find the state here.
    request.extensions_mut().insert(observer.api.clone());
    let connected = request.extensions().get::<ConnectedFrom>();
    let connected = connected.copied().unwrap_or(ConnectedFrom {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        over_tls: false,
    });
    let client = Client::of(request.headers(), connected, observer.api.trusted_proxies());
    request.extensions_mut().insert(client);
    let traceparent = request.headers().get("traceparent").cloned();
    let asked = Asked {
        via: via(request.headers()),
        request_id: named(&request_id),
        key: None,
    };
    request.extensions_mut().insert(asked);
    let ignored = IgnoredFields::default();
    request.extensions_mut().insert(ignored.clone());
    let mut response = if names_one_host(&request) {
        next.run(request).await
    } else {
        ApiError::Host.into_response()
    };
    response
        .headers_mut()
        .insert("x-request-id", request_id.clone());
    if is_api {
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().insert(CACHE_CONTROL, no_store);
    }
    if connected.over_tls {
        let always = HeaderValue::from_static("max-age=31536000");
        let headers = response.headers_mut();
        headers.insert(STRICT_TRANSPORT_SECURITY, always);
    }
    if let Some(names) = ignored.header() {
        response.headers_mut().insert(ignored::HEADER, names);
    }
    let (took, status) = (start.elapsed(), response.status());
    // The path itself may hold a contact's number, so only its pattern is shown.
    if let Some(observer) = observer.api.request_observer() {
        observer.answered(&AnsweredRequest {
            method: method.as_str(),
            route,
            scheme: if client.is_secure { "https" } else { "http" },
            status: status.as_u16(),
            took,
            request_id: request_id.to_str().unwrap_or_default(),
            traceparent: traceparent.as_ref().and_then(|text| text.to_str().ok()),
        });
    }
    let route = route.unwrap_or("none");
    observer
        .api
        .metrics()
        .count_request(route, &method, status, took);
    tracing::debug!(
        %method,
        route,
        status = status.as_u16(),
        duration_ms = (took.as_secs_f64() * 1e6).round() / 1e3,
        request_id = request_id.to_str().unwrap_or_default(),
        "request"
    );
    response
}

/// Whether the request has the one Host header that HTTP/1.1 asks for (RFC 9112 §3.2).
fn names_one_host(request: &Request) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => request.version() < Version::HTTP_11,
        (Some(host), None) => host.is_empty() || Authority::try_from(host.as_bytes()).is_ok(),
        (Some(_), Some(_)) => false,
    }
}

/// The client's name for the request, if it is fit to be sent back; else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        (1..=MAX_REQUEST_ID).contains(&value.len())
            && value
                .as_bytes()
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte))
    };
    headers
        .get("x-request-id")
        .filter(sane)
        .cloned()
        .unwrap_or_else(|| {
            let id = Uuid::now_v7().to_string();
            HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("none"))
        })
}

/// The name of a request, which is short.
fn named(request_id: &HeaderValue) -> ArrayString<MAX_REQUEST_ID> {
    let text = request_id.to_str().unwrap_or_default();
    ArrayString::from(text).unwrap_or_default()
}

/// How a request came: the commands of `ringback` say who they are.
fn via(headers: &HeaderMap) -> Via {
    let agent = headers.get(USER_AGENT).map(HeaderValue::as_bytes);
    if agent.is_some_and(|agent| agent.starts_with(b"ringback/")) {
        Via::Cli
    } else {
        Via::Api
    }
}

/// The answer when a handler panicked. The log has had the panic from the hook already.
fn panicked(_panic: Box<dyn std::any::Any + Send>) -> axum::http::Response<Body> {
    tracing::error!("a request handler panicked");
    ApiError::Internal.into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// Routes as method, path and audience.
    type Listed = BTreeSet<(&'static str, String, &'static str)>;

    #[test]
    fn the_description_lists_every_route_and_no_other() {
        let description: Value = serde_json::from_str(docs::OPENAPI).unwrap();
        let mut described = Listed::new();
        for (path, operations) in description["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let method = METHODS
                    .iter()
                    .find(|(_, name)| name.to_lowercase() == *method);
                let audience = match operation["security"].as_array().map(Vec::as_slice) {
                    None => "tenants",
                    Some([]) => "anyone",
                    Some([one]) if one.get("administrator").is_some() => "administrator",
                    Some([_, _]) => "any token",
                    Some(other) => panic!("{other:?}"),
                };
                described.insert((method.unwrap().1, path.clone(), audience));
                check_parameters(path, operation);
            }
        }
        let answered: Listed = routes()
            .listed
            .iter()
            .map(|(audience, method, path)| {
                let method = METHODS
                    .iter()
                    .find(|(filter, _)| filter == method)
                    .unwrap()
                    .1;
                let audience = match audience {
                    Audience::Anyone => "anyone",
                    Audience::Tenants => "tenants",
                    Audience::Administrator => "administrator",
                    Audience::AnyToken => "any token",
                };
                (method, (*path).to_owned(), audience)
            })
            .collect();
        assert_eq!(described, answered);
    }

    #[test]
    fn every_reference_within_the_description_leads_somewhere() {
        let description: Value = serde_json::from_str(docs::OPENAPI).unwrap();
        let mut open = vec![&description];
        while let Some(value) = open.pop() {
            match value {
                Value::Object(object) => {
                    if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(description.pointer(pointer).is_some(), "{reference}");
                    }
                    open.extend(object.values());
                }
                Value::Array(entries) => open.extend(entries),
                _ => {}
            }
        }
    }

    /// Each variable segment is described, and nothing else as one.
    fn check_parameters(path: &str, operation: &Value) {
        let segments: BTreeSet<&str> = path
            .split('/')
            .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        let described: BTreeSet<&str> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(segments, described, "{path}");
    }

    const METHODS: [(MethodFilter, &str); 5] = [
        (MethodFilter::GET, "GET"),
        (MethodFilter::POST, "POST"),
        (MethodFilter::PUT, "PUT"),
        (MethodFilter::PATCH, "PATCH"),
        (MethodFilter::DELETE, "DELETE"),
    ];
}
