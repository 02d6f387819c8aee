//! `wasi:http/outgoing-handler`. Our own, because wasmtime's refuses some requests before its hook is asked, and what is
//! refused must be decided and recorded in one place.

use wasmtime::component::Resource;
use wasmtime_wasi::runtime::spawn;
use wasmtime_wasi_http::RequestOptions;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host;
use wasmtime_wasi_http::p2::bindings::http::types::{FutureIncomingResponse, Method, OutgoingRequest, Scheme};
use wasmtime_wasi_http::p2::types::HostFutureIncomingResponse;
use wasmtime_wasi_http::p2::{HttpError, HttpResult};

use super::sender::Outgoing;
use crate::view::{HasNet, View};

impl<T: HasNet> Host for View<'_, T> {
    fn handle(
        &mut self,
        request: Resource<OutgoingRequest>,
        options: Option<Resource<RequestOptions>>,
    ) -> HttpResult<Resource<FutureIncomingResponse>> {
        let parts = self.enter().map_err(HttpError::trap)?;
        // Both were given away by the guest: they must not stay in its table.
        let options = match options {
            Some(options) => {
                parts.guest.http.held.remove();
                parts.table.delete(options)?
            }
            None => RequestOptions::default(),
        };
        let request = parts.table.delete(request)?;
        parts.guest.http.held.remove();
        let outgoing = Outgoing {
            method: method(request.method),
            scheme: scheme(request.scheme),
            // None is decided as what it is: a request without a host.
            authority: request.authority.unwrap_or_default(),
            path: request.path_with_query.unwrap_or_default(),
            headers: request.headers.into(),
            body: request.body,
        };
        let guest = parts.guest;
        let job = guest.http.ask(&guest.gate, outgoing, options).map_err(|failure| failure.code.p2())?;
        let answer = spawn(async move {
            match Box::pin(job.run()).await {
                // Nothing has to be driven beside the answer: its connection has a task of its own.
                Ok(answer) => Ok((answer, spawn(std::future::ready(())))),
                Err(failure) => Err(failure.code.error()),
            }
        });
        let future = parts.table.push(HostFutureIncomingResponse::Pending(answer))?;
        guest.http.held.add()?;
        Ok(future)
    }
}

fn method(method: Method) -> String {
    let word = match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(word) => return word,
    };
    word.to_owned()
}

fn scheme(scheme: Option<Scheme>) -> String {
    match scheme {
        Some(Scheme::Http) => "http".to_owned(),
        // As WASI's own implementation has it.
        Some(Scheme::Https) | None => "https".to_owned(),
        Some(Scheme::Other(word)) => word,
    }
}
