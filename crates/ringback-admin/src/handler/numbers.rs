//! Phone numbers: `/phone-numbers`.

use axum::extract::{Request, State};
use axum::response::Response;
use ringback_engine::{CreateNumber, DeleteNumber, Override, SetDefaultAgent};
use ringback_routing::{
    AgentId, Caller, Country, DirectoryNumber, E164, NumberId, NumberRulesRef, read_id,
};

use crate::api::Api;
use crate::auth::Tenant;
use crate::body::read_fields;
use crate::error::{ApiError, FieldErrors};
use crate::fields::MAX_NAME;
use crate::identity;
use crate::paging::Paging;
use crate::path::{PathText, QueryText};
use crate::reply::{self, Answer};
use crate::wire;

/// `GET /phone-numbers`: first entered first; all of them, or one page if one is asked for.
pub(crate) async fn list(
    State(api): State<Api>,
    tenant: Tenant,
    mut query: QueryText,
) -> Result<Response, ApiError> {
    let paging = Paging::read_if_asked(&mut query);
    let search = query
        .get("search")
        .map(|text| text.trim_start_matches([' ', '+']).to_lowercase());
    query.errors.into_result()?;
    let directory = api.engine().directory();
    let id = search.as_deref().and_then(read_id).map(NumberId);
    let matches = |number: &&DirectoryNumber| {
        let number = &number.record;
        search.as_ref().is_none_or(|search| match id {
            Some(id) => number.id == id,
            None => number.number.to_string().contains(search),
        })
    };
    let numbers = directory.numbers_of(tenant.environment).filter(matches);
    let write = |number| wire::number(&directory, number);
    Ok(match paging {
        Some(paging) => paging.answer(numbers.collect(), write),
        None => reply::ok(numbers.map(write).collect::<Vec<_>>()),
    })
}

/// `POST /phone-numbers`: enters a number, read in its country or else in the environment's.
pub(crate) async fn create(
    State(api): State<Api>,
    tenant: Tenant,
    request: Request,
) -> Result<Response, ApiError> {
    let mut fields = read_fields(request).await?;
    let text = fields.required_text("number", MAX_NAME);
    let given = match fields.country("country_code") {
        Override::Set(country) => Some(country),
        Override::Keep | Override::Clear => None,
    };
    let tenant_rules = api.number_rules(tenant)?;
    let rules = match given {
        Some(_) => NumberRulesRef {
            country: given,
            ..tenant_rules
        },
        None => tenant_rules,
    };
    let number = match identity::read(&text, rules) {
        Caller::Number(number) => Some(number),
        Caller::Anonymous | Caller::Invalid => {
            if !text.is_empty() {
                fields
                    .errors
                    .add("number", "The number field must be a valid phone number.");
            }
            None
        }
    };
    if let (Some(number), Some(given)) = (number, given) {
        check_country(number, given, &mut fields.errors);
    }
    fields.finish().into_result()?;
    let number = number.ok_or(ApiError::Internal)?;
    let command = CreateNumber {
        environment: tenant.environment,
        number,
        country: given.or_else(|| Country::of(number)),
    };
    api.change(tenant, command, |number| {
        Ok(Answer::created(wire::number_view(number)))
    })
    .await
}

/// `PATCH /phone-numbers/{id}`: chooses the default agent; `null` leaves it to the order of
/// assignment.
pub(crate) async fn update(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
    request: Request,
) -> Result<Response, ApiError> {
    let id = path.number(&api, tenant)?;
    let mut fields = read_fields(request).await?;
    let agent = match fields.override_id("default_agent_id") {
        Override::Keep => Override::Keep,
        Override::Clear => Override::Clear,
        Override::Set(id) => Override::Set(AgentId(id)),
    };
    let command = SetDefaultAgent {
        environment: tenant.environment,
        id,
        agent,
        is_misread: fields.is_misread(),
    };
    api.change_read(tenant, command, fields.finish(), |number| {
        Ok(Answer::ok(wire::number_view(number)))
    })
    .await
}

/// `DELETE /phone-numbers/{id}`.
pub(crate) async fn delete(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
) -> Result<Response, ApiError> {
    let id = path.number(&api, tenant)?;
    let command = DeleteNumber {
        environment: tenant.environment,
        id,
    };
    api.change(tenant, command, |()| {
        Ok(Answer::done("Phone number deleted"))
    })
    .await
}

/// A country that the digits contradict is a mistake in one of the two.
fn check_country(number: E164, given: Country, errors: &mut FieldErrors) {
    let digits = number.digits().to_string();
    if !digits.starts_with(&given.calling_code().to_string()) {
        errors.add(
            "country_code",
            "The country code does not match the number.",
        );
    }
}
