//! `wasi:http/types`: wasmtime's own implementation behind the call budget, with four differences. A request's body that
//! was not ended is never sent as if it had been; an error of a body's stream can be asked for its code; it is known whether
//! the guest or its end let go of an answer; and what the host has to keep for all of it is bounded, see [`super::held`].

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable};
use wasmtime_wasi_http::p2::bindings::http::types;
use wasmtime_wasi_http::p2::bindings::http::types::{
    Duration, ErrorCode, FutureIncomingResponse, FutureTrailers, IncomingBody, IncomingRequest, IncomingResponse,
    IoError, Method, OutgoingBody, OutgoingRequest, OutgoingResponse, RequestOptions, ResponseOutparam, Scheme,
    StatusCode, Trailers,
};
use wasmtime_wasi_http::p2::{HeaderError, HeaderResult, HttpError, HttpResult};
use wasmtime_wasi_http::{Error, FieldMap, WasiBody, WasiHttpCtxView};

use super::failure::code_of;
use super::{headers, held};
use crate::view::{HasNet, NetParts, View};

impl NetParts<'_> {
    /// wasmtime's own implementation over the same table.
    pub(super) fn http(&mut self) -> WasiHttpCtxView<'_> {
        let http = &mut self.guest.http;
        WasiHttpCtxView { hooks: &mut http.hooks, table: self.table, ctx: &mut http.ctx }
    }

    /// Upstream bounds the bytes of fields; the map around them costs more than they do where there are many small ones.
    fn number_of_fields(&self, fields: &Fields) -> HeaderResult<()> {
        if self.table.get(fields)?.len() <= held::FIELDS_MADE {
            return Ok(());
        }
        // WASI's own errors have no word for it, as upstream found for the bytes.
        Err(HeaderError::trap(wasmtime::format_err!("more than {} header fields", held::FIELDS_MADE)))
    }

    /// For what the guest itself lets go of.
    fn let_go<R>(&mut self, with: impl FnOnce(&mut WasiHttpCtxView<'_>) -> R) -> R {
        let by_guest = Arc::clone(&self.guest.http.by_guest);
        by_guest.store(true, Ordering::Relaxed);
        let result = with(&mut self.http());
        by_guest.store(false, Ordering::Relaxed);
        result
    }
}

/// Hands methods on that only differ in their names.
macro_rules! hand_on {
    ($of:path: $(fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty;)*) => {
        $(fn $name(&mut self, $($arg: $ty),*) -> wasmtime::Result<$ret> {
            <WasiHttpCtxView<'_> as $of>::$name(&mut self.enter()?.http(), $($arg),*)
        })*
    };
}

/// The same for what makes a resource: it is counted.
macro_rules! make {
    ($of:path: $(fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty;)*) => {
        $(fn $name(&mut self, $($arg: $ty),*) -> wasmtime::Result<$ret> {
            let mut parts = self.enter()?;
            let made = <WasiHttpCtxView<'_> as $of>::$name(&mut parts.http(), $($arg),*)?;
            if made.is_made() {
                parts.guest.http.held.add()?;
            }
            Ok(made)
        })*
    };
}

/// Whether there is a resource in what a function returned.
trait Made {
    fn is_made(&self) -> bool;
}

impl<T: 'static> Made for Resource<T> {
    fn is_made(&self) -> bool {
        true
    }
}

impl<T: Made> Made for Option<T> {
    fn is_made(&self) -> bool {
        self.as_ref().is_some_and(Made::is_made)
    }
}

impl<T: Made, E> Made for Result<T, E> {
    fn is_made(&self) -> bool {
        self.as_ref().is_ok_and(Made::is_made)
    }
}

