//! `POST /reload`: has the program that embeds the API read its configuration again.

use axum::extract::State;
use axum::response::Response;
use ringback_api::Reloaded;
use tokio::sync::oneshot;

use crate::api::Api;
use crate::error::ApiError;
use crate::reply;

/// A reload that somebody asks for, and waits for.
#[derive(Debug)]
pub struct ReloadRequest {
    /// Where the answer goes.
    answer: oneshot::Sender<Result<Reloaded, Vec<String>>>,
}

impl ReloadRequest {
    /// Says what became of it: what is in force now, or every fault of the configuration.
    pub fn answer(self, result: Result<Reloaded, Vec<String>>) {
        // Whoever asked may have gone.
        let _gone = self.answer.send(result);
    }
}

/// `POST /reload`.
pub(crate) async fn reload(State(api): State<Api>) -> Result<Response, ApiError> {
    let requests = api.reloads().ok_or(ApiError::NoSuchPath)?;
    let (answer, answered) = oneshot::channel();
    requests
        .send(ReloadRequest { answer })
        .await
        .map_err(|_gone| ApiError::ShuttingDown)?;
    match answered.await {
        Ok(Ok(reloaded)) => Ok(reply::ok(reloaded)),
        Ok(Err(faults)) => Err(ApiError::ConfigurationRefused(faults)),
        Err(_gone) => Err(ApiError::ShuttingDown),
    }
}
