//! What wit-bindgen makes of `wit/` of the repository and of the SDK. Not part of the SDK's contract: the attributes and `export_*!` reach into it.

#![allow(unsafe_code, missing_docs, unreachable_pub, elided_lifetimes_in_paths)]
#![allow(clippy::all, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

/// What any plugin can import. What a component does not call is dropped from its imports when it is linked, so a plugin that never
/// logs does not ask for a log; this holds for the worlds below as well.
pub mod host {
    wit_bindgen::generate!({
        path: ["../../wit", "wit"],
        world: "portcullis:sdk/host",
        generate_all,
        pub_export_macro: true,
    });
}

/// Streams and waiting, which sockets and HTTP share.
#[cfg(any(feature = "http", feature = "net"))]
pub mod io {
    wit_bindgen::generate!({
        path: ["../../wit", "wit"],
        world: "portcullis:sdk/io",
        generate_all,
    });
}

/// `wasi:sockets`.
#[cfg(feature = "net")]
pub mod net {
    wit_bindgen::generate!({
        path: ["../../wit", "wit"],
        world: "portcullis:sdk/net",
        with: {
            "wasi:io/error@0.2.12": crate::bindings::io::wasi::io::error,
            "wasi:io/poll@0.2.12": crate::bindings::io::wasi::io::poll,
            "wasi:io/streams@0.2.12": crate::bindings::io::wasi::io::streams,
            "wasi:clocks/monotonic-clock@0.2.12": crate::bindings::io::wasi::clocks::monotonic_clock,
        },
        generate_all,
    });
}

/// `wasi:http`, outgoing.
#[cfg(feature = "http")]
pub mod http {
    wit_bindgen::generate!({
        path: ["../../wit", "wit"],
        world: "portcullis:sdk/http",
        with: {
            "wasi:io/error@0.2.12": crate::bindings::io::wasi::io::error,
            "wasi:io/poll@0.2.12": crate::bindings::io::wasi::io::poll,
            "wasi:io/streams@0.2.12": crate::bindings::io::wasi::io::streams,
            "wasi:clocks/monotonic-clock@0.2.12": crate::bindings::io::wasi::clocks::monotonic_clock,
        },
        generate_all,
    });
}

/// The exports of a validator.
pub mod validator {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "portcullis:plugin/validator",
        with: { "portcullis:plugin/messages@0.1.0": crate::bindings::host::portcullis::plugin::messages },
        pub_export_macro: true,
        default_bindings_module: "portcullis_plugin::bindings::validator",
    });
}

/// The exports of an enricher.
pub mod enricher {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "portcullis:plugin/enricher",
        with: {
            "portcullis:plugin/messages@0.1.0": crate::bindings::host::portcullis::plugin::messages,
            "portcullis:plugin/edits@0.1.0": crate::bindings::host::portcullis::plugin::edits,
        },
        pub_export_macro: true,
        default_bindings_module: "portcullis_plugin::bindings::enricher",
    });
}

/// What `wasi:http` calls its codes.
#[cfg(feature = "http")]
pub use crate::http::codes::name as http_code_name;
#[cfg(feature = "net")]
pub use crate::net::convert;
