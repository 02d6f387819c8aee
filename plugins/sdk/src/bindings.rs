//! What wit-bindgen makes of `wit/`. Not part of the SDK's contract: the attributes and `export_*!` reach into it.

#![allow(unsafe_code, missing_docs, unreachable_pub, elided_lifetimes_in_paths)]
#![allow(clippy::all, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

/// Everything a plugin can import, in one world. What a component does not call is dropped from its imports when it is
/// linked, so a plugin that never logs does not ask for a log.
pub mod host {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: r#"
            package portcullis:sdk;

            world host {
                import portcullis:plugin/messages@0.1.0;
                import portcullis:plugin/edits@0.1.0;
                import portcullis:plugin/log@0.1.0;
                import wasi:clocks/wall-clock@0.2.12;
                import wasi:random/random@0.2.12;
            }

            package wasi:clocks@0.2.12 {
                interface wall-clock {
                    record datetime { seconds: u64, nanoseconds: u32 }
                    now: func() -> datetime;
                    resolution: func() -> datetime;
                }
            }

            package wasi:random@0.2.12 {
                interface random {
                    get-random-bytes: func(len: u64) -> list<u8>;
                    get-random-u64: func() -> u64;
                }
            }
        "#,
        world: "portcullis:sdk/host",
        generate_all,
        pub_export_macro: true,
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