/// The same for `drop`, which the guest does not pay for: it must always be able to give something back.
macro_rules! let_go {
    ($of:path: $ty:ty) => {
        fn drop(&mut self, it: Resource<$ty>) -> wasmtime::Result<()> {
            let mut parts = self.uncounted();
            parts.let_go(|http| <WasiHttpCtxView<'_> as $of>::drop(http, it))?;
            parts.guest.http.held.remove();
            Ok(())
        }
    };
}

type Fields = Resource<FieldMap>;

impl<T: HasNet> types::Host for View<'_, T> {
    fn convert_error_code(&mut self, err: HttpError) -> wasmtime::Result<ErrorCode> {
        err.downcast()
    }

    fn convert_header_error(&mut self, err: HeaderError) -> wasmtime::Result<types::HeaderError> {
        err.downcast()
    }

    fn http_error_code(&mut self, err: Resource<IoError>) -> wasmtime::Result<Option<ErrorCode>> {
        let parts = self.enter()?;
        let error = parts.table.get(&err)?;
        let code = error.downcast_ref::<ErrorCode>().cloned();
        Ok(code.or_else(|| error.downcast_ref::<Error>().and_then(code_of)))
    }
}

impl<T: HasNet> types::HostFields for View<'_, T> {
    make! { types::HostFields:
        fn new() -> Fields;
        fn clone(fields: Fields) -> Fields;
    }

    hand_on! { types::HostFields:
        fn get(fields: Fields, name: String) -> Vec<Vec<u8>>;
        fn has(fields: Fields, name: String) -> bool;
        fn entries(fields: Fields) -> Vec<(String, Vec<u8>)>;
    }

    fn from_list(&mut self, entries: Vec<(String, Vec<u8>)>) -> HeaderResult<Fields> {
        let mut parts = self.enter().map_err(HeaderError::trap)?;
        let fields = types::HostFields::from_list(&mut parts.http(), entries)?;
        parts.guest.http.held.add()?;
        parts.number_of_fields(&fields)?;
        Ok(fields)
    }

    fn set(&mut self, fields: Fields, name: String, values: Vec<Vec<u8>>) -> HeaderResult<()> {
        let mut parts = self.enter().map_err(HeaderError::trap)?;
        types::HostFields::set(&mut parts.http(), Resource::new_borrow(fields.rep()), name, values)?;
        parts.number_of_fields(&fields)
    }

    fn delete(&mut self, fields: Fields, name: String) -> HeaderResult<()> {
        let mut parts = self.enter().map_err(HeaderError::trap)?;
        types::HostFields::delete(&mut parts.http(), fields, name)
    }

    fn append(&mut self, fields: Fields, name: String, value: Vec<u8>) -> HeaderResult<()> {
        let mut parts = self.enter().map_err(HeaderError::trap)?;
        types::HostFields::append(&mut parts.http(), Resource::new_borrow(fields.rep()), name, value)?;
        parts.number_of_fields(&fields)
    }

    let_go!(types::HostFields: FieldMap);
}

impl<T: HasNet> types::HostIncomingRequest for View<'_, T> {
    hand_on! { types::HostIncomingRequest:
        fn method(id: Resource<IncomingRequest>) -> Method;
        fn path_with_query(id: Resource<IncomingRequest>) -> Option<String>;
        fn scheme(id: Resource<IncomingRequest>) -> Option<Scheme>;
        fn authority(id: Resource<IncomingRequest>) -> Option<String>;
    }

    make! { types::HostIncomingRequest:
        fn headers(id: Resource<IncomingRequest>) -> Fields;
        fn consume(id: Resource<IncomingRequest>) -> Result<Resource<IncomingBody>, ()>;
    }

    let_go!(types::HostIncomingRequest: IncomingRequest);
}

