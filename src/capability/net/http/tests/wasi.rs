//! Through WASI's own functions, as a guest calls them.

use std::sync::atomic::AtomicU32;

use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::p2::Pollable;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::{
    ErrorCode, HostFields, HostFutureIncomingResponse, HostIncomingBody, HostIncomingResponse, HostOutgoingBody,
    HostOutgoingRequest, HostRequestOptions, Method, OutgoingBody, OutgoingRequest, Scheme,
};

use super::server::{Server, Step, text};
use super::*;
use crate::NetGuest;
use crate::view::{HasNet, NetParts, View};

/// A store's data.
pub(super) struct Data {
    pub(super) guest: NetGuest,
    pub(super) table: ResourceTable,
    calls: AtomicU32,
}

impl HasNet for Data {
    fn net(&mut self) -> NetParts<'_> {
        NetParts { guest: &mut self.guest, table: &mut self.table }
    }

    fn charge(&mut self) -> wasmtime::Result<()> {
        *self.calls.get_mut() += 1;
        wasmtime::ensure!(*self.calls.get_mut() <= 1000, "host.calls");
        Ok(())
    }
}

pub(super) fn data(bench: &Bench) -> Data {
    let guest = NetGuest::new(Some(Arc::clone(&bench.egress)));
    Data { guest, table: ResourceTable::new(), calls: AtomicU32::new(0) }
}

pub(super) fn borrow<T: 'static>(of: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(of.rep())
}

pub(super) fn request(data: &mut Data, server: &Server) -> Resource<OutgoingRequest> {
    let mut view = View::of(data);
    let fields = HostFields::new(&mut view).unwrap();
    let request = HostOutgoingRequest::new(&mut view, fields).unwrap();
    view.set_scheme(borrow(&request), Some(Scheme::Http)).unwrap().unwrap();
    view.set_authority(borrow(&request), Some(server.address.to_string())).unwrap().unwrap();
    request
}

