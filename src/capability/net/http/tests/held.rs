//! What a guest can make the host hold.

use wasmtime::component::ResourceTableError;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::{
    ErrorCode, HostFields, HostFutureIncomingResponse, HostOutgoingBody, HostOutgoingRequest, Method,
};

use super::server::{Server, Step, text};
use super::wasi::{begun, borrow, data, request};
use super::*;
use crate::view::View;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_is_too_long_is_refused_by_its_setter_and_the_one_before_stays() {
    let server = Server::start(|_| text("never")).await;
    let (_, bench) = Client::to(&server);
    let mut data = data(&bench);
    let request = request(&mut data, &server);
    let mut view = View::of(&mut data);
    for (bytes, is_taken) in [(32, true), (33, false), (4 << 20, false)] {
        let set = view.set_method(borrow(&request), Method::Other("A".repeat(bytes))).unwrap();
        assert_eq!(set.is_ok(), is_taken, "{bytes}");
    }
    for (bytes, is_taken) in [(512, true), (513, false), (60_000, false)] {
        let set = view.set_authority(borrow(&request), Some("a".repeat(bytes))).unwrap();
        assert_eq!(set.is_ok(), is_taken, "{bytes}");
    }
    for (bytes, is_taken) in [(8 << 10, true), ((8 << 10) + 1, false), (60_000, false)] {
        let path = format!("/{}", "a".repeat(bytes - 1));
        assert_eq!(view.set_path_with_query(borrow(&request), Some(path)).unwrap().is_ok(), is_taken, "{bytes}");
    }
    let scheme = "a".repeat(65);
    let other = wasmtime_wasi_http::p2::bindings::http::types::Scheme::Other(scheme);
    assert!(view.set_scheme(borrow(&request), Some(other)).unwrap().is_err());
    let kept = view.authority(borrow(&request)).unwrap().unwrap();
    assert_eq!(kept.len(), 512);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_are_bounded_in_number_by_whatever_call_they_come() {
    let server = Server::start(|_| text("never")).await;
    let (_, bench) = Client::to(&server);
    let mut data = data(&bench);
    let mut view = View::of(&mut data);
    let many = |count: usize| (0..count).map(|number| (format!("x-{number}"), Vec::new())).collect::<Vec<_>>();
    assert!(view.from_list(many(256)).is_ok());
    let trap = view.from_list(many(257)).unwrap_err();
    assert!(trap.downcast_ref().is_none(), "no error that the guest can go on from");
    let fields = HostFields::new(&mut view).unwrap();
    assert!(HostFields::set(&mut view, borrow(&fields), "x".into(), vec![Vec::new(); 256]).is_ok());
    assert!(HostFields::append(&mut view, borrow(&fields), "y".into(), Vec::new()).is_err());
    let fields = HostFields::new(&mut view).unwrap();
    assert!(HostFields::set(&mut view, borrow(&fields), "x".into(), vec![Vec::new(); 257]).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_resources_of_an_instance_are_bounded_and_what_is_given_back_makes_room() {
    let server = Server::start(|_| text("never")).await;
    let (_, bench) = Client::to(&server);
    let mut data = data(&bench);
    for _ in 0..100 {
        let request = request(&mut data, &server);
        HostOutgoingRequest::drop(&mut View::of(&mut data), request).unwrap();
    }
    assert_eq!(data.guest.http.held.live(), 0);
    let mut view = View::of(&mut data);
    // A thousand handles: 64 of them may be HTTP's.
    let first = HostFields::new(&mut view).unwrap();
    for _ in 0..63 {
        HostFields::clone(&mut view, borrow(&first)).unwrap();
    }
    let full = HostFields::new(&mut view).unwrap_err();
    assert!(matches!(full.downcast_ref(), Some(ResourceTableError::Full)), "{full:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_nobody_sends_takes_two_chunks_and_no_more() {
    let server = Server::start(|_| text("never")).await;
    let (_, bench) = Client::to(&server);
    let mut data = data(&bench);
    let request = request(&mut data, &server);
    let mut view = View::of(&mut data);
    let body = HostOutgoingRequest::body(&mut view, borrow(&request)).unwrap().unwrap();
    let stream = view.write(borrow(&body)).unwrap().unwrap();
    let stream = data.table.get_mut(&stream).unwrap();
    let mut taken = 0;
    loop {
        let room = stream.check_write().unwrap();
        if room == 0 {
            break;
        }
        stream.write(vec![b'x'; room].into()).unwrap();
        taken += room;
    }
    assert_eq!(taken, 64 << 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_that_are_too_large_end_the_request_and_it_is_not_sent_as_a_whole() {
    let server = Server::start(|_| vec![Step::Wait]).await;
    let (client, bench) = Client::to(&server);
    let mut data = data(&bench);
    for trailers in [vec![("x".to_owned(), vec![b'y'; 5000])], vec![("x".to_owned(), Vec::new()); 17]] {
        let (request, body) = begun(&mut data, &server);
        let mut view = View::of(&mut data);
        let trailers = view.from_list(trailers).unwrap();
        let future = view.handle(request, None).unwrap();
        let refused = HostOutgoingBody::finish(&mut view, body, Some(trailers)).unwrap_err().downcast().unwrap();
        assert!(matches!(refused, ErrorCode::HttpRequestTrailerSectionSize(Some(4096))), "{refused:?}");
        HostFutureIncomingResponse::drop(&mut view, future).unwrap();
        client.no_connection_is_left().await;
    }
    assert!(data.table.is_empty() && data.guest.http.bodies.is_empty());
    assert_eq!(data.guest.http.held.live(), 0);
    assert!(server.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_of_a_request_is_short_whatever_its_method_and_path() {
    let server = Server::start(|_| text("never")).await;
    let (client, bench) = Client::to(&server);
    let mut outgoing = get(server.address, &format!("/{}", "a".repeat(1 << 20)));
    outgoing.method = "\u{e9}".repeat(1 << 20);
    client.send(outgoing).await.unwrap_err();
    let told = bench.full();
    assert_eq!(told.len(), 1);
    assert!(told[0].to_string().len() < 4 << 10, "{} bytes", told[0].to_string().len());
}