impl<T: HasNet> types::HostOutgoingRequest for View<'_, T> {
    hand_on! { types::HostOutgoingRequest:
        // It takes the place of its fields.
        fn new(headers: Fields) -> Resource<OutgoingRequest>;
        fn method(request: Resource<OutgoingRequest>) -> Method;
        fn path_with_query(request: Resource<OutgoingRequest>) -> Option<String>;
        fn scheme(request: Resource<OutgoingRequest>) -> Option<Scheme>;
        // Upstream takes no scheme above 64 bytes.
        fn set_scheme(request: Resource<OutgoingRequest>, scheme: Option<Scheme>) -> Result<(), ()>;
        fn authority(request: Resource<OutgoingRequest>) -> Option<String>;
    }

    make! { types::HostOutgoingRequest:
        fn headers(request: Resource<OutgoingRequest>) -> Fields;
    }

    fn set_method(&mut self, request: Resource<OutgoingRequest>, method: Method) -> wasmtime::Result<Result<(), ()>> {
        let mut parts = self.enter()?;
        if matches!(&method, Method::Other(word) if word.len() > held::METHOD_BYTES) {
            return Ok(Err(()));
        }
        types::HostOutgoingRequest::set_method(&mut parts.http(), request, method)
    }

    fn set_path_with_query(
        &mut self,
        request: Resource<OutgoingRequest>,
        path: Option<String>,
    ) -> wasmtime::Result<Result<(), ()>> {
        let mut parts = self.enter()?;
        if path.as_ref().is_some_and(|path| path.len() > held::PATH_BYTES) {
            return Ok(Err(()));
        }
        types::HostOutgoingRequest::set_path_with_query(&mut parts.http(), request, path)
    }

    fn set_authority(
        &mut self,
        request: Resource<OutgoingRequest>,
        authority: Option<String>,
    ) -> wasmtime::Result<Result<(), ()>> {
        let mut parts = self.enter()?;
        if authority.as_ref().is_some_and(|authority| authority.len() > held::AUTHORITY_BYTES) {
            return Ok(Err(()));
        }
        types::HostOutgoingRequest::set_authority(&mut parts.http(), request, authority)
    }

    fn body(&mut self, request: Resource<OutgoingRequest>) -> wasmtime::Result<Result<Resource<OutgoingBody>, ()>> {
        let mut parts = self.enter()?;
        let handle = Resource::new_borrow(request.rep());
        let Ok(body) = types::HostOutgoingRequest::body(&mut parts.http(), handle)? else {
            return Ok(Err(()));
        };
        parts.guest.http.held.add()?;
        let request = parts.table.get_mut(&request)?;
        let ended = Arc::new(AtomicBool::new(false));
        let own = |inner| Ended { inner, ended: Arc::clone(&ended) }.boxed_unsync();
        request.body = request.body.take().map(own);
        parts.guest.http.bodies.push((body.rep(), ended));
        Ok(Ok(body))
    }

    let_go!(types::HostOutgoingRequest: OutgoingRequest);
}

impl<T: HasNet> types::HostOutgoingBody for View<'_, T> {
    hand_on! { types::HostOutgoingBody:
        fn write(body: Resource<OutgoingBody>) -> Result<Resource<DynOutputStream>, ()>;
    }

    fn finish(&mut self, body: Resource<OutgoingBody>, trailers: Option<Resource<Trailers>>) -> HttpResult<()> {
        let mut parts = self.enter().map_err(HttpError::trap)?;
        // Both leave the table, whatever comes of it.
        parts.guest.http.held.remove();
        let ended = parts.guest.http.forget(body.rep());
        if let Some(trailers) = &trailers {
            parts.guest.http.held.remove();
            let (bytes, fields) = held::TRAILERS;
            let given = parts.table.get(trailers)?;
            if headers::section_bytes(given) > bytes || given.len() > fields {
                parts.table.delete(Resource::<Trailers>::new_own(trailers.rep()))?;
                types::HostOutgoingBody::drop(&mut parts.http(), body).map_err(HttpError::trap)?;
                return Err(ErrorCode::HttpRequestTrailerSectionSize(u32::try_from(bytes).ok()).into());
            }
        }
        if let Some(ended) = ended {
            ended.store(true, Ordering::Release);
        }
        types::HostOutgoingBody::finish(&mut parts.http(), body, trailers)
    }

    fn drop(&mut self, body: Resource<OutgoingBody>) -> wasmtime::Result<()> {
        let mut parts = self.uncounted();
        parts.guest.http.forget(body.rep());
        parts.guest.http.held.remove();
        types::HostOutgoingBody::drop(&mut parts.http(), body)
    }
}

impl<T: HasNet> types::HostIncomingResponse for View<'_, T> {
    hand_on! { types::HostIncomingResponse:
        fn status(response: Resource<IncomingResponse>) -> StatusCode;
    }

    make! { types::HostIncomingResponse:
        fn headers(response: Resource<IncomingResponse>) -> Fields;
        fn consume(response: Resource<IncomingResponse>) -> Result<Resource<IncomingBody>, ()>;
    }

    let_go!(types::HostIncomingResponse: IncomingResponse);
}

