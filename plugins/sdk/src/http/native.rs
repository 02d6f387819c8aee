//! On the host there is no network for a plugin: a test says what is answered.

use super::url::Url;
use super::{Request, Response};
use crate::error::Error;

pub(super) fn send(request: &Request, _: &Url<'_>) -> Result<Response, Error> {
    let response = test::answer(request)?;
    if response.body.len() > request.max_body_bytes {
        return Err(Error::new("HTTP-response-body-size", "body"));
    }
    Ok(response)
}

/// For tests only: a component's requests go to the host.
impl Response {
    /// A response with this status, without headers.
    pub fn of(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// The other side of a plugin's requests in `cargo test`.
pub mod test {
    use std::cell::RefCell;

    use super::{Error, Request, Response};

    type Server = Box<dyn FnMut(&Request) -> Result<Response, Error>>;

    std::thread_local!(static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) });

    /// Answers every later request of this thread, and so of this test, by the function.
    pub fn respond(server: impl FnMut(&Request) -> Result<Response, Error> + 'static) {
        SERVER.set(Some(Box::new(server)));
    }

    pub(super) fn answer(request: &Request) -> Result<Response, Error> {
        // Taken out for the call, so that a server which sends a request itself gets an error and not a panic.
        let Some(mut server) = SERVER.take() else {
            return Err(Error::new("internal-error", "handle")
                .with_detail("a test has no network: say what is answered with http::test::respond"));
        };
        let response = server(request);
        SERVER.set(Some(server));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::super::get;
    use super::*;

    #[test]
    fn a_request_without_a_server_is_an_error_and_not_a_connection() {
        let error = get("https://api.example.com/").unwrap_err();
        assert_eq!((error.code(), error.at()), ("internal-error", "handle"));
    }

    #[test]
    fn the_server_of_a_test_sees_the_request_and_answers_it() {
        test::respond(|request| {
            let known = request.url().ends_with("/known") && request.method() == "PUT";
            let known = known && request.headers() == [("x".to_owned(), b"y".to_vec())];
            Ok(Response::of(if known { 200 } else { 404 }, "[1, 2]").with_header("Content-Type", "application/json"))
        });
        let request = Request::new("PUT", "https://a.test/known").header("x", "y").body("b").timeout_ms(5);
        let response = request.send().unwrap();
        assert!(response.is_success());
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(response.json::<Vec<u8>>().unwrap(), [1, 2]);
        assert_eq!(get("https://a.test/other").unwrap().status(), 404);
        assert_eq!(request.max_body_bytes(5).send().unwrap_err().code(), "HTTP-response-body-size");
    }
}