/// A request with a body that the guest has still to end.
pub(super) fn begun(data: &mut Data, server: &Server) -> (Resource<OutgoingRequest>, Resource<OutgoingBody>) {
    let request = request(data, server);
    let mut view = View::of(data);
    view.set_method(borrow(&request), Method::Post).unwrap().unwrap();
    let body = HostOutgoingRequest::body(&mut view, borrow(&request)).unwrap().unwrap();
    let stream = view.write(borrow(&body)).unwrap().unwrap();
    data.table.get_mut(&stream).unwrap().write(Bytes::from_static(b"half of it")).unwrap();
    data.table.delete(stream).unwrap();
    (request, body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_sends_a_request_and_reads_its_answer_and_leaves_nothing_in_its_table() {
    let server = Server::start(|_| text("ok")).await;
    let (_, bench) = Client::to(&server);
    let mut data = data(&bench);
    let (request, body) = begun(&mut data, &server);
    let mut view = View::of(&mut data);
    let options = HostRequestOptions::new(&mut view).unwrap();
    let future = view.handle(request, Some(options)).unwrap();
    HostOutgoingBody::finish(&mut view, body, None).unwrap();
    data.table.get_mut(&future).unwrap().ready().await;
    let mut view = View::of(&mut data);
    let answer = HostFutureIncomingResponse::get(&mut view, borrow(&future)).unwrap().unwrap().unwrap().unwrap();
    assert_eq!(view.status(borrow(&answer)).unwrap(), 200);
    let body = view.consume(borrow(&answer)).unwrap().unwrap();
    let stream = HostIncomingBody::stream(&mut view, borrow(&body)).unwrap().unwrap();
    let stream_ref = data.table.get_mut(&stream).unwrap();
    stream_ref.ready().await;
    assert_eq!(stream_ref.read(100).unwrap(), "ok");
    data.table.delete(stream).unwrap();
    let mut view = View::of(&mut data);
    HostIncomingBody::drop(&mut view, body).unwrap();
    HostIncomingResponse::drop(&mut view, answer).unwrap();
    HostFutureIncomingResponse::drop(&mut view, future).unwrap();
    assert!(data.table.is_empty());
    assert!(data.guest.http.bodies.is_empty());
    assert_eq!(data.guest.http.held.live(), 0, "each resource that was counted has gone");
    assert!(*data.calls.get_mut() > 10, "each call was charged");
    assert!(server.requests()[0].ends_with("A\r\nhalf of it\r\n0\r\n\r\n"), "{:?}", server.requests());
    assert_eq!(bench.events(), ["http.allowed", "http.request"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_body_of_an_instance_that_went_away_is_never_sent_as_all_of_it() {
    let server = Server::start(|_| text("never")).await;
    let (client, bench) = Client::to(&server);
    let mut data = data(&bench);
    let (request, body) = begun(&mut data, &server);
    let future = View::of(&mut data).handle(request, None).unwrap();
    until("the connection is there", || server.accepted() == 1).await;
    // What a store's end does to the body, while the request itself still lives.
    drop(data.table.delete(body).unwrap());
    data.table.get_mut(&future).unwrap().ready().await;
    let answer = HostFutureIncomingResponse::get(&mut View::of(&mut data), borrow(&future)).unwrap().unwrap().unwrap();
    assert!(matches!(answer, Err(ErrorCode::HttpProtocolError)), "{answer:?}");
    client.no_connection_is_left().await;
    assert!(server.requests().is_empty());
    assert_eq!(bench.events(), ["http.allowed", "http.request http.framing"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_an_instance_ends_its_requests() {
    let server = Server::start(|_| vec![Step::Wait]).await;
    let (client, bench) = Client::to(&server);
    let mut data = data(&bench);
    let request = request(&mut data, &server);
    View::of(&mut data).handle(request, None).unwrap();
    until("the request is there", || server.requests().len() == 1).await;
    drop(data);
    client.no_connection_is_left().await;
    bench.await_event("time.total");
    assert_eq!(bench.events(), ["http.allowed", "http.request time.total"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_wasmtime_would_refuse_by_itself_is_decided_and_recorded_here() {
    let server = Server::start(|_| text("never")).await;
    let (_, bench) = Client::to(&server);
    let mut data = data(&bench);
    let other = Some(Scheme::Other("ftp".to_owned()));
    for (scheme, authority, code, event) in [
        (other, Some("ok.test".to_owned()), ErrorCode::HttpRequestDenied, "http.denied rule.scheme"),
        (Some(Scheme::Http), None, ErrorCode::HttpRequestUriInvalid, "http.denied name.invalid"),
    ] {
        let request = request(&mut data, &server);
        let mut view = View::of(&mut data);
        view.set_scheme(borrow(&request), scheme).unwrap().unwrap();
        view.set_authority(borrow(&request), authority).unwrap().unwrap();
        let refused = view.handle(request, None).unwrap_err().downcast().unwrap();
        assert_eq!(format!("{refused:?}"), format!("{code:?}"));
        assert_eq!(bench.events().last().unwrap(), event);
    }
    assert_eq!(bench.events().len(), 2);
    assert!(data.table.is_empty(), "a refused request is gone");
    assert_eq!(data.guest.http.held.live(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setter_refuses_the_headers_of_the_host() {
    let server = Server::start(|_| text("never")).await;
    let (_, bench) = Client::to(&server);
    let mut data = data(&bench);
    let mut view = View::of(&mut data);
    let fields = HostFields::new(&mut view).unwrap();
    for name in ["Host", "connection", "upgrade", "transfer-encoding", "te"] {
        assert!(HostFields::append(&mut view, borrow(&fields), name.to_owned(), b"x".to_vec()).is_err(), "{name}");
    }
    let flood = (0..2000).try_for_each(|_| HostFields::append(&mut view, borrow(&fields), "x".into(), vec![b'y'; 50]));
    assert!(flood.is_err());
}