impl<T: HasNet> types::HostIncomingBody for View<'_, T> {
    hand_on! { types::HostIncomingBody:
        fn stream(body: Resource<IncomingBody>) -> Result<Resource<DynInputStream>, ()>;
        fn finish(body: Resource<IncomingBody>) -> Resource<FutureTrailers>;
    }

    let_go!(types::HostIncomingBody: IncomingBody);
}

impl<T: HasNet> types::HostFutureTrailers for View<'_, T> {
    hand_on! { types::HostFutureTrailers:
        fn subscribe(trailers: Resource<FutureTrailers>) -> Resource<DynPollable>;
    }

    make! { types::HostFutureTrailers:
        fn get(trailers: Resource<FutureTrailers>) -> Option<Result<Result<Option<Resource<Trailers>>, ErrorCode>, ()>>;
    }

    let_go!(types::HostFutureTrailers: FutureTrailers);
}

impl<T: HasNet> types::HostFutureIncomingResponse for View<'_, T> {
    hand_on! { types::HostFutureIncomingResponse:
        fn subscribe(future: Resource<FutureIncomingResponse>) -> Resource<DynPollable>;
    }

    make! { types::HostFutureIncomingResponse:
        fn get(future: Resource<FutureIncomingResponse>)
            -> Option<Result<Result<Resource<IncomingResponse>, ErrorCode>, ()>>;
    }

    let_go!(types::HostFutureIncomingResponse: FutureIncomingResponse);
}

impl<T: HasNet> types::HostRequestOptions for View<'_, T> {
    hand_on! { types::HostRequestOptions:
        fn connect_timeout(options: Resource<RequestOptions>) -> Option<Duration>;
        fn set_connect_timeout(options: Resource<RequestOptions>, time: Option<Duration>) -> Result<(), ()>;
        fn first_byte_timeout(options: Resource<RequestOptions>) -> Option<Duration>;
        fn set_first_byte_timeout(options: Resource<RequestOptions>, time: Option<Duration>) -> Result<(), ()>;
        fn between_bytes_timeout(options: Resource<RequestOptions>) -> Option<Duration>;
        fn set_between_bytes_timeout(options: Resource<RequestOptions>, time: Option<Duration>) -> Result<(), ()>;
    }

    make! { types::HostRequestOptions:
        fn new() -> Resource<RequestOptions>;
    }

    let_go!(types::HostRequestOptions: RequestOptions);
}

// What only a server needs: nothing makes such a resource here but the guest itself, for itself.

impl<T: HasNet> types::HostResponseOutparam for View<'_, T> {
    hand_on! { types::HostResponseOutparam:
        fn set(param: Resource<ResponseOutparam>, response: Result<Resource<OutgoingResponse>, ErrorCode>) -> ();
    }

    fn send_informational(&mut self, id: Resource<ResponseOutparam>, status: u16, headers: Fields) -> HttpResult<()> {
        let mut parts = self.enter().map_err(HttpError::trap)?;
        types::HostResponseOutparam::send_informational(&mut parts.http(), id, status, headers)
    }

    let_go!(types::HostResponseOutparam: ResponseOutparam);
}

impl<T: HasNet> types::HostOutgoingResponse for View<'_, T> {
    hand_on! { types::HostOutgoingResponse:
        fn new(headers: Fields) -> Resource<OutgoingResponse>;
        fn status_code(response: Resource<OutgoingResponse>) -> StatusCode;
        fn set_status_code(response: Resource<OutgoingResponse>, status: StatusCode) -> Result<(), ()>;
    }

    make! { types::HostOutgoingResponse:
        fn body(response: Resource<OutgoingResponse>) -> Result<Resource<OutgoingBody>, ()>;
        fn headers(response: Resource<OutgoingResponse>) -> Fields;
    }

    let_go!(types::HostOutgoingResponse: OutgoingResponse);
}

/// A guest's body that ends only when the guest said so. wasmtime's ends too when the guest's store goes away, and the server
/// would take the half of a chunked request for all of it.
struct Ended {
    inner: WasiBody,
    ended: Arc<AtomicBool>,
}

impl Body for Ended {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            None if !self.ended.load(Ordering::Acquire) => Poll::Ready(Some(Err(Error::HttpProtocolError))),
            frame => Poll::Ready(frame),
        }
    }
}
